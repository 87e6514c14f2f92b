"""Checks that searches share."""

from __future__ import annotations

from typing import Any


def check_positive_integers(settings: Any, *names: str) -> None:
    """Check attributes.

    Raises:
        ValueError: If one is not a positive integer.
    """
    for name in names:
        value = getattr(settings, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer but got {value!r}.")
