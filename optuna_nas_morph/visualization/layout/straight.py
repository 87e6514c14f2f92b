"""Coordinates that keep the edges of a layered drawing straight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

STRAIGHT = (4.0, 1.0, 8.0)
"""Weight of a segment by how many of its ends are dummies: where something is skipped, the skip gives way."""


def straightened(
    rows: Sequence[Sequence[int]],
    widths: Sequence[float],
    segments: Sequence[tuple[int, int]],
    gap: float,
    n_nodes: int,
) -> Mapping[int, float]:
    """X of every node in ``rows``, orders kept, that minimise the sum of ``weight * |x_u - x_v|`` over the segments.

    The linear program of Gansner et al. (IEEE Trans. Software Eng. 19, 1993, section 4.2), who solve it by network
    simplex.

    Args:
        rows:
            Per layer, nodes and dummies from left to right.
        widths:
            Of every node and dummy.
        segments:
            Pairs of nodes in ``rows``.
        gap:
            Least distance of boxes side by side.
        n_nodes:
            From this number up they are dummies.
    """
    place = {node: p for p, node in enumerate(node for row in rows for node in row)}
    n, m = len(place), len(segments)
    entries: list[tuple[int, int, float]] = []  # of the matrix A in A x <= b
    b: list[float] = []
    for row in rows:
        for left, right in pairwise(row):
            entries += [(len(b), place[left], 1.0), (len(b), place[right], -1.0)]
            b.append(-((widths[left] + widths[right]) / 2 + gap))
    for k, (u, v) in enumerate(segments):  # |x_u - x_v| <= t_k
        for sign in (1.0, -1.0):
            entries += [(len(b), place[u], sign), (len(b), place[v], -sign), (len(b), n + k, -1.0)]
            b.append(0.0)
    if not b:
        return {node: widths[node] / 2 for node in place}
    i, j, values = zip(*entries, strict=True)
    result = linprog(
        np.array([0.0] * n + [STRAIGHT[(u >= n_nodes) + (v >= n_nodes)] for u, v in segments]),
        A_ub=coo_array((values, (i, j)), shape=(len(b), n + m)).tocsr(),
        b_ub=b,
        bounds=[(widths[node] / 2, None) for node in place] + [(0.0, None)] * m,
        method="highs",
    )
    if result.x is None:
        raise RuntimeError(f"no coordinates were found: {result.message}")
    return {node: float(result.x[p]) for node, p in place.items()}
