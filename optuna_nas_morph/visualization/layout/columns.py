"""Where a tall drawing is broken into columns, like a text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

ASPECT = 1.5
"""Width over height that a drawing of several columns tends to."""
CUT = 0.12
"""What an edge that is cut costs, where a column of twice the mean height costs 1."""


def column_starts(heights: Sequence[float], n_cut: Sequence[int], width: float, max_height: float) -> list[int]:
    """First layer of each column: columns of about equal height, cut where few edges are.

    The fewest columns that are not above ``max_height``, or, where they would make the drawing much wider than high,
    fewer; then by dynamic programming those with the least ``sum of (height / mean - 1)^2 + CUT * (edges cut)``.

    Args:
        heights:
            Of the layers, with the gap below each.
        n_cut:
            Edges from each layer to the next.
        width:
            Of a column, roughly.
        max_height:
            Above this, a drawing is broken.
    """
    if not heights:
        return []
    total = float(sum(heights))
    n_columns = min(len(heights), math.ceil(total / max(max_height, math.sqrt(total * width / ASPECT))))
    ends = np.concatenate([[0.0], np.cumsum(heights)])

    def cost(first: int, last: int) -> float:
        cut = CUT * n_cut[last - 1] if last < len(heights) else 0.0
        return float(((ends[last] - ends[first]) * n_columns / total - 1) ** 2) + cut

    # Per number of columns and number of layers in them: the least cost, and where the last of the columns starts.
    tables: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for _ in range(n_columns):
        tables.append(
            {
                last: min((c + cost(first, last), first) for first, (c, _) in tables[-1].items() if first < last)
                for last in range(len(tables), len(heights) + 1)
            }
        )
    starts, last = [], len(heights)
    for table in reversed(tables[1:]):
        last = table[last][1]
        starts.append(last)
    return starts[::-1]
