"""Everything that is imported is declared in pyproject.toml by name, not brought along by something else."""

import ast
import doctest
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"zoo", "training", "serving"}
# Distributions that this environment may lack and that are not called as their package is.
NAMES = {"grpc": "grpcio", "google": "protobuf", "sklearn": "scikit-learn"}
# Not imported by what a user runs: the build backend, and test and benchmark modules that find each other by path.
BESIDE = {path.stem for folder in ("tests/support", "benchmarks") for path in (ROOT / folder).iterdir()}


class Import(NamedTuple):
    """An import statement: the file, the package at the top, and whether it runs when the file is imported."""

    path: str
    package: str
    at_once: bool


def declared(*extras: str) -> set[str]:
    """The distributions that the project or one of its extras names; those of all extras where none is given."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    found, lines = set(), list(project["dependencies"])
    for extra in extras or optional:
        lines += optional[extra]
    for line in lines:
        name = re.match(r"[\w.-]+", line).group().lower().replace("_", "-")
        inside = re.match(r"sequence-zoo\[([\w,]+)\]", line)
        found |= declared(*inside.group(1).split(",")) if inside else {name}
    return found


def providers(package: str) -> set[str]:
    """The distributions that bring a package; more than one where they share it."""
    return {name.lower().replace("_", "-") for name in distributions().get(package, [NAMES.get(package, package)])}


@functools.cache
def distributions() -> dict[str, list[str]]:
    return packages_distributions()  # type: ignore[return-value]


def imports(path: Path, source: str, at_once: bool = True) -> Iterator[Import]:
    """The imports of a text that are not relative, of the standard library or of this project."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names | OURS | BESIDE:
                yield Import(str(path.relative_to(ROOT)), top, at_once)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            at_once = False
        if isinstance(node, ast.Try | ast.With):  # guarded: may fail
            at_once = False
        for child in ast.iter_child_nodes(node):
            yield from visit(
                child, at_once and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            )

    yield from visit(ast.parse(source), at_once)


@functools.cache
def of_files(*folders: str) -> list[Import]:
    return [
        found
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in imports(path, path.read_text())
    ]


def of_docstrings() -> list[Import]:
    """What the examples in docstrings import; all of them run in `make test`."""
    parser, found = doctest.DocTestParser(), []
    for folder in OURS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    for example in parser.get_examples(ast.get_docstring(node) or ""):
                        found += imports(path, example.source)
    return found


def undeclared(found: list[Import], names: set[str]) -> set[tuple[str, str]]:
    return {(entry.path, entry.package) for entry in found if not providers(entry.package) & names}


def test_what_the_packages_import_is_declared():
    found = of_files("zoo", "training", "serving")
    assert len(found) > 300
    assert undeclared(found, declared()) == set()


def test_what_make_test_runs_is_in_the_dev_extra():
    # Every module is imported for the examples in its docstrings, and every test file where it lies.
    found = of_files("zoo", "training", "serving") + of_files("tests", "benchmarks", "examples")
    files = [entry for entry in found if entry.at_once and not entry.path.startswith(("benchmarks", "examples"))]
    assert undeclared(of_docstrings() + files, declared("dev")) == set()


def test_what_the_rest_runs_is_in_some_extra():
    assert undeclared(of_files("tests", "benchmarks", "examples"), declared()) == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import made_up.part as other", [("made_up", True)]),
        ("from made_up import part", [("made_up", True)]),
        ("def f():\n    import made_up", [("made_up", False)]),
        ("class C:\n    import made_up", [("made_up", True)]),
        ("if TYPE_CHECKING:\n    import made_up", [("made_up", False)]),
        ("with suppress(ImportError):\n    import made_up", [("made_up", False)]),
        ("import os, zoo.layers, waiting", []),
    ],
)
def test_imports_are_found(source, expected):
    assert [(found.package, found.at_once) for found in imports(ROOT / "x.py", source)] == expected
