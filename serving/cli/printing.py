"""Answers as lines of text: tables for people, JSON for programs."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.client.answers import Prediction

if TYPE_CHECKING:
    from serving.client.bench import Load, Report
    from serving.client.verify import Comparison


def table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Cells in columns, the first row being the names.

    Args:
        rows: As many cells in each.
        sides: For each column `<` (left) or `>` (right).

    Example:
    >>> table([["row", "label"], ["0", "a"]], "><")
    ['row  label', '  0  a']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    return ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip() for row in rows]


def answer_lines(lengths: Sequence[int], predictions: Sequence[Prediction], *, as_json: bool) -> list[str]:
    """A line for every sequence; in a table of answers with steps, one for every step."""
    answers = list(zip(lengths, predictions, strict=True))
    if as_json:
        return [
            json.dumps({"row": row, "length": length, **_plain(prediction)})
            for row, (length, prediction) in enumerate(answers)
        ]
    if any(prediction.steps for _, prediction in answers):
        cells = [
            [str(row), str(step), *_cells(answer)]
            for row, (_, prediction) in enumerate(answers)
            for step, answer in enumerate(prediction.steps)
        ]
        return table([["row", "step", *_names(cells)], *cells], ">><>"[: len(cells[0])])
    cells = [[str(row), str(length), *_cells(prediction)] for row, (length, prediction) in enumerate(answers)]
    return table([["row", "length", *_names(cells)], *cells], ">><>"[: len(cells[0])])


def stream_lines(answers: Iterable[tuple[int, Prediction]], *, as_json: bool) -> Iterator[str]:
    """A line for every answer as soon as it is there: the steps read so far, and what the last of them brought."""
    read = 0
    for length, prediction in answers:
        read += length
        if as_json:
            yield json.dumps({"steps": read, **_plain(prediction)})
        else:
            # In a labelling the last step has the newest label; a forecast is shown whole.
            last = (
                prediction.steps[-1:] if prediction.steps and prediction.steps[-1].probabilities else prediction.steps
            )
            yield "  ".join([f"{read:>6}", *(cell for answer in last or (prediction,) for cell in _cells(answer))])


def comparison_lines(comparisons: "Sequence[Comparison]", *, as_json: bool) -> list[str]:
    """A line for every golden request."""
    if as_json:
        return [
            json.dumps(
                {
                    "record": found.golden.record,
                    "request": found.golden.kind,
                    "signature": found.golden.signature_name,
                    "largest_difference": found.largest,
                    "in": found.where,
                    "problems": list(found.problems),
                }
            )
            for found in comparisons
        ]
    names = ["record", "request", "signature", "largest difference", "in", "answer"]
    rows = [
        [
            str(found.golden.record),
            found.golden.kind,
            found.golden.signature_name,
            f"{found.largest:.1e}" if found.where else "-",
            found.where or "-",
            "; ".join(found.problems) or "equal",
        ]
        for found in comparisons
    ]
    return table([names, *rows], "><<><<")


def _names(cells: Sequence[Sequence[str]]) -> list[str]:
    return ["label", "probability"] if len(cells[0]) == 4 else ["values"]


def _cells(prediction: Prediction) -> list[str]:
    if prediction.values:
        return [" ".join(f"{value:.6g}" for value in prediction.values)]
    has_answer = prediction.class_id >= 0
    return [prediction.label, f"{prediction.probabilities[prediction.class_id]:.4f}" if has_answer else "not finite"]


def _plain(prediction: Prediction) -> dict[str, Any]:
    if prediction.steps:
        steps = [_plain(step) for step in prediction.steps]
        return {name: [step[name] for step in steps] for name in steps[0]}
    if prediction.values:
        return {"values": [_number(value) for value in prediction.values]}
    probabilities = [_number(value) for value in prediction.probabilities]
    return {"label": prediction.label, "class_id": prediction.class_id, "probabilities": probabilities}


def _number(value: float) -> float | None:
    # JSON proper has no NaN; and a float32 needs no more digits than it has.
    return float(str(np.float32(value))) if math.isfinite(value) else None


def report(measured: "Report", load: "Load", batch: float, percentiles: Sequence[float]) -> dict[str, Any]:
    """A bench's report as a JSON object; times in milliseconds."""
    seconds = measured.elapsed or float("nan")
    latencies = {f"p{percent:g}": 1e3 * measured.percentile(percent) for percent in percentiles}
    return {
        "loop": "closed" if load.rate is None else "open",
        "rate": load.rate,
        "clients": load.clients,
        "batch": batch,
        "answered": measured.answered,
        "requests_per_second": measured.answered / seconds,
        "sequences_per_second": batch * measured.answered / seconds,
        "latency_ms": {**latencies, "max": 1e3 * measured.percentile(100)} if measured.answered else {},
        "errors": dict(measured.errors),
        "late": measured.late,
        "latest_ms": 1e3 * measured.latest,
    }


def report_lines(measured: "Report", load: "Load", batch: float, percentiles: Sequence[float]) -> list[str]:
    """A bench's report as lines of text."""
    found = report(measured, load, batch, percentiles)
    if load.rate is None:
        asked = f"closed loop, {load.clients} clients, each sending when it has its last answer"
    else:
        asked = f"open loop, {load.rate:g} requests/s at random moments"
    failed = ", ".join(f"{count} {name}" for name, count in measured.errors.items())
    names = list(found["latency_ms"])
    lines = [
        f"{asked}; {batch:g} sequences a request; {load.seconds:g} s after {load.warmup:g} s of warm-up",
        f"answered  {measured.answered} requests, {found['requests_per_second']:.1f} a second "
        f"({found['sequences_per_second']:.1f} sequences a second)",
        f"failed    {failed or 'none'}",
    ]
    if names:
        values = [f"{found['latency_ms'][name]:.2f}" for name in names]
        lines += table([["ms", *names], ["", *values]], "<" + ">" * len(names))
    return [*lines, *_lateness(measured, load)]


def _lateness(measured: "Report", load: "Load") -> list[str]:
    if load.rate is None or measured.late < 0.01:
        return []
    if measured.late_for_threads > 0.5:
        why = f"all {load.clients} threads were waiting: the server does not keep up (or raise --clients)"
    else:
        why = "this program was late, not the server: lower --rate, or run it on a machine that is free"
    share = f"{measured.late:.0%} of the requests left more than 1 ms late, the worst {1e3 * measured.latest:.1f} ms"
    return [f"late      {share}; {why}"]
