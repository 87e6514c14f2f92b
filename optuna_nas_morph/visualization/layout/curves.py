"""Cubic Bezier curves, end to end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Point = tuple[float, float]
Route = tuple[Point, ...]
"""``3 k + 1`` points: the curve passes through every third of them, the other two are the control points between."""

CORNER = 8.0
"""Radius of the corners of edges."""
_CIRCLE = 0.5523  # a quarter of a circle as a cubic curve: 4 / 3 * (sqrt(2) - 1)
_NOTHING = 1e-6


def line(a: Point, b: Point) -> Route:
    """A straight line."""
    return a, _between(a, b, 1 / 3), _between(a, b, 2 / 3), b


def s_curve(a: Point, b: Point) -> Route:
    """A curve that is vertical at both ends."""
    middle = (a[1] + b[1]) / 2
    return line(a, b) if a[0] == b[0] else (a, (a[0], middle), (b[0], middle), b)


def rounded(points: Sequence[Point], radius: float = CORNER) -> Route:
    """Straight lines from point to point, with round corners of at most this radius."""
    parts, last = [], points[0]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        lengths = math.dist(before, corner), math.dist(corner, after)
        if min(lengths) < _NOTHING:
            continue
        most = min(radius, *(length / 2 for length in lengths))
        start, end = (_between(corner, p, most / n) for p, n in zip((before, after), lengths, strict=True))
        parts += [line(last, start), (start, _between(start, corner, _CIRCLE), _between(end, corner, _CIRCLE), end)]
        last = end
    return joined([*parts, line(last, points[-1])])


def joined(routes: Iterable[Route]) -> Route:
    """One route of several, each of which begins where the one before ends; curves without length are left out."""
    result: list[Point] = []
    for route in routes:
        result = result or [route[0]]
        for k in range(1, len(route), 3):
            if math.dist(result[-1], route[k + 2]) > _NOTHING:
                result += route[k : k + 3]
    return tuple(result)


def sampled(route: Route, n: int = 10) -> list[Point]:
    """Points along a route, ``n`` per curve, straight parts by their ends alone."""
    points = [route[0]]
    for k in range(0, len(route) - 1, 3):
        a, b, c, d = route[k : k + 4]
        straight = all(abs(_cross(a, p, d)) < _NOTHING for p in (b, c))
        shares = (1.0,) if straight else tuple((i + 1) / n for i in range(n))
        points += [_at(a, b, c, d, t) for t in shares]
    return points


def _at(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
    return x, y


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def _cross(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
