"""A family tree with a place for everything: what `plot_lineage` and `lineage_to_svg` draw."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_nas_morph import lineage
from optuna_nas_morph.visualization.layout import Point, Route, forest_layout
from optuna_nas_morph.visualization.layout.curves import joined, line, s_curve
from optuna_nas_morph.visualization.states import Ranks, State, ranks_of, state_of
from optuna_nas_morph.visualization.trials import (
    Target,
    best_of,
    check_target,
    details_of,
    last_value_of,
    minimises,
    value_of,
)
from optuna_nas_morph.visualization.words import morphisms_text, value_text

_logger = logging.getLogger(__name__)

LETTER = 5.4
"""Width of a letter of the labels, in pixels."""
LABEL = 11.5
"""Height of a label."""
SHIFT = LABEL * 0.7
"""How far labels stand above and below the line to a trial."""
ROW = 28.0
"""Distance of the rows of a small tree; of a large one it is less, so that the tree is about `HEIGHT` high."""
HEIGHT = 760.0
MIN_ROW = 8.0
WIDTH = 1240.0
"""Where a tree would be wider, labels are cut short, down to `MIN_GAP` from generation to generation."""
MIN_GAP = 44.0
BEND = 18.0
"""Width of the curve with which an edge leaves its parent."""
VALUE = 38.0
"""Room for a value."""
RADIUS = 6.0
STAGGER = 13.0
"""Distance of childless siblings side by side, where they are too many to stand below each other."""


@dataclass(frozen=True)
class TreeNode:
    """One trial of a family tree.

    Attributes:
        number:
            Of the trial.
        parent:
            Number of its parent, if it has one in the tree.
        at:
            Where it is, in pixels from the upper left corner.
        route:
            The way from its parent.
        state:
            What became of it.
        share:
            How good it is, from 0 for the worst to 1 for the best, if it has a value.
        value:
            Its value, where there is room to write it.
        morphisms:
            What it did to its parent's architecture, where there is room to write it.
        details:
            All about it.
        of_best:
            Whether the best trial descends from it or is it.
    """

    number: int
    parent: int | None
    at: Point
    route: Route | None
    state: State
    share: float | None
    value: str
    morphisms: str
    details: tuple[str, ...]
    of_best: bool


@dataclass(frozen=True)
class LineageInfo:
    """A family tree with a place for everything.

    Attributes:
        nodes:
            In the order of their numbers.
        best:
            Number of the best trial, if there is one.
        ranks:
            Values and the places on the colour scale.
        caption:
            How many trials of each state there are.
        target_name:
            What values are.
        width:
            In pixels.
        height:
            Likewise.
    """

    nodes: tuple[TreeNode, ...]
    best: int | None
    ranks: Ranks
    caption: str
    target_name: str
    width: float
    height: float


def get_lineage_info(study: Study, target: Target | None, target_name: str) -> LineageInfo:
    """What a family tree shows, and where.

    Raises:
        ValueError: If the study has several objectives and ``target`` is left out.
    """
    check_target(study, target)
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if lineage.steps_of(t) is not None}
    if not trials:
        _logger.warning("There are no trials with a lineage.")
    parents: dict[int, int | None] = {}
    for number, trial in trials.items():
        parent = trial.user_attrs.get(lineage.PARENT)
        parents[number] = parent if parent in parents else None

    values = {n: value_of(t, target) for n, t in trials.items()}
    if target is None:
        values = {n: last_value_of(t) if values[n] is None else values[n] for n, t in trials.items()}
    # Of what a target returns, it is not known which values are better.
    ranks = ranks_of(list(values.values()), minimise=target is None and minimises(study))
    best = best_of(study, list(trials.values())) if target is None else None
    of_best: list[int] = []
    ancestor = None if best is None else best.number
    while ancestor is not None:
        of_best.append(ancestor)
        ancestor = parents[ancestor]

    above = {
        n: morphisms_text(t.user_attrs.get(lineage.MORPHISMS, [])) for n, t in trials.items() if parents[n] is not None
    }
    below = {n: value_text(value) for n, value in values.items() if value is not None}
    tree = _tree(parents, above, below, eager=sorted(trials, key=lambda n: (n not in of_best, n)), n_eager=len(of_best))
    nodes = tuple(
        TreeNode(
            n,
            parents[n],
            tree.at[n],
            None if (parent := parents[n]) is None else _route(tree.at[parent], tree.at[n]),
            state_of(trial),
            share,
            tree.below.get(n, ""),
            tree.above.get(n, ""),
            tuple(_details(trial, target, target_name)),
            n in of_best,
        )
        for (n, trial), share in zip(trials.items(), ranks.shares, strict=True)
    )
    width = max((x for x, _ in tree.at.values()), default=0.0) + 2 * RADIUS
    height = max((y for _, y in tree.at.values()), default=0.0)
    return LineageInfo(
        nodes, None if best is None else best.number, ranks, _caption(nodes, best), target_name, width, height
    )


# Places.


@dataclass(frozen=True)
class _Tree:
    """Where trials go, and which labels are written above and below the lines that lead to them."""

    at: Mapping[int, Point]
    above: Mapping[int, str]
    below: Mapping[int, str]


def _tree(
    parents: Mapping[int, int | None],
    above: Mapping[int, str],
    below: Mapping[int, str],
    eager: Sequence[int],
    n_eager: int,
) -> _Tree:
    """Place trials, and the labels that there is room for.

    Args:
        parents:
            Per trial, its parent.
        above:
            Labels by trial.
        below:
            Likewise.
        eager:
            Trials in the order in which they get their labels.
        n_eager:
            The first of them, which get theirs in a dense tree too.
    """
    places, beside = _places(parents)
    step = max(MIN_ROW, min(ROW, HEIGHT / (1 + max((row for _, row in places.values()), default=0.0))))
    dense = step < LABEL
    kept: dict[int, list[float]] = {}
    written: tuple[dict[int, str], dict[int, str]] = {}, {}
    for some in (eager[:n_eager], [] if dense else eager[n_eager:]):
        for labels, result, shift in zip((above, below), written, (-SHIFT, SHIFT), strict=True):
            for n in (n for n in some if n in labels):
                depth, y = places[n][0], places[n][1] * step + shift
                if all(abs(y - other) >= LABEL for other in kept.setdefault(depth, [])):
                    kept[depth].append(y)
                    result[n] = labels[n]

    n_beside = {places[n][0]: max(beside.values()) for n in beside}
    needed = [VALUE + BEND + 2 * RADIUS] * max((depth for depth, _ in places.values()), default=0)
    for n, text in written[0].items():
        gap = places[n][0] - 1
        needed[gap] = max(needed[gap], LETTER * len(text) + BEND + 2 * RADIUS)
    xs = _columns(needed, n_beside)
    at = {n: (xs[depth] + STAGGER * beside.get(n, 0), row * step) for n, (depth, row) in places.items()}
    room = {n: at[n][0] - at[p][0] - BEND - 2 * RADIUS for n, p in parents.items() if p is not None}
    return _Tree(at, {n: _cut(text, room[n]) for n, text in written[0].items()}, written[1])


def _columns(needed: Sequence[float], n_beside: Mapping[int, int]) -> list[float]:
    """The x of each generation, given what labels need between it and the one before, unless that is too much."""
    most = max(needed, default=0.0)
    while sum(min(gap, most) for gap in needed) > WIDTH and most > MIN_GAP:
        most -= 1.0
    gaps = [min(gap, most) + STAGGER * n_beside.get(depth, 0) for depth, gap in enumerate(needed)]
    return [VALUE + x for x in accumulate(gaps, initial=0.0)]


def _places(parents: Mapping[int, int | None]) -> tuple[dict[int, tuple[int, float]], dict[int, int]]:
    """Depth and row of every trial; and of those that stand side by side because the tree is large, which one it is."""
    places = forest_layout(parents)
    if max((row for _, row in places.values()), default=0.0) * MIN_ROW <= HEIGHT:
        return places, {}
    heirs: dict[int | None, list[int]] = {}
    with_heirs = {parent for parent in parents.values() if parent is not None}
    for n, parent in parents.items():
        if n not in with_heirs:
            heirs.setdefault(parent, []).append(n)
    staggered = {n: i % 3 for family in heirs.values() if len(family) > 5 for i, n in enumerate(family)}
    return forest_layout(parents, dict.fromkeys(staggered, 1 / 3)), staggered


def _cut(text: str, room: float) -> str:
    """As much of a label as there is room for."""
    n = int(room / LETTER + 1e-6)  # exactly as much room as the label needs is enough
    return text if len(text) <= n else text[: n - 1].rstrip(" ,×") + "…" if n > 5 else ""


def _route(start: Point, end: Point) -> Route:
    """From the marker of a parent to that of a child, straight between the child's labels."""
    a, b = (start[0] + RADIUS, start[1]), (start[0] + RADIUS + BEND, end[1])
    return joined([_sideways(a, b), line(b, (end[0] - RADIUS, end[1]))])


def _sideways(a: Point, b: Point) -> Route:
    """A curve that is horizontal at both ends."""
    return tuple((x, y) for y, x in s_curve((a[1], a[0]), (b[1], b[0])))


def _details(trial: FrozenTrial, target: Target | None, target_name: str) -> list[str]:
    value = None if target is None else value_of(trial, target)
    return details_of(trial) + ([] if value is None else [f"{target_name} {value_text(value)}"])


def _caption(nodes: Sequence[TreeNode], best: FrozenTrial | None) -> str:
    counts = Counter(node.state for node in nodes)
    parts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    text = f"{len(nodes)} trial{'s' * (len(nodes) != 1)}" + (f": {', '.join(parts)}" if parts else "")
    return (
        text if best is None or best.value is None else f"{text}; best {value_text(best.value)} (trial {best.number})"
    )
