"""The classes of an exported file: what they are called, what they take, and their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna_nas_morph.export.blocks import NETWORK, Block, Part
from optuna_nas_morph.export.forward import forward_lines
from optuna_nas_morph.export.layout import INDENT, Call, laid_out, looped
from optuna_nas_morph.export.library import own_classes
from optuna_nas_morph.export.naming import attribute_names, class_name, summary
from optuna_nas_morph.export.parameters import Signature, no_signature, repr_of, signature_of
from optuna_nas_morph.export.regions import Key


@dataclass(frozen=True)
class BlockClass:
    """One class of the file.

    Args:
        name:
            Its name.
        example:
            One of its uses; all have the same form.
        signature:
            Its constructor.
        others:
            The classes that it may use.
    """

    name: str
    example: Block
    signature: Signature
    others: Mapping[Key, BlockClass]

    def values(self, block: Block) -> dict[str, Any]:
        """What the constructor is called with for one use, by parameter."""
        arguments = _arguments(block, self.others)
        return {p.name: arguments[p.slot[0]][p.slot[1]] for p in self.signature.parameters}

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Per step the name of its module; empty for an expression."""
        return attribute_names(self.example)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What ``forward`` calls its inputs."""
        n = len(self.example.entries)
        return ("x",) if n == 1 else tuple(f"x{i + 1}" for i in range(n))

    # Its text.

    def __str__(self) -> str:
        is_network = self.example.key == NETWORK
        base = "nn.Sequential" if self.example.is_sequence and not is_network else "nn.Module"
        lines = [f"class {self.name}({base}):", f'{INDENT}"""{summary(self.example, self.name)}"""', ""]
        calls = self._calls
        if any(calls):
            parameters = ["self", *map(str, self.signature.parameters)]
            lines += laid_out("def ", Call("__init__", tuple(("", p) for p in parameters)), " -> None:", 1)
            if base == "nn.Sequential":
                lines += laid_out("", Call("super().__init__", looped(calls[0])), depth=2)
            else:
                lines.append(f"{INDENT * 2}super().__init__()")
                for attribute, step_calls in zip(self.attributes, calls, strict=True):
                    if step_calls:
                        value = step_calls[0] if len(step_calls) == 1 else Call("nn.Sequential", looped(step_calls))
                        lines += laid_out(f"self.{attribute} = ", value, depth=2)
            lines.append("")
        if base == "nn.Module":
            lines += forward_lines(self.example, self.attributes, self.arguments)
        return "\n".join(lines).rstrip()

    @cached_property
    def _calls(self) -> list[list[Call]]:
        """Per step the constructor calls of its parts; none for an expression."""
        result: list[list[Call]] = []
        slot = 0
        for step in self.example.steps:
            calls = []
            for part in step.parts:
                calls.append(self._call(part, slot))
                slot += 1
            result.append(calls if step.is_module else [])
        return result

    def _call(self, part: Part, slot: int) -> Call:
        texts = {name: text for (i, name), text in self.signature.texts.items() if i == slot}
        if isinstance(part, Block):
            other = self.others[part.key]
            return Call(
                other.name,
                tuple(
                    ("" if p.is_positional else p.name, texts[p.name])
                    for p in other.signature.parameters
                    if texts[p.name] != p.default
                ),
            )
        return Call(
            part.call,
            tuple(
                ("" if name in part.positional else name, texts[name])
                for name, parameter in part.signature.items()
                if name in texts and (parameter.default is parameter.empty or texts[name] != repr_of(parameter.default))
            ),
        )


def block_classes(network: Block, name: str) -> list[BlockClass]:
    """Every class of the file, each behind those that it uses; the last one is the network."""
    uses: dict[Key, list[Block]] = {}
    for block in _blocks(network):
        uses.setdefault(block.key, []).append(block)
    classes: dict[Key, BlockClass] = {}
    names = Counter([name, *own_classes()])
    for key, blocks in sorted(uses.items(), key=lambda item: len(item[1][0].layers)):
        arguments = [_arguments(block, classes) for block in blocks]
        signature = signature_of(arguments, [b.input for b in blocks], [b.output for b in blocks])
        if key == NETWORK:
            signature = no_signature(arguments[0])
        stem = class_name(blocks[0])
        names[stem] += 1
        unique = name if key == NETWORK else f"{stem}{names[stem]}" if names[stem] > 1 else stem
        classes[key] = BlockClass(unique, blocks[0], signature, dict(classes))
    return list(classes.values())


def _blocks(block: Block) -> Iterator[Block]:
    """A block and all in it, those that it uses first."""
    for step in block.steps:
        for part in step.parts:
            if isinstance(part, Block):
                yield from _blocks(part)
    yield block


def _arguments(block: Block, classes: Mapping[Key, BlockClass]) -> list[Mapping[str, Any]]:
    """Per part of a block, in order, what it is called with."""
    return [
        classes[part.key].values(part) if isinstance(part, Block) else part.arguments
        for step in block.steps
        for part in step.parts
    ]


# Weights.


def state_names(classes: Sequence[BlockClass]) -> dict[str, str]:
    """Per node the path of its module in the network."""
    by_key = {cls.example.key: cls for cls in classes}
    result: dict[str, str] = {}

    def visit(block: Block, prefix: str) -> None:
        cls = by_key[block.key]
        is_sequential = block.is_sequence and block.key != NETWORK
        for attribute, step in zip(cls.attributes, block.steps, strict=True):
            if not step.is_module:
                continue
            base = prefix if is_sequential else f"{prefix}{attribute}."
            for i, part in enumerate(step.parts):
                path = f"{base}{i}." if is_sequential or len(step.parts) > 1 else base
                if isinstance(part, Block):
                    visit(part, path)
                else:
                    result[part.node.name] = path

    visit(classes[-1].example, "")
    return result
