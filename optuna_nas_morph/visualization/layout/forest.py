"""Rows of a family tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def forest_layout(
    parents: Mapping[int, int | None], extents: Mapping[int, float] | None = None
) -> dict[int, tuple[int, float]]:
    """Depth and row of every node of a forest: parents before their children, siblings in order, no branches crossed.

    Rows are as few as contours allow: a short branch stands beside a long one, not below it (Reingold and Tilford,
    Tidier Drawings of Trees, IEEE Trans. Software Eng. 7, 1981). A parent stands in the middle of its children.

    Args:
        parents:
            Per node, its parent; :obj:`None` for a root. Parents come before their children.
        extents:
            Per node, how much of a row it takes up; 1 for those left out.

    Returns:
        Per node, its depth, and its row from 0. Nodes of one depth do not overlap.

    Raises:
        ValueError: If a parent does not come before its child.
    """
    depth: dict[int, int] = {}
    children: dict[int | None, list[int]] = {None: []}
    for node, parent in parents.items():
        if parent is not None and parent not in depth:
            raise ValueError(f"parents must come before their children but {parent} does not come before {node}.")
        depth[node] = 0 if parent is None else depth[parent] + 1
        children[node] = []
        children[parent].append(node)

    # Each node relative to its parent; of each subtree, where its generations begin and end, the last one first.
    offset: dict[int, float] = {}
    contours: dict[int | None, list[tuple[float, float]]] = {}
    for root in [*reversed(list(parents)), None]:
        contour = _side_by_side([contours.pop(heir) for heir in children[root]], children[root], offset)
        half = 0.5 if root is None or extents is None else extents.get(root, 1.0) / 2
        contour.append((-half, half))
        contours[root] = contour

    row: dict[int, float] = {}
    for node, parent in parents.items():
        row[node] = offset[node] + (0.0 if parent is None else row[parent])
    top = min((row[node] for node in parents), default=0.0)
    return {node: (depth[node], row[node] - top) for node in parents}


def _side_by_side(
    contours: Sequence[list[tuple[float, float]]], heirs: Sequence[int], offset: dict[int, float]
) -> list[tuple[float, float]]:
    """Put subtrees below each other, as close as they can be, with their parent in the middle.

    Args:
        contours:
            Of the subtrees.
        heirs:
            Their roots.
        offset:
            Gets the rows of the roots relative to their parent.

    Returns:
        The contour of all of them.
    """
    if len(heirs) == 1:  # so that a long line of descent takes no longer than a tree
        offset[heirs[0]] = 0.0
        return contours[0]
    outline: list[tuple[float, float]] = []
    for heir, contour in zip(heirs, contours, strict=True):
        pairs = list(zip(outline, reversed(contour), strict=False))
        shift = max((last - first for (_, last), (first, _) in pairs), default=0.0)
        offset[heir] = shift
        moved = [(first + shift, last + shift) for first, last in reversed(contour)]
        both = [(first, last) for (first, _), (_, last) in zip(outline, moved, strict=False)]
        outline = both + outline[len(both) :] + moved[len(both) :]
    middle = (offset[heirs[0]] + offset[heirs[-1]]) / 2 if heirs else 0.0
    for heir in heirs:
        offset[heir] -= middle
    return [(first - middle, last - middle) for first, last in reversed(outline)]
