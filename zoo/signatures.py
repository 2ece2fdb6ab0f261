"""The arguments of the models, read from the text of their files.

Importing the models imports Keras and its backend, which takes seconds, too long for a command that only lists names or
rejects a key.
"""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

_MODELS = Path(__file__).parent / "models"
_TYPES = {"bool": bool, "float": float, "int": int, "str": str}


@dataclass(frozen=True)
class Argument:
    """A keyword argument of a builder.

    Attributes:
        annotation: Type, such as `int` or `str | None`.
        default: Default value.
    """

    annotation: Any
    default: Any


@dataclass(frozen=True)
class Builder:
    """A model's builder.

    Attributes:
        summary: First line of the docstring.
        arguments: Keyword arguments by name, in order.
    """

    summary: str
    arguments: Mapping[str, Argument]


@cache
def builders() -> Mapping[str, Builder]:
    """Every builder in `zoo.models.MODELS`, by name and in the same order.

    Example:
    >>> builders()["lstm"].arguments["units"]
    Argument(annotation=<class 'int'>, default=100)
    >>> builders()["gru"].summary
    'Stacked `keras.layers.GRU` and a dense head.'
    """
    package = ast.parse((_MODELS / "__init__.py").read_text())
    modules = {
        name.asname or name.name: node.module
        for node in package.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for name in node.names
    }
    table = next(node.value for node in package.body if isinstance(node, ast.AnnAssign) and _is_table(node.target))
    if not isinstance(table, ast.Dict):
        raise TypeError("zoo.models.MODELS must be written as a dict of names and builders")
    names = {
        ast.literal_eval(key): value.id
        for key, value in zip(table.keys, table.values, strict=True)
        if key is not None and isinstance(value, ast.Name)
    }
    return MappingProxyType({name: _builder(modules[function], function) for name, function in names.items()})


def _is_table(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "MODELS"


def _builder(module: str, function: str) -> Builder:
    tree = ast.parse((_MODELS / f"{module.rpartition('.')[2]}.py").read_text())
    builder = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    summary = inspect.cleandoc(ast.get_docstring(builder) or "").partition("\n")[0]
    arguments = {
        argument.arg: Argument(_type(argument.annotation), ast.literal_eval(default))  # type: ignore[arg-type]
        for argument, default in zip(builder.args.kwonlyargs, builder.args.kw_defaults, strict=True)
    }
    return Builder(summary, MappingProxyType(arguments))


def _type(annotation: ast.expr | None) -> Any:
    """The type in an annotation: a builtin one, or several joined by `|`."""
    match annotation:
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Constant(value=None):
            return None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _type(left) | _type(right)
    raise TypeError(
        f"{ast.unparse(annotation) if annotation else 'no annotation'}: write bool, float, int, str or None"
    )
