"""The verbs of clients. What they need is imported when they run: the command line must answer at once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from serving.client import Client, Metadata

Command = Callable[..., Any]


_TLS_FILES = {
    "ca_file": "Certificates to trust, in PEM; for https and grpcs.",
    "cert_file": "The client's own certificate, in PEM, for servers that ask for one.",
    "key_file": "Its key, in PEM; without it, in --cert_file too.",
}


def tls_options(command: Command) -> Command:
    """The options of every verb that can ask a server by TLS."""
    for name, text in reversed(_TLS_FILES.items()):
        command = click.option(f"--{name}", type=click.Path(exists=True, dir_okay=False), help=text)(command)
    return command


def connection_options(command: Command) -> Command:
    """The options of every verb that asks one model of a server."""
    options: list[Callable[[Command], Command]] = [
        click.option(
            "--target",
            default="http://127.0.0.1:8501",
            show_default=True,
            help="Where the server listens: http(s)://HOST:PORT, HOST:PORT (gRPC), grpcs://HOST:PORT or unix:PATH.",
        ),
        click.option("--model_name", required=True, help="The model's name on the server."),
        click.option("--version", type=click.IntRange(min=0), help="The version to ask; without it, the newest."),
        click.option("--label", help="The label of the version to ask, such as stable."),
        click.option("--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
                     help="Seconds for the whole call."),
        tls_options,
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def connect_to(target: str, model_name: str, version: int | None, label: str | None, **options: Any) -> "Client":
    """The client that these options describe."""
    from serving.client import connect

    if version is not None and label is not None:
        raise click.UsageError("--label is a name for a version; give it or --version")
    return connect(target, model_name, version=version, label=label, **options)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.command()
@connection_options
@json_option
@click.option(
    "--stream",
    "chunk",
    type=click.IntRange(min=1),
    metavar="N",
    help="Send one sequence N steps (of a text, characters) at a time, and print an answer after each. From - every "
    "line is a step, and answers come as the lines do.",
)
@click.argument("input_file", metavar="INPUT")
def predict(as_json: bool, chunk: int | None, input_file: str, **connection: Any) -> None:
    """Ask a model about the sequences in INPUT: a .npy, .npz, .json or .txt file, or - for JSON on standard input."""
    from serving.cli.printing import answer_lines, stream_lines
    from serving.client.sequences import check_sequences, check_texts, read_sequences

    with connect_to(**connection) as client:
        if chunk is not None:
            from serving.client import StreamingSession
            from serving.client.sequences import read_chunks

            session = StreamingSession(client)
            chunks = read_chunks(input_file, chunk, text=session.takes_text)
            for line in stream_lines(((len(piece), session.step(piece)) for piece in chunks), as_json=as_json):
                click.echo(line)
            return
        read = read_sequences(input_file)
        sequences: list[Any] = check_texts(read) if read and isinstance(read[0], str) else check_sequences(read)
        predictions = client.predict(sequences)
    for line in answer_lines([len(sequence) for sequence in sequences], predictions, as_json=as_json):
        click.echo(line)


@click.command()
@connection_options
@json_option
@click.option("--signature_name", default="classify", show_default=True, help="The signature to ask.")
@click.argument("input_file", metavar="INPUT")
def classify(as_json: bool, signature_name: str, input_file: str, **connection: Any) -> None:
    """Classify the sequences or texts in INPUT by TensorFlow Serving's Classify, each sent as a tf.Example."""
    import json

    from serving.cli.printing import table
    from serving.client.sequences import read_sequences

    sequences = read_sequences(input_file)
    with connect_to(**connection) as client:
        rows = client.classify(sequences, signature_name)
    if as_json:
        for row, classes in enumerate(rows):
            click.echo(
                json.dumps({"row": row, "classes": [{"label": label, "score": score} for label, score in classes]})
            )
        return
    cells = [["row", "label", "score"]]
    for row, classes in enumerate(rows):
        label, score = max(classes, key=lambda pair: pair[1])
        cells.append([str(row), label, f"{score:.4f}"])
    for line in table(cells, "><>"):
        click.echo(line)


