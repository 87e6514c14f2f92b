"""Numbers, shapes and morphisms for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape

from optuna_nas_morph.ir import TensorSpec

_SHORT = {
    "insert_residual_block": "block",
    "insert_transformer_block": "transformer block",
    "grow_kernel": "kernel",
    "add_skip": "skip",
    "concat_skip": "concat",
}
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count_text(n: float) -> str:
    """A large number in short: ``835``, ``12.3 k``, ``1.07 M``."""
    for size, prefix in _PREFIXES:
        if n >= size * 0.9995:  # 999,950 is 1.00 M
            return f"{_three_digits(n / size)} {prefix}"
    return f"{n:g}"


def value_text(value: float) -> str:
    """A value to four digits."""
    return f"{value:.4g}"


def shape_text(spec: TensorSpec) -> str:
    """Sizes of one sample: ``16×28×28``; with the type where that is not float."""
    sizes = "×".join(map(str, spec.shape))
    return sizes if spec.dtype == "float32" else f"{sizes} {spec.dtype}"


def shape_change_text(old: TensorSpec, new: TensorSpec) -> str:
    """The sizes with those that changed: ``16→24×28×28``."""
    if len(old.shape) != len(new.shape) or old.dtype != new.dtype:
        return f"{shape_text(old)} → {shape_text(new)}" if old != new else shape_text(new)
    sizes = (f"{a}→{b}" if a != b else str(b) for a, b in zip(old.shape, new.shape, strict=True))
    return "×".join(sizes) + ("" if new.dtype == "float32" else f" {new.dtype}")


def morphisms_text(steps: Sequence[str]) -> str:
    """Steps in short, repeats counted: ``2× widen ×1.5, block``; where there are none, ``trained on``."""
    names = Counter(_morphism_text(step.partition(" at ")[0]) for step in steps)
    texts = (name if n == 1 else f"{n}× {name}" for name, n in names.items())
    return ", ".join(texts) or "trained on"


def step_text(step: str) -> str:
    """A step with its place: ``widen ×1.5 at conv_2``."""
    morphism, _, site = step.partition(" at ")
    return f"{_morphism_text(morphism)} at {site}" if site else _morphism_text(morphism)


def _morphism_text(morphism: str) -> str:
    name, _, fields = morphism.partition(":")
    factor = f" ×{fields.partition(',')[0]}" if name.startswith("widen") and fields else ""
    return _SHORT.get(name, name.replace("_", " ")) + factor


def plotly_text(text: str) -> str:
    """Text that plotly shows as it is: it reads some HTML."""
    return escape(text, quote=False)


def _three_digits(value: float) -> str:
    return f"{value:.{max(0, 2 - int(math.log10(max(value, 1.0))))}f}"
