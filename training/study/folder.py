"""The folder of a study: its plan, one file for every run that has ended, and what is made of them.

mlruns/studies/<name>/
    plan.json               what was asked
    runs/<condition>--<dataset>--<seed>.json      a run that has ended
    runs/<condition>--<dataset>--<seed>.started   the id of one that is at work, or was when the study stopped
    logs/                   what the worker processes wrote to standard error
    results.csv, diagnostics.csv, report.md, report.html, pictures/
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from training.files import write_safely
from training.study.design import PlanError, Planned, Study
from training.study.results import Row, read_rows, write_csv, write_diagnostics

STUDIES = Path("mlruns/studies")


class StudyBusy(RuntimeError):
    """Another process is at work on the study."""

    exit_code = 1


class StudyNotFound(LookupError):
    """Nothing has been run under this name."""

    exit_code = 2


class StudyFolder:
    """The files of one study.

    Args:
        path: Made when the study is first run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs, self.logs = path / "runs", path / "logs"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process out while the block runs.

        Raises:
            StudyBusy: Another one is in.
        """
        self.runs.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise StudyBusy(
                f"study {self.path.name!r} is being run by another process, in {self.path}: wait for it or stop it, "
                "or give this one another --name"
            ) from None

    # --- the plan ---

    def keep_plan(self, study: Study, planned: Sequence[Planned], command: str) -> None:
        """Write `plan.json`; a plan that is there may grow, but not change.

        Raises:
            PlanError: Runs were made from a plan that differs, and how.
        """
        cells: dict[str, dict[str, Any]] = {}
        for run in planned:
            config = {key: value for key, value in run.config.flat().items() if key != "seed"}
            cells[run.key.rpartition("--")[0]] = {"condition": run.condition, "dataset": run.dataset, "config": config}
        asked = {"seeds": list(study.all_seeds), "cells": cells}
        text = json.dumps(asked, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        plan = {"study": study.name, "digest": digest, "baseline": study.compared_with, "command": command, **asked}
        path = self.path / "plan.json"
        kept = path.is_file() and any(self.runs.iterdir())
        if kept and (problems := _changes(self.plan(), json.loads(text))):
            shown = "\n".join(f"  {line}" for line in problems[:10])
            more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise PlanError(
                f"{self.path} holds runs of another plan, and a plan may only grow:\n{shown}{more}\n"
                "give this study another --name, or delete that folder"
            )
        write_safely(path, (json.dumps(plan, indent=1) + "\n").encode())

    def plan(self) -> dict[str, Any]:
        """What `keep_plan` wrote.

        Raises:
            StudyNotFound: There is none.
        """
        path = self.path / "plan.json"
        try:
            return dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            known = sorted(found.parent.name for found in self.path.parent.glob("*/plan.json"))
            raise StudyNotFound(
                f"no study has been run in {self.path}; there {'are: ' + ', '.join(known) if known else 'is none yet'}"
            ) from None
        except ValueError as error:
            raise PlanError(f"{path} is damaged ({error}): delete {self.path}, or put the file back") from None

    # --- runs ---

    def rows(self) -> list[Row]:
        """The runs that have ended."""
        return read_rows(self.runs)

    def keep(self, key: str, row: Row) -> None:
        """Write a run that has ended."""
        write_safely(self.runs / f"{key}.json", row.to_json().encode())
        self._started(key).unlink(missing_ok=True)

    def note_start(self, key: str, run_id: str) -> None:
        """Remember which run is at work, so that a later process can resume it."""
        write_safely(self._started(key), run_id.encode())

    def started(self, key: str) -> str | None:
        """The id of the run that was at work when the study stopped, or `None`."""
        path = self._started(key)
        return path.read_text() if path.is_file() else None

    def _started(self, key: str) -> Path:
        return self.runs / f"{key}.started"

    # --- what is made of them ---

    def report(self) -> Path:
        """Write the tables and the report of the runs that have ended; gives the page to open.

        `diagnostics.csv` needs the tracking store, and is left as it is where that does not answer.

        Raises:
            StudyNotFound: There is no study here, or no run of it has ended.
        """
        from training import tracking
        from training.study.report import write_report

        plan, rows = self.plan(), self.rows()
        if not rows:
            raise StudyNotFound(f"no run of {self.path} has ended, so there is nothing to report on")
        write_csv(rows, self.path / "results.csv")
        with suppress(tracking.StoreUnavailable):
            # Under the name that a run had where it was recorded without MLflow, too.
            stored = {
                name: run.metrics for run in tracking.runs() for name in (run.run_id, run.tags.get("recorded_as", ""))
            }
            write_diagnostics(rows, stored, self.path / "diagnostics.csv")
        planned = len(plan["cells"]) * len(plan["seeds"])
        write_report(rows, self.path, plan["study"], plan["baseline"], plan["command"], planned=planned)
        return self.path / "report.html"


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """How the new plan is not merely larger than the old one."""
    gone = sorted(set(old["seeds"]) - set(new["seeds"]))
    problems = [f"seeds {', '.join(map(str, gone))} are left out"] if gone else []
    for key, cell in old["cells"].items():
        where = f"condition {cell['condition']!r} on {cell['dataset']!r}"
        if key not in new["cells"]:
            problems.append(f"{where} is left out")
            continue
        before, now = cell["config"], new["cells"][key]["config"]
        differing = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
        problems += [f"{where}: {n} was {before.get(n)!r}, now {now.get(n)!r}" for n in sorted(differing)]
    return problems
