"""The report on a study: `report.md`, `report.html` and pictures, all from its rows and nothing else."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from training.files import write_safely
from training.study import comparison, report_tables as tables
from training.study.comparison import Board
from training.study.results import Row

_TEMPLATES = Path(__file__).parent / "templates"


class NothingToReport(ValueError):
    """There are no rows, or more than one for the same run."""

    exit_code = 1


def write_report(
    rows: Sequence[Row], folder: Path, title: str, baseline: str, command: str, planned: int | None = None
) -> Path:
    """Write the report on the rows that there are, which may be some of a study that still runs.

    The same rows give the same bytes. Pictures of an earlier report that this one has no use for are removed.

    Args:
        rows: One a run.
        folder: Gets `report.md`, `report.html`, which holds everything in itself, and `pictures/`.
        title: The heading.
        baseline: The condition that the others are compared with; it may have no row yet.
        command: The command that ran the study.
        planned: How many runs the whole study has, where some are still missing.

    Returns:
        The path of `report.md`.

    Raises:
        NothingToReport: No rows, or two of one condition, dataset and seed.
    """
    if not rows:
        raise NothingToReport(f"no run has finished yet, so there is nothing to write to {folder}")
    rows = sorted(rows, key=lambda row: row.key)
    for row, following in pairwise(rows):
        if row.key == following.key:
            raise NothingToReport(f"two rows are the same run {row.key}: {row.run_id!r} and {following.run_id!r}")
    drawn = _Drawn()
    view = _view(rows, title, baseline, command, planned, drawn)
    text = _render("report.md.j2", view)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for name, content in drawn.files.items():
        write_safely(folder / name, content)
    for old in (folder / "pictures").glob("*.png"):
        if f"pictures/{old.name}" not in drawn.files:
            old.unlink()
    write_safely(folder / "report.html", _page(text, title, drawn.files).encode())
    write_safely(folder / "report.md", text.encode())
    return folder / "report.md"


class _Drawn:
    """Pictures as PNG, by their path in the study's folder."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def __call__(self, name: str, figure: Any) -> str:
        path = f"pictures/{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_').lower()}.png"
        while path in self.files:  # names that differ only in what a file name cannot hold
            path = path.replace(".png", "_.png")
        content = io.BytesIO()
        figure.savefig(content, format="png")
        self.files[path] = content.getvalue()
        return path


def _view(
    rows: Sequence[Row], title: str, baseline: str, command: str, planned: int | None, draw: Callable[[str, Any], str]
) -> dict[str, Any]:
    from training.study import pictures

    datasets = sorted({row.dataset for row in rows}, key=_natural)
    test = [comparison.board(rows, dataset, "test") for dataset in datasets]
    validation = [comparison.board(rows, dataset, "validation") for dataset in datasets]
    conditions = comparison.in_order(validation)
    ranking = comparison.ranking(test)
    deaths = tables.death_counts(rows)
    anyone = any(dead for dead, _ in deaths.values())
    return {
        "title": title,
        "summary": tables.summary(rows, test, validation, baseline, planned),
        "conditions": conditions,
        "baseline": baseline,
        "datasets": datasets,
        "seeds": sorted({row.seed for row in rows}),
        "varied": tables.varied(rows, conditions, baseline),
        "glance": tables.glance(test, conditions, baseline),
        "overall": tables.overall(rows, test, validation, baseline),
        "overall_text": tables.overall_text(test, baseline),
        "ranking": ranking,
        "ranks_picture": draw("ranks", pictures.ranks(ranking, baseline)) if ranking else None,
        "parts": [_part(rows, *boards, baseline, draw) for boards in zip(test, validation, strict=True)],
        "speeds": tables.speeds(rows, validation, conditions, baseline),
        "causes": tables.causes(rows),
        "deaths_picture": draw("deaths", pictures.deaths(deaths, conditions, datasets)) if anyone else None,
        "origin": tables.origin(rows, command),
        "shared": tables.shared(rows),
    }


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts numbers in names by their size: adding_problem/50 before adding_problem/150."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _part(
    rows: Sequence[Row], test: Board, validation: Board, baseline: str, draw: Callable[[str, Any], str]
) -> dict[str, Any]:
    from training.study import pictures

    name = test.dataset
    return {
        "name": name,
        "table": tables.dataset(rows, test, validation, baseline),
        "text": tables.dataset_text(test),
        "scores_picture": draw(f"scores {name}", pictures.scores(test, validation, baseline)),
        "curves_picture": draw(f"curves {name}", pictures.training_curves(rows, validation, baseline)),
    }


def _render(template: str, view: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the filter md escapes for Markdown, and the page's renderer for HTML
    )
    environment.filters |= {"md": tables.escape, "table": tables.markdown, "p": tables.p_value}
    return environment.get_template(template).render(view)


def _page(markdown: str, title: str, files: dict[str, bytes]) -> str:
    """The report as one HTML page, with its pictures inside and a list of its sections."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    contents: list[str] = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            token.attrs["id"] = f"part-{len(contents) + 1}"
            contents.append(f"[{inline.content}](#{token.attrs['id']})")
        for child in token.children or ():
            source = str(child.attrs.get("src", ""))
            if source in files:
                child.attrs["src"] = "data:image/png;base64," + base64.b64encode(files[source]).decode()
    body = parser.renderer.render(tokens, parser.options, {})
    # A wide table scrolls by itself, so that the page does not.
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    heading, end, rest = body.partition("</h1>\n")
    return _render(
        "report.html.j2",
        {"title": title, "body": f"{heading}{end}<nav>{parser.renderInline(' '.join(contents))}</nav>\n{rest}"},
    )
