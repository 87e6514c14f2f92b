"""Checks of what the presets are given."""

from __future__ import annotations

import operator
from collections.abc import Sequence


def positive(name: str, value: int) -> int:
    """The value as an ``int``.

    Raises:
        ValueError: If it is no integer (NumPy's count as such) or below 1.
    """
    number = _integer(value)
    if number is None or number < 1:
        raise ValueError(f"{name} must be a positive integer but got {value!r}.")
    return number


def depths(value: int | Sequence[int], n_stages: int) -> tuple[int, ...]:
    """Blocks in each stage from one number for all, or one per stage.

    Raises:
        ValueError: If it is neither a positive integer nor ``n_stages`` of them.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (positive("depth", value),) * n_stages
    counts = _sizes(value)
    if len(counts) != n_stages:
        raise ValueError(
            f"depth must be a positive integer or n_stages={n_stages} of them, one per stage, but got {value!r}."
        )
    return counts


def categories(value: Sequence[int]) -> tuple[int, ...]:
    """Numbers of categories per column as a tuple of ``int``.

    Raises:
        ValueError: If it is no sequence of positive integers.
    """
    try:
        entries = list(value)
    except TypeError as e:
        raise ValueError(
            f"n_categories must be a sequence of positive integers, one per categorical column, but got {value!r}."
        ) from e
    return tuple(positive(f"n_categories[{i}]", n) for i, n in enumerate(entries))


def vector_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a sample of any rank as a tuple of ``int``.

    Raises:
        ValueError: If it is empty or not made of positive integers.
    """
    sizes = _sizes(input_shape)
    if not sizes:
        raise ValueError(
            "input_shape must be a non-empty sequence of positive integers, the shape of one sample without the batch "
            f"dimension, but got {input_shape!r}."
        )
    return sizes


def map_shape(input_shape: Sequence[int], axes: tuple[str, ...], smallest: int) -> tuple[int, ...]:
    """The shape ``(channels, *axes)`` of a sample as a tuple of ``int``.

    Raises:
        ValueError: If the rank is another, an entry is no positive integer, or an axis is shorter than ``smallest``.
    """
    sizes = _sizes(input_shape)
    if len(sizes) != 1 + len(axes) or min(sizes[1:]) < smallest:
        raise ValueError(
            f"input_shape must be (channels, {', '.join(axes)}) without the batch dimension, with {' and '.join(axes)} "
            f"of at least {smallest}, but got {input_shape!r}."
        )
    return sizes


def sampled_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape ``(channels, sizes)`` of a sample along one, two or three axes as a tuple of ``int``.

    Raises:
        ValueError: If the rank is another, or an entry is no positive integer.
    """
    sizes = _sizes(input_shape)
    if not 2 <= len(sizes) <= 4:
        raise ValueError(
            "input_shape must be (channels, length), (channels, height, width) or (channels, depth, height, width), "
            f"positive integers without the batch dimension, but got {input_shape!r}."
        )
    return sizes


def tokens_shape(input_shape: Sequence[int]) -> tuple[int]:
    """The shape ``(length,)`` of a sequence of tokens.

    Raises:
        ValueError: If it is not one positive integer.
    """
    sizes = _sizes(input_shape)
    if len(sizes) != 1:
        raise ValueError(f"input_shape must be (length,) without the batch dimension but got {input_shape!r}.")
    return (sizes[0],)


def _sizes(input_shape: Sequence[int]) -> tuple[int, ...]:
    """Entries as ``int``; none at all if one is no positive integer."""
    try:
        sizes = [_integer(n) for n in input_shape]
    except TypeError:
        return ()
    return tuple(n for n in sizes if n is not None) if all(n is not None and n >= 1 for n in sizes) else ()


def _integer(value: int) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
