"""What uses of one class differ in: the parameters of its constructor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna_nas_morph.export.layers import Layer, is_width
from optuna_nas_morph.ir import TensorSpec

Slot = tuple[int, str]
"""One argument of one part of a class: index of the part, name of the argument."""
_WIDTH = "width"
_USUAL = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor.

    Args:
        name:
            Its name.
        slot:
            An argument that has its value.
        annotation:
            Its type.
        default:
            Text of the default, if there is one.
    """

    name: str
    slot: Slot
    annotation: str
    default: str | None = None

    @property
    def is_positional(self) -> bool:
        """Whether it is passed without its name, as widths are."""
        return is_width(self.name) and self.default is None

    def __str__(self) -> str:
        return f"{self.name}: {self.annotation}" + (f" = {self.default}" if self.default is not None else "")


@dataclass(frozen=True)
class Signature:
    """The constructor of a class.

    Args:
        parameters:
            What it takes.
        texts:
            What is written for every argument in its body.
    """

    parameters: tuple[Parameter, ...]
    texts: Mapping[Slot, str]


@dataclass(frozen=True)
class _Columns:
    """Values that differ: per kind and values over all uses the first slot that has them."""

    slots: Mapping[tuple[str, tuple[Any, ...]], Slot]
    of: Mapping[Slot, tuple[str, tuple[Any, ...]]]
    halves: frozenset[Slot]
    """Paddings that are half of the kernel size beside them."""


def n_parameters(uses: Sequence[Sequence[Layer]]) -> int:
    """Parameters of a class that stands for sequences of layers, which differ in arguments alone."""
    return len(_columns([_slots([layer.arguments for layer in layers]) for layers in uses]).slots)


def _slots(parts: Sequence[Mapping[str, Any]]) -> dict[Slot, Any]:
    return {(i, name): value for i, arguments in enumerate(parts) for name, value in arguments.items()}


def _columns(uses: Sequence[Mapping[Slot, Any]], ends: Collection[tuple[Any, ...]] = ()) -> _Columns:
    """Values that differ; also the widths of what enters and leaves, unless others follow from these (by a concat)."""
    widths = {slot: tuple(use[slot] for use in uses) for slot in uses[0] if is_width(slot[1])}
    chosen = {values for (_, name), values in widths.items() if name.startswith("out_")}
    free = set(widths.values()) <= {*ends, *chosen}
    slots: dict[tuple[str, tuple[Any, ...]], Slot] = {}
    of: dict[Slot, tuple[str, tuple[Any, ...]]] = {}
    halves = set()
    for slot in uses[0]:
        values = tuple(use[slot] for use in uses)
        part, name = slot
        if len(set(values)) == 1 and not (free and slot in widths and values in ends):
            continue
        if name == "padding" and all(_is_half(use, part) for use in uses):
            halves.add(slot)
            continue
        kind = _WIDTH if is_width(name) or (name == "groups" and (_WIDTH, values) in slots) else name
        of[slot] = (kind, values)
        slots.setdefault((kind, values), slot)
    return _Columns(slots, of, frozenset(halves))


def _is_half(use: Mapping[Slot, Any], part: int) -> bool:
    kernel, dilation = use.get((part, "kernel_size")), use.get((part, "dilation"), 1)
    return isinstance(kernel, int) and dilation == 1 and use[part, "padding"] == kernel // 2


def no_signature(parts: Sequence[Mapping[str, Any]]) -> Signature:
    """The constructor of a class that takes nothing, with these arguments for its parts."""
    return Signature((), {slot: repr_of(value) for slot, value in _slots(parts).items()})


def signature_of(
    uses: Sequence[Sequence[Mapping[str, Any]]], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Signature:
    """The constructor of a class.

    Args:
        uses:
            Per use of the class the arguments of every part.
        inputs:
            What enters, per use.
        outputs:
            What leaves, per use.
    """
    slots = [_slots(parts) for parts in uses]
    widths = [tuple(spec.n_channels for spec in specs) for specs in (inputs, outputs)]
    columns = _columns(slots, widths)
    word = "features" if len(outputs[0].shape) == 1 or outputs[0].channels_last else "channels"
    names = _names(columns, word, *widths)
    texts = {slot: repr_of(value) for slot, value in slots[0].items()}
    texts.update({slot: names[column] for slot, column in columns.of.items()})
    for part, name in columns.halves:
        texts[part, name] = f"{texts[part, 'kernel_size']} // 2"
    parameters = [
        Parameter(names[column], slot, _annotation(column[1]), _default(*column))
        for column, slot in columns.slots.items()
    ]
    parameters.sort(key=_place)
    return Signature(tuple(parameters), texts)


def _place(parameter: Parameter) -> tuple[bool, bool, int]:
    """Where a parameter stands: widths from input to output, then the rest, those with a default last."""
    stems = ("in_", "channels", "features", "out_", "hidden_")
    place = next((i for i, stem in enumerate(stems) if parameter.name.startswith(stem)), len(stems))
    return parameter.default is not None, not parameter.is_positional, place


def _names(
    columns: _Columns, word: str, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> dict[tuple[str, tuple[Any, ...]], str]:
    """A name per column: widths by where they are, others by the argument, numbered where there are several."""
    stems: dict[tuple[str, tuple[Any, ...]], str] = {}
    for kind, values in columns.slots:
        if kind != _WIDTH:
            stem = kind
        elif values == inputs:
            stem = word if values == outputs else f"in_{word}"
        else:
            stem = f"out_{word}" if values == outputs else f"hidden_{word}"
        stems[kind, values] = stem
    counts, seen = Counter(stems.values()), Counter[str]()
    result = {}
    for column, stem in stems.items():
        seen[stem] += 1
        result[column] = stem if counts[stem] == 1 else f"{stem}_{seen[stem]}"
    return result


def _default(kind: str, values: tuple[Any, ...]) -> str | None:
    """PyTorch's default, or else what most are; none for widths."""
    if kind in _USUAL and _USUAL[kind] in values:
        return repr_of(_USUAL[kind])
    value, n = Counter(values).most_common(1)[0]
    return repr_of(value) if kind != _WIDTH and 2 * n > len(values) else None


def _annotation(values: tuple[Any, ...]) -> str:
    names = {
        f"tuple[{', '.join(type(v).__name__ for v in value)}]" if isinstance(value, tuple) else type(value).__name__
        for value in values
    }
    return " | ".join(sorted("None" if name == "NoneType" else name for name in names))


def repr_of(value: Any) -> str:
    """A literal, with double quotes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(repr_of, value))}{',' if len(value) == 1 else ''})"
    return f'"{value}"' if isinstance(value, str) and value.isidentifier() else repr(value)
