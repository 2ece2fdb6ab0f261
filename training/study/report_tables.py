"""The tables and sentences of a study's report, in Markdown."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.run.metrics import METRICS
from training.study import comparison
from training.study.comparison import Board
from training.study.results import Row, split_shared
from training.study.statistics import Interval, bootstrap_interval, smallest_p, wilson_interval

_NONE = "–"
_TOLD_APART = 0.05


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        header: Titles of the columns.
        rows: Cells, Markdown already.
        numbers: Whether all columns but the first are set right.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, in a table too.

    Example:
    >>> print(escape("leaky_relu(0.1) | *clip*"))
    leaky_relu(0.1) \| \*clip\*
    """
    return re.sub(r"([\\`*|<>\[\]#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(text.split()))


def markdown(table: Table) -> str:
    """The table in Markdown.

    Example:
    >>> print(markdown(Table(["condition", "runs"], [["relu", "5"]])))
    | condition | runs |
    | --- | ---: |
    | relu | 5 |
    """
    marks = ["---", *["---:" if table.numbers else "---"] * (len(table.header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (table.header, marks, *table.rows))


def p_value(p: float) -> str:
    """Three decimals.

    Example:
    >>> p_value(0.0312), p_value(1e-6)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _score(value: float, metric: str, sign: str = "") -> str:
    if not math.isfinite(value):
        return _NONE
    return f"{value:{sign}.4f}" if METRICS[metric].is_share else f"{value:{sign}.4g}"


def _interval(interval: Interval | None, metric: str, sign: str = "") -> str:
    if interval is None or not all(map(math.isfinite, interval)):
        return _NONE
    return f"{_score(interval[0], metric, sign)} to {_score(interval[1], metric, sign)}"


def _name(condition: str, baseline: str) -> str:
    return f"**{escape(condition)}**" if condition == baseline else escape(condition)


def _listed(names: Sequence[str]) -> str:
    return " · ".join(escape(name) for name in names)


# === What the study is ===


def summary(
    rows: Sequence[Row], test: Sequence[Board], validation: Sequence[Board], baseline: str, planned: int | None
) -> list[str]:
    """The findings in a few sentences."""
    dead = [row for row in rows if row.outcome != "converged"]
    failed = sum(row.outcome == "failed" for row in dead)
    of = f" of {planned}" if planned and planned > len(rows) else ""
    state = (
        f"{len(rows)}{of} runs have ended, {len(dead)} of them dead ({len(dead) - failed} diverged, {failed} failed)."
    )
    lines = [state + (" **The study is not complete**: all below is of the runs so far." if of else "")]
    if any(score is not None for each in validation for score in each.scores.values()):
        lines.append(_best(comparison.best(validation), len(comparison.in_order(validation))))
    compared = comparison.overall(test, baseline)
    apart = {name: each for name, each in compared.items() if each.corrected < _TOLD_APART}
    if compared:
        better = [name for name, each in apart.items() if each.gain > 0]
        worse = [name for name in apart if name not in better]
        lines.append(
            f"Against **{escape(baseline)}** on the test split, at the 5 % level after correction: "
            f"better: {_listed(better) or 'none'}; worse: {_listed(worse) or 'none'}; "
            f"not told apart: {_listed([name for name in compared if name not in apart]) or 'none'}."
        )
    if len({row.seed for row in rows}) < 2:
        lines.append("There is one seed: no interval can be given, and a difference may be chance.")
    return lines


def _best(names: Sequence[str], of: int) -> str:
    """Say which conditions are best by validation, as many as tie."""
    if 1 < len(names) == of:
        return f"By validation over all datasets, all {of} conditions tie."
    bold = [f"**{escape(name)}**" for name in names]
    shown = " and ".join([", ".join(bold[:-1]), bold[-1]] if len(bold) > 1 else bold)
    return f"Best by validation over all datasets: {shown}{', which tie' if len(bold) > 1 else ''}."


def varied(rows: Sequence[Row], conditions: Sequence[str], baseline: str) -> Table:
    """Keys of the configuration that a condition fixes and that not all conditions share; no rows of one condition."""
    _, differing = split_shared([row.config for row in rows])
    of = {name: [row.config for row in rows if row.condition == name] for name in conditions}
    fixed = {name: split_shared(configs)[0] for name, configs in of.items()}
    keys = [
        key
        for key in differing
        if key != "condition"
        and all(key in split or all(key not in c for c in of[name]) for name, split in fixed.items())
    ]
    base = fixed.get(baseline, {})
    body = []
    for name in sorted(conditions, key=lambda name: name != baseline):
        values = [
            ""
            if name != baseline and key in base and fixed[name].get(key) == base[key]
            else str(fixed[name].get(key, _NONE))
            for key in keys
        ]
        body.append([_name(name, baseline), *map(escape, values)])
    return Table(["condition", *map(escape, keys)], body if keys else [], numbers=False)


def shared(rows: Sequence[Row]) -> dict[str, str]:
    """The configuration that all runs share."""
    return {key: str(value) for key, value in split_shared([row.config for row in rows])[0].items()}


# === What came of it ===


def glance(test: Sequence[Board], conditions: Sequence[str], baseline: str) -> Table:
    """Mean test score, its interval and the dead runs, conditions by datasets."""
    body = []
    for name in conditions:
        cells = [_glanced(each, name) if name in each.conditions else "not run" for each in test]
        body.append([_name(name, baseline), *cells])
    return Table(["condition", *(f"{escape(each.dataset)}: {each.metric.replace('_', ' ')}" for each in test)], body)


def _glanced(test: Board, condition: str) -> str:
    counted, alive = test.counted(condition), test.converged(condition)
    died = f"{len(counted) - len(alive)} of {len(counted)} died"
    if not alive:
        return died
    interval = bootstrap_interval(counted)
    shown = _score(float(np.mean(counted)), test.metric) + (
        f" ({_interval(interval, test.metric)})" if interval else ""
    )
    return shown if len(alive) == len(counted) else f"{shown}, {died}"


def death_counts(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[int, int]]:
    """Dead runs and all runs, by (condition, dataset)."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        dead, runs = counts.get(row.key[:2], (0, 0))
        counts[row.key[:2]] = dead + (row.outcome != "converged"), runs + 1
    return counts


def dataset(rows: Sequence[Row], test: Board, validation: Board, baseline: str) -> Table:
    """The conditions on one dataset, best by validation first."""
    anyone = any(score is None for score in test.scores.values())
    metric = test.metric
    header = ["condition", "validation", "test", "95 % interval"]
    header += ["of the converged", "died"] if anyone else []
    header += ["difference to the baseline", "95 % interval", "pairs", "seconds a run"]
    body = []
    for name in validation.by_score():
        counted, alive = test.counted(name), test.converged(name)
        cells = [
            _name(name, baseline),
            _score(float(np.mean(validation.counted(name))), metric),
            _score(float(np.mean(counted)), metric),
            _interval(bootstrap_interval(counted) if alive else None, metric),
        ]
        if anyone:
            dead = len(counted) - len(alive)
            cells += [_score(float(np.mean(alive)) if alive else math.nan, metric), f"{dead} of {len(counted)}"]
        seconds = [row.seconds for row in rows if row.key[:2] == (name, test.dataset)]
        body.append([*cells, *_difference(test, name, baseline), f"{np.mean(seconds):.1f}"])
    return Table(header, body)


def _difference(test: Board, condition: str, baseline: str) -> list[str]:
    found = comparison.difference(test, condition, baseline) if condition != baseline else None
    if found is None:
        return [_NONE] * 3
    dead = f" ({found.dead} dead)" if found.dead else ""
    return [_score(found.mean, test.metric, "+"), _interval(found.interval, test.metric, "+"), f"{found.pairs}{dead}"]


def dataset_text(test: Board) -> str:
    """What the table's numbers are."""
    what = (
        "Accuracy, higher is better." if test.sign > 0 else "Mean absolute error in the data's units, lower is better."
    )
    if None not in test.scores.values():
        return what
    if all(score is None for score in test.scores.values()):
        return f"{what} No run converged."
    counts = f"A dead run counts as {_score(test.worst, test.metric)} on the test split"
    return f"{what} {counts}; in the picture, an arrow is a mean that this takes off the axis."


def overall(rows: Sequence[Row], test: Sequence[Board], validation: Sequence[Board], baseline: str) -> Table:
    """The conditions over all datasets, best by validation first; no rows where nothing can be compared."""
    ranked = {part: comparison.ranking(boards) for part, boards in (("validation", validation), ("test", test))}
    on_test, on_validation = comparison.overall(test, baseline), comparison.overall(validation, baseline)
    if not on_test and not any(ranked.values()):
        return Table([], [])
    header = ["condition", "mean rank, validation", "mean rank, test", "pairs better / same / worse", "p"]
    header += ["corrected p", "corrected p, validation", "died", "died, 95 % interval"]
    body = []
    for name in comparison.in_order(validation):
        cells = [_name(name, baseline)]
        for ranking in ranked.values():
            cells.append(f"{ranking.mean_ranks[ranking.conditions.index(name)]:.2f}" if ranking else _NONE)
        found = on_test.get(name)
        if found:
            cells += [f"{found.better} / {found.same} / {found.worse}", p_value(found.p), p_value(found.corrected)]
            cells.append(p_value(on_validation[name].corrected))
        else:
            cells += [_NONE] * 4
        mine = [row for row in rows if row.condition == name]
        dead = sum(row.outcome != "converged" for row in mine)
        low, high = wilson_interval(dead, len(mine))
        body.append([*cells, f"{dead} of {len(mine)}", f"{100 * low:.0f} to {100 * high:.0f} %"])
    return Table(header, body)


def overall_text(test: Sequence[Board], baseline: str) -> str:
    """What the table of all datasets says, and where there are too few pairs for its tests."""
    compared = comparison.overall(test, baseline)
    text = (
        "Pairs and p are against the baseline on the test split, but for the last p, which is on the validation split."
    )
    if compared:
        pairs = max(each.better + each.same + each.worse for each in compared.values())
        smallest = min(1.0, smallest_p(pairs) * len(compared))
        if smallest >= _TOLD_APART:
            text += (
                f" **Too few pairs to tell anything apart**: with {pairs} pairs each and {len(compared)} compared, "
                f"the smallest corrected p that can come out is {p_value(smallest)}."
            )
    return text


def speeds(rows: Sequence[Row], validation: Sequence[Board], conditions: Sequence[str], baseline: str) -> Table:
    """How soon each condition reaches the level of each dataset; no rows where no dataset has a level."""
    levels = [(each, comparison.level(each, baseline)) for each in validation]
    known = [(each, wanted) for each, wanted in levels if wanted is not None]
    header = ["condition"]
    for each, wanted in known:
        header.append(f"{escape(each.dataset)}: {each.metric.replace('_', ' ')} {_score(wanted, each.metric)}")
    body = []
    for name in conditions:
        cells = [_name(name, baseline)]
        for each, wanted in known:
            found = comparison.speed(rows, name, each, wanted) if name in each.conditions else None
            cells.append(_speed(found) if found else "not run")
        body.append(cells)
    return Table(header, body if known else [])


def _speed(found: comparison.Speed) -> str:
    share = f"{found.reached} of {found.runs}"
    if not math.isfinite(found.epochs):
        return f"never ({share})"
    return f"epoch {found.epochs:g}, {found.seconds:.1f} s ({share})"


# === Why runs died, and where the numbers come from ===


def causes(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The causes of death: a title, where, and an example."""
    found = []
    for cause in comparison.causes(rows):
        title = f"{len(cause.rows)} run{'s' if len(cause.rows) > 1 else ''} {cause.outcome}"
        conditions = _counted([row.condition for row in cause.rows])
        where = f"{conditions}; on {_counted([row.dataset for row in cause.rows])}"
        found.append({"title": title, "where": where, "example": cause.example or "no reason was recorded"})
    return found


def _counted(names: Sequence[str]) -> str:
    """Each name with how often it occurs, the most frequent first."""
    return " · ".join(f"{escape(name)} ({count})" for name, count in Counter(names).most_common())


def origin(rows: Sequence[Row], command: str) -> list[str]:
    """The command, the machine, the versions and the commit; where runs differ in one, it says so."""
    code = "``" if "`" in command else "`"
    lines = [
        f"Command: {code}{command}{code}",
        f"Machine: {_distinct([row.machine for row in rows])}",
        f"Threads a run: {_distinct([str(row.threads) for row in rows])}",
    ]
    ended = sorted(row.environment["ended"] for row in rows if "ended" in row.environment)
    if ended:
        lines.append(f"Runs ended between {escape(ended[0])} and {escape(ended[-1])}")
    same, differing = split_shared([row.environment for row in rows])
    lines.append(f"Commit: {_distinct([row.environment.get('git_commit', 'unknown') for row in rows])}")
    if any(row.environment.get("git_dirty") == "true" for row in rows):
        lines.append(
            "**Files differed from that commit** while runs were made (git_dirty), so they may not be repeatable"
        )
    # MLflow's own names repeat ours.
    apart = {key for key in (*same, *differing) if key.startswith(("git_", "mlflow.")) or key == "ended"}
    alike = [f"{key.removeprefix('version.')} {same[key]}" for key in same if key not in apart]
    lines.append(f"In all runs: {escape(', '.join(alike)) or 'nothing'}")
    for key in differing:
        if key not in apart:
            lines.append(f"{escape(key)}: {_distinct([row.environment.get(key, 'unknown') for row in rows])}")
    return lines


def _distinct(values: Sequence[str]) -> str:
    names = sorted(set(values))
    if len(names) == 1:
        return escape(names[0])
    counted = ", ".join(f"{escape(name)} ({values.count(name)} runs)" for name in names[:4])
    return f"{counted}{', ...' if len(names) > 4 else ''}; **not the same in all runs**"
