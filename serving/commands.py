"""The verbs `serve` and `predict`. What they need is imported when they run: the command line must answer at once."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from serving.client import Prediction
    from serving.server import ServerOptions


class ServeCommand(click.Command):
    """A command that names the flags of TensorFlow Serving that it refuses, instead of calling them unknown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from serving.flags import refusal

        for argument in args:
            reason = refusal(argument)
            if reason is not None:
                raise click.UsageError(reason, ctx)
        return super().parse_args(ctx, args)


def _port(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    if value == 0:
        raise click.UsageError("--rest_api_port 0 switches REST off, and REST is all that is served here", ctx)
    return value


_COUNT = click.IntRange(min=0)


@click.command(cls=ServeCommand)
@click.option("--model_name", default="default", show_default=True, help="The model's name in requests.")
@click.option(
    "--model_base_path",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder with the versions: models/NAME.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option(
    "--rest_api_port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    callback=_port,
    help="The port to listen on.",
)
@click.option(
    "--rest_api_num_threads",
    type=click.IntRange(min=1),
    default=4 * (os.cpu_count() or 1),
    show_default="4 per core",
    help="How many requests are worked on at once.",
)
@click.option(
    "--rest_api_timeout_in_ms",
    type=click.IntRange(min=1),
    default=30_000,
    show_default=True,
    help="How long one request may take.",
)
@click.option(
    "--file_system_poll_wait_seconds",
    type=_COUNT,
    default=1,
    show_default=True,
    help="Seconds between two looks for a new version; 0 looks once.",
)
@click.option("--max_num_load_retries", type=_COUNT, default=5, show_default=True, help="Tries after a failed load.")
@click.option(
    "--load_retry_interval_micros",
    type=_COUNT,
    default=60_000_000,
    show_default=True,
    help="Microseconds between these tries.",
)
@click.option(
    "--tensorflow_session_parallelism",
    type=_COUNT,
    default=0,
    show_default=True,
    help="Threads within and across operations; 0 lets TensorFlow choose.",
)
@click.option("--tensorflow_intra_op_parallelism", type=_COUNT, default=0, show_default=True, help="Threads within.")
@click.option("--tensorflow_inter_op_parallelism", type=_COUNT, default=0, show_default=True, help="Threads across.")
@click.option("--saved_model_tags", default="serve", show_default=True, help="Tags of the graph, between commas.")
def serve(
    tensorflow_session_parallelism: int,
    tensorflow_intra_op_parallelism: int,
    tensorflow_inter_op_parallelism: int,
    saved_model_tags: str,
    **flags: object,
) -> None:
    """Serve the newest version of a model by TensorFlow Serving's REST API, with TensorFlow Serving's flags."""
    # TensorFlow reads it when its library is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from serving.runtime import Options
    from serving.server import ServerOptions

    if tensorflow_session_parallelism and (tensorflow_intra_op_parallelism or tensorflow_inter_op_parallelism):
        raise click.UsageError(
            "--tensorflow_session_parallelism sets both others; give it alone, or --tensorflow_intra_op_parallelism "
            "and --tensorflow_inter_op_parallelism"
        )
    tags = tuple(tag.strip() for tag in saved_model_tags.split(",") if tag.strip())
    if not tags:
        raise click.UsageError(f"--saved_model_tags got {saved_model_tags!r}; give at least one tag, such as serve")
    options = Options(
        tags=tags,
        intra_op_threads=tensorflow_session_parallelism or tensorflow_intra_op_parallelism,
        inter_op_threads=tensorflow_session_parallelism or tensorflow_inter_op_parallelism,
    )
    _serve(ServerOptions(**flags, runtime=options))  # type: ignore[arg-type]


def _serve(options: "ServerOptions") -> None:
    import logging
    import signal
    import threading
    import time

    from serving.server import Server

    started = time.perf_counter()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(options)
    version = server.start()
    seconds = time.perf_counter() - started
    url = f"{server.url}/v1/models/{options.model_name}"
    click.echo(f"ready: {url} (version {version}, {seconds:.1f} s)")
    try:
        stop.wait()
    finally:
        server.stop()


@click.command()
@click.option("--target", default="http://127.0.0.1:8501", show_default=True, help="Where the server listens.")
@click.option("--model_name", required=True, help="The model's name on the server.")
@click.option("--version", type=click.IntRange(min=0), help="The version to ask; without it, the one that is served.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per sequence instead of a table.")
@click.argument("input_file", metavar="INPUT")
def predict(target: str, model_name: str, version: int | None, as_json: bool, input_file: str) -> None:
    """Classify the sequences in INPUT: a .npy, .npz or .json file, or - for JSON on standard input."""
    from serving.client import RestClient
    from serving.sequences import check_sequences, read_sequences

    sequences = check_sequences(read_sequences(input_file))
    with RestClient(target, model_name, version=version) as client:
        predictions = client.predict(sequences)
    lengths = [len(sequence) for sequence in sequences]
    lines = _json_lines(lengths, predictions) if as_json else _table(lengths, predictions)
    for line in lines:
        click.echo(line)


def _json_lines(lengths: list[int], predictions: "list[Prediction]") -> list[str]:
    import json
    import math

    return [
        json.dumps(
            {
                "row": row,
                "length": length,
                "label": prediction.label,
                "class_id": prediction.class_id,
                # JSON proper has no NaN.
                "probabilities": [value if math.isfinite(value) else None for value in prediction.probabilities],
            }
        )
        for row, (length, prediction) in enumerate(zip(lengths, predictions, strict=True))
    ]


def _table(lengths: list[int], predictions: "list[Prediction]") -> list[str]:
    rows = [("row", "length", "label", "probability")]
    for row, (length, prediction) in enumerate(zip(lengths, predictions, strict=True)):
        has_answer = prediction.class_id >= 0
        probability = f"{prediction.probabilities[prediction.class_id]:.4f}" if has_answer else "not finite"
        rows.append((str(row), str(length), prediction.label, probability))
    widths = [max(len(cells[column]) for cells in rows) for column in range(4)]
    return [
        f"{number:>{widths[0]}}  {length:>{widths[1]}}  {label:<{widths[2]}}  {probability:>{widths[3]}}"
        for number, length, label, probability in rows
    ]
