"""What holds for the repository as a whole."""

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import serving
import training
import zoo

ROOT = Path(__file__).parents[2]


def modules():
    for package in (zoo, training, serving):
        yield package.__name__
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def test_this_checkout_is_what_is_tested():
    for package in (zoo, training, serving):
        assert Path(package.__file__).parents[1] == ROOT


@pytest.mark.parametrize("name", [name for name in modules() if "make_npz" not in name])
def test_every_docstring_runs(name):
    import doctest

    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def test_public_names_are_those_listed():
    for name in ("zoo.layers", "training.datasets"):
        module = importlib.import_module(name)
        offered = {
            key for key, value in vars(module).items() if getattr(value, "__module__", "").startswith(f"{name}.")
        }
        # A dataset is reached by its name, and its class is not a name for everyone.
        adapters = {type(dataset).__name__ for dataset in getattr(module, "DATASETS", {}).values()} | {"UeaUcr"}
        assert offered <= set(module.__all__) | adapters
        assert all(hasattr(module, key) for key in module.__all__)


def contracts():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize("package", [zoo, serving], ids=lambda package: package.__name__)
def test_every_module_stands_in_a_layer(package):
    """What no contract names, import-linter does not hold."""
    [layers] = [contract["layers"] for contract in contracts() if contract.get("containers") == [package.__name__]]
    named = {module for layer in layers for module in layer.split(" | ")}
    assert named == {module.name for module in pkgutil.iter_modules(package.__path__)}


def test_training_may_import_two_rooms_of_serving():
    [forbidden] = [
        contract["forbidden_modules"]
        for contract in contracts()
        if contract["type"] == "forbidden" and contract["forbidden_modules"][0].startswith("serving.")
    ]
    rooms = {f"serving.{module.name}" for module in pkgutil.iter_modules(serving.__path__)}
    assert rooms - set(forbidden) == {"serving.client", "serving.release"}


def test_help_imports_nothing_heavy():
    script = (
        "import sys, zoo.cli\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(zoo.cli.zoo, ['--help']).exit_code == 0\n"
        "heavy = {'keras', 'tensorflow', 'mlflow', 'numpy', 'pydantic', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_pins_are_within_the_ranges():
    from packaging.requirements import Requirement

    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name, group in project["optional-dependencies"].items() if name != "gpu" for line in group]
    for line in [*project["dependencies"], *extras]:
        wanted = Requirement(line)
        name = wanted.name.lower().replace("_", "-")
        if name != "sequence-zoo" and (wanted.marker is None or wanted.marker.evaluate()):
            assert wanted.specifier.contains(pins[name]), f"{line} but constraints.txt has {pins[name]}"


def test_the_repository_names_no_host_of_packages_and_no_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split():
        path = ROOT / name
        if path.suffix in {".npz", ".png", ".keras"} or path == Path(__file__) or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        found = re.search(r"--(extra-)?index-url|PIP_INDEX|file:///|/(work|home/\w+|root)/", text)
        assert not found, f"{name} names a package host or a machine's path: {found}"


def test_every_link_in_the_docs_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_results_in_the_readme_are_those_of_the_study():
    _, block, _ = re.split("<!-- results: (?:begin|end) -->", (ROOT / "README.md").read_text())
    report = (ROOT / "docs/studies/activations/report.md").read_text()
    rows = block.strip().splitlines()
    assert len(rows) > 2
    assert [row for row in rows if row not in report] == []


def test_the_numbers_in_the_answers_are_in_a_report():
    answers = (ROOT / "docs/answers.md").read_text()
    cells = "".join(path.read_text() for path in (ROOT / "docs/studies").glob("*/report.md")).replace(" | ", " ")
    numbers = re.findall(r"([+-]?\d\.\d+) \(([+-]?\d\.\d+ to [+-]?\d\.\d+)\)", answers)
    assert len(numbers) > 20
    missing = [(mean, interval) for mean, interval in numbers if f"{mean} {interval}" not in cells]
    assert missing == []
