"""The body of ``forward``: expressions put into one another where that reads well, and names for what is left."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from optuna_nas_morph.export.blocks import Block, Step
from optuna_nas_morph.export.layout import INDENT, LINE_LENGTH, Call, laid_out

_COMFORTABLE = 80
"""Columns; longer expressions are not put into others."""


@dataclass(frozen=True)
class _Statement:
    """One value and how it is computed.

    Args:
        output:
            Name of the node that it is the output of.
        step:
            What computes it.
        attribute:
            Where the module is, empty for an expression.
        operands:
            Per input the node whose output it is, or a statement that is written in its place.
    """

    output: str
    step: Step
    attribute: str
    operands: tuple[str | _Statement, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the nodes whose outputs are read."""
        return tuple(name for o in self.operands for name in (o.reads if isinstance(o, _Statement) else (o,)))

    @property
    def is_merge(self) -> bool:
        return len(self.step.inputs) > 1

    def text(self, names: Mapping[str, str]) -> str:
        operands = self.operands
        if len(operands) == 2 and self.step.commutes:  # x + self.body(x)
            operands = tuple(sorted(operands, key=lambda o: isinstance(o, _Statement)))
        values = [o.text(names) if isinstance(o, _Statement) else names[o] for o in operands]
        return f"self.{self.attribute}({', '.join(values)})" if self.attribute else self.step.expression(values)


def forward_lines(block: Block, attributes: Sequence[str], entries: Sequence[str]) -> list[str]:
    """The lines of ``forward``.

    Args:
        block:
            What it computes.
        attributes:
            Per step the name of its module; empty for a step that is an expression.
        entries:
            Names of the arguments.
    """
    statements = [
        _Statement(step.output, step, attribute, step.inputs)
        for step, attribute in zip(block.steps, attributes, strict=True)
    ]
    statements = _nested(statements)
    arguments = ["self", *(f"{name}: Tensor" for name in entries)]
    lines = laid_out("def ", Call("forward", tuple(("", a) for a in arguments)), " -> Tensor:", depth=1)
    names = dict(zip(block.entries, entries, strict=True))
    if not statements:
        return [*lines, f"{INDENT * 2}return {names[block.entries[0]]}"]
    last_use = {name: i for i, statement in enumerate(statements) for name in statement.reads}
    n_uses = Counter(name for statement in statements for name in set(statement.reads))
    for i, statement in enumerate(statements):
        text = statement.text(names)
        if i == len(statements) - 1:
            lines += _wrapped("return ", text)
            break
        live = {name for node, name in names.items() if last_use.get(node, -1) > i}
        waits = last_use[statement.output] > i + 1
        choices = _names(statement.attribute, waits, several=n_uses[statement.output] > 1)
        names[statement.output] = next(name for name in choices if name not in live)
        lines += _wrapped(f"{names[statement.output]} = ", text)
    return lines


def _names(attribute: str, waits: bool, *, several: bool) -> Iterator[str]:
    """Names for a value: ``x`` for what the next line takes up, ``skip`` for what is needed again later."""
    if waits and several:
        yield "skip"
        yield from (f"skip_{i}" for i in count(2))
    elif waits and attribute:
        yield attribute
    yield from "xyz"
    yield from (f"y_{i}" for i in count(2))


def _nested(statements: Sequence[_Statement]) -> list[_Statement]:
    """Branches put into the merge that joins them, merges into the activation behind them."""
    uses = Counter(name for statement in statements for name in statement.reads)
    waiting: dict[str, _Statement] = {}
    result: list[_Statement] = []
    for statement in statements:
        operands = tuple(
            inner if (inner := waiting.get(name)) and _fits(inner, statement) else name for name in statement.reads
        )
        nested = replace(statement, operands=operands)
        if len(nested.text(_Anonymous())) > _COMFORTABLE:
            nested = statement
        taken = {o.output for o in nested.operands if isinstance(o, _Statement)}
        result = [other for other in result if other.output not in taken]
        result.append(nested)
        if uses[nested.output] == 1:
            waiting[nested.output] = nested
    return result


class _Anonymous(dict[str, str]):
    """One letter for every name, to measure with."""

    def __missing__(self, key: str) -> str:
        return "x"


def _fits(inner: _Statement, outer: _Statement) -> bool:
    """Whether one statement reads well within another."""
    if outer.is_merge:  # a branch
        return bool(inner.attribute) and not any(isinstance(o, _Statement) for o in inner.operands)
    # A norm or an activation behind a merge, unless it is a method.
    return inner.is_merge and outer.step.folds and (bool(outer.attribute) or outer.step.expression(["x"])[0] != "x")


def _wrapped(prefix: str, text: str) -> list[str]:
    """One line, or one term or argument per line where they do not fit."""
    if len(f"{INDENT * 2}{prefix}{text}") <= LINE_LENGTH:
        return [f"{INDENT * 2}{prefix}{text}"]
    tree = ast.parse(text, mode="eval").body
    if isinstance(tree, ast.Call):
        return laid_out(prefix, _call(tree), depth=2)
    operator = " * " if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Mult) else " + "
    within = f"{INDENT * 3}{text}"
    if len(within) > LINE_LENGTH:
        within = within.replace(operator, f"\n{INDENT * 3}{operator[1:]}")
    return [f"{INDENT * 2}{prefix}(", *within.splitlines(), f"{INDENT * 2})"]


def _call(tree: ast.expr) -> str | Call:
    """A parsed call or tuple as something to lay out."""
    if isinstance(tree, ast.Tuple):
        return Call("", tuple(("", _call(element)) for element in tree.elts))
    if isinstance(tree, ast.Call):
        arguments = [("", _call(value)) for value in tree.args]
        arguments += [(keyword.arg or "", _call(keyword.value)) for keyword in tree.keywords]
        return Call(ast.unparse(tree.func), tuple(arguments))
    return ast.unparse(tree)