@click.command()
@connection_options
@json_option
def status(as_json: bool, **connection: Any) -> int:
    """Print the versions of a model and their states; exits with 1 where none is available."""
    import dataclasses
    import json

    from serving.cli.printing import table

    with connect_to(**connection) as client:
        states = client.status()
    if as_json:
        for state in states:
            click.echo(json.dumps(dataclasses.asdict(state)))
    else:
        rows = [[str(state.version), state.state, state.error] for state in states]
        for line in table([["version", "state", "error"], *rows], "><<"):
            click.echo(line)
    return 0 if any(state.state == "AVAILABLE" for state in states) else 1


@click.command()
@connection_options
@json_option
def metadata(as_json: bool, **connection: Any) -> None:
    """Print the signatures of a model: names, types and shapes of what goes in and comes out."""
    import json

    from serving.cli.printing import table

    with connect_to(**connection) as client:
        found = client.metadata()
    rows = list(_tensors(found))
    if as_json:
        names = ("signature", "direction", "name", "dtype", "shape")
        tensors = [dict(zip(names, row, strict=True)) for row in rows]
        click.echo(json.dumps({"model_name": found.model_name, "version": found.version, "tensors": tensors}))
        return
    click.echo(f"{found.model_name}, version {found.version}")
    shown = [[*row[:4], "unknown" if row[4] is None else str(["?" if size is None else size for size in row[4]])]
             for row in rows]  # fmt: skip
    cells = [["signature", "", "name", "dtype", "shape"], *[[cell.replace("'", "") for cell in row] for row in shown]]
    for line in table(cells, "<<<<<"):
        click.echo(line)


def _tensors(found: "Metadata") -> Iterator[list[Any]]:
    for signature_name, signature in sorted(found.signatures.items()):
        if signature_name.startswith("__"):
            continue  # TensorFlow's own
        for direction, tensors in (("in", signature.inputs), ("out", signature.outputs)):
            for name, spec in tensors.items():
                yield [signature_name, direction, name, spec.dtype.name, spec.shape and list(spec.shape)]


@click.command()
@click.option("--target", help="The server to ask; without it, the model is loaded into this process.")
@click.option("--model_name", help="The model's name on the server; without it, that of the folder.")
@click.option("--atol", type=click.FloatRange(0), help="Absolute difference allowed.  [default: 1e-06]")
@click.option("--rtol", type=click.FloatRange(0), help="Relative difference allowed.  [default: 1e-05]")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True,
              help="Seconds for one request.")  # fmt: skip
@tls_options
@json_option
@click.argument("path", metavar="MODEL[/VERSION]", type=click.Path(exists=True, file_okay=False, path_type=Path))
def verify(
    target: str | None,
    model_name: str | None,
    atol: float | None,
    rtol: float | None,
    timeout: float,
    as_json: bool,
    path: Path,
    **tls: str | None,
) -> int:
    """Replay the golden requests of an exported version and compare every output; exits with 1 where one differs.

    MODEL is models/NAME; without /VERSION its newest version is meant. A server is asked for that very version.
    """
    import contextlib
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from serving.cli.printing import comparison_lines
    from serving.client import verify as verifying

    name, version, folder = verifying.version_folder(path)
    golden = verifying.read_golden(folder)
    with contextlib.ExitStack() as stack:
        if target is None:
            ask = stack.enter_context(verifying.ask_here(folder))
        else:
            asked = connect_to(target, model_name or name, version, None, timeout=timeout, **tls)
            client = stack.enter_context(asked)
            ask = verifying.ask_server(client)
        atol = verifying.ATOL if atol is None else atol
        rtol = verifying.RTOL if rtol is None else rtol
        found = [verifying.check(request, ask, atol=atol, rtol=rtol) for request in golden]
    for line in comparison_lines(found, as_json=as_json):
        click.echo(line)
    wrong = sum(bool(comparison.problems) for comparison in found)
    if not as_json:
        where = target or "this process"
        click.echo(
            f"{len(found) - wrong} of {len(found)} answers of {name}, version {version}, by {where} are the golden ones"
        )
    return 1 if wrong else 0
