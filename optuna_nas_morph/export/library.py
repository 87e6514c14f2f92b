"""Code that an exported file takes from `optuna_nas_morph.nets`: layers that ``torch.nn`` does not have."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from torch import nn

from optuna_nas_morph import nets


def own_classes() -> Mapping[str, type[nn.Module]]:
    """The layers of `optuna_nas_morph.nets`, by name."""
    return {
        name: cls
        for name, cls in vars(nets).items()
        if isinstance(cls, type)
        and issubclass(cls, nn.Module)
        and cls.__module__ == nets.__name__
        and cls is not nets.Network
    }


@lru_cache(maxsize=1)
def _source() -> tuple[str, ast.Module]:
    text = inspect.getsource(nets)
    return text, ast.parse(text)


@lru_cache(maxsize=1)
def _definitions() -> dict[str, str]:
    """Source of every class and function of `optuna_nas_morph.nets`."""
    text, tree = _source()
    lines = text.splitlines()
    result = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            result[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return result


def names_in(source: str) -> set[str]:
    """Every name that a piece of source reads."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def definitions_for(names: Sequence[str]) -> Iterator[str]:
    """Source of the named classes, behind that of whatever they need."""
    known, done = _definitions(), set[str]()

    def visit(name: str) -> Iterator[str]:
        if name not in known or name in done:
            return
        done.add(name)
        for other in sorted(names_in(known[name])):
            yield from visit(other)
        yield known[name]

    for name in names:
        yield from visit(name)


def imports_for(source: str) -> list[str]:
    """Import statements of `optuna_nas_morph.nets` for the names that a piece of source reads."""
    used = names_in(source)
    result = []
    for node in _source()[1].body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            statement = copy.copy(node)
            statement.names = [a for a in node.names if (a.asname or a.name).partition(".")[0] in used]
            if statement.names:
                result.append(ast.unparse(statement))
    return result
