"""The tables of docs/datasets.md, from the dict: `python -m training.datasets.page` writes them again."""

import re
from pathlib import Path

from training.datasets import DATASETS, FAMILIES, Spec

PAGE = Path("docs/datasets.md")

# Rows of families that have no dataset of their own in the dict.
_IN_FILES = "in the files | in the files | in the files | none stated by the archives for many of their sets"
_FAMILY_ROWS = {
    "uea_ucr": (
        f"| `uea_ucr/<Name>` | any set of the UEA and UCR archives, see below | {_IN_FILES} | a download |",
        "| `uea_ucr/<Name>` | the archive's own: `<Name>_TRAIN.ts` and `<Name>_TEST.ts` |",
    )
}


def overview() -> str:
    """What there is: a row for each dataset."""
    rows = [
        "| name | what | steps x channels | classes | train / test | data licence | needs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(dataset.spec) for dataset in DATASETS.values()),
        *(row for family, (row, _) in _FAMILY_ROWS.items() if family in FAMILIES),
    ]
    return "\n".join(rows)


def split_rules() -> str:
    """Which example is in which split: a row for each dataset."""
    rows = [
        "| name | split rule |",
        "| --- | --- |",
        *(f"| `{dataset.spec.name}` | {dataset.spec.split_rule} |" for dataset in DATASETS.values()),
        *(row for family, (_, row) in _FAMILY_ROWS.items() if family in FAMILIES),
    ]
    return "\n".join(rows)


def page(text: str) -> str:
    """The text of the page with its tables written again, between the comments that mark them."""
    for name, table in (("overview", overview()), ("split rules", split_rules())):
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, whole=begin + table + end: whole, text, flags=re.DOTALL)  # type: ignore[misc]
    return text


def _row(spec: Spec) -> str:
    steps = "unknown" if spec.lengths is None else " to ".join(str(steps) for steps in dict.fromkeys(spec.lengths))
    splits = f"{spec.counts['train']} / {spec.counts['test']}"
    size = f"{steps} x {spec.channels}"
    cells = [f"`{spec.name}`", spec.summary, size, _answers(spec), splits, spec.licence, spec.needs]
    return f"| {' | '.join(cells)} |"


def _answers(spec: Spec) -> str:
    if spec.classes:
        return f"{len(spec.classes)}{' a step' if spec.task == 'labelling' else ''}"
    count = len(spec.outputs) * spec.horizon
    return "none" if not count else f"{count} number{'s' if count > 1 else ''}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
