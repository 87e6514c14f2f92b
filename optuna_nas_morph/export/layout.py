"""Calls as a formatter would lay them out: on one line where they fit, else one argument per line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

LINE_LENGTH = 120
"""Columns of a line, as in this project."""
NESTED_LENGTH = 88
"""Columns of a line with calls within a call."""
INDENT = "    "


@dataclass(frozen=True)
class Call:
    """A call in source.

    Args:
        function:
            What is called.
        arguments:
            Per argument its keyword, empty for a positional one, and its text or the call that is its value.
    """

    function: str
    arguments: tuple[tuple[str, str | Call], ...] = ()

    @property
    def line_length(self) -> int:
        """Columns that it may take on one line."""
        return NESTED_LENGTH if any(isinstance(value, Call) for _, value in self.arguments) else LINE_LENGTH

    def __str__(self) -> str:
        return f"{self.function}({', '.join(_on_one_line(*argument) for argument in self.arguments)})"


def _on_one_line(keyword: str, value: str | Call) -> str:
    return f"{keyword}={value}" if keyword else str(value)


def laid_out(prefix: str, value: str | Call, suffix: str = "", depth: int = 0) -> list[str]:
    """Lines of ``<prefix><value><suffix>``, indented by ``depth`` steps."""
    line = f"{INDENT * depth}{prefix}{value}{suffix}"
    if isinstance(value, str) or not value.arguments or (len(line) <= value.line_length and not _is_list(value)):
        return [line]
    lines = [f"{INDENT * depth}{prefix}{value.function}("]
    for keyword, argument in value.arguments:
        lines += laid_out(f"{keyword}=" if keyword else "", argument, ",", depth + 1)
    return [*lines, f"{INDENT * depth}){suffix}"]


def _is_list(call: Call) -> bool:
    """Whether the arguments are a list of layers, which people write one per line."""
    layers = [value for _, value in call.arguments if isinstance(value, Call)]
    return len(layers) > 2 or any(_is_list(layer) for layer in layers)


# Loops.


def looped(calls: Sequence[Call]) -> tuple[tuple[str, str | Call], ...]:
    """Arguments for ``nn.Sequential``; three or more equal calls, or calls that count up, become a loop."""
    result: list[tuple[str, str | Call]] = []
    start = 0
    while start < len(calls):
        end, text = _loop(calls[start:])
        result.append(("", calls[start] if text is None else text))
        start += end
    return tuple(result)


def _loop(calls: Sequence[Call]) -> tuple[int, str | None]:
    """How many of the calls from the first one loop over, and the loop; the first alone if fewer than three do."""
    n_equal = next((i for i, call in enumerate(calls) if call != calls[0]), len(calls))
    if n_equal > 2:
        return n_equal, f"*({calls[0]} for _ in range({n_equal}))"
    steps = [_step(a, b) for a, b in pairwise(calls)]
    n_steps = next((i for i, step in enumerate(steps) if step is None or step != steps[0]), len(steps))
    if n_steps < 2 or steps[0] is None:
        return 1, None
    place, step = steps[0]
    keyword, value = calls[0].arguments[place]
    first = int(str(value))
    name = keyword or "width"
    arguments = list(calls[0].arguments)
    arguments[place] = (keyword, name)
    numbers = f"range({first}, {first + (n_steps + 1) * step}, {step})"
    return n_steps + 1, f"*({replace(calls[0], arguments=tuple(arguments))} for {name} in {numbers})"


def _step(a: Call, b: Call) -> tuple[int, int] | None:
    """Which argument differs, and by how much, if it is one positive number alone."""
    if a.function != b.function or [k for k, _ in a.arguments] != [k for k, _ in b.arguments]:
        return None
    unequal = [i for i, (x, y) in enumerate(zip(a.arguments, b.arguments, strict=True)) if x != y]
    if len(unequal) != 1:
        return None
    x, y = (str(call.arguments[unequal[0]][1]) for call in (a, b))
    if not (x.isdecimal() and y.isdecimal() and int(y) > int(x)):
        return None
    return unequal[0], int(y) - int(x)
