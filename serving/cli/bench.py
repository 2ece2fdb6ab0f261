"""The verb `bench-serve`. What it needs is imported when it runs: the command line must answer at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli.client import connect_to, connection_options, json_option

if TYPE_CHECKING:
    from serving.client import Client, Request
    from serving.client.bench import Load, Report


@click.command("bench-serve")
@connection_options
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests a second, at random moments whether earlier ones are answered or not.",
)
@click.option(
    "--clients",
    type=click.IntRange(min=1),
    help="Without --rate: clients that each wait for their answer [default: 1]; with it: the most requests "
    "that wait at once [default: 64].",
)
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Seconds.")
@click.option("--warmup", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds before, not counted.")
@click.option("--signature_name", default="serving_default", show_default=True, help="The signature to ask.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences in a request.")
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Steps of a sequence.")
@click.option(
    "--golden",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="MODEL[/VERSION]",
    help="Send the recorded requests of an export instead of random ones.",
)
@click.option("--metrics_url", help="Where the server's metrics are. [default: that of --target, if it is http]")
@click.option("--histogram", is_flag=True, help="Draw the latencies.")
@json_option
def bench_serve(
    rate: float | None,
    clients: int | None,
    duration: float,
    warmup: float,
    signature_name: str,
    batch: int,
    steps: int,
    golden: Path | None,
    metrics_url: str | None,
    histogram: bool,
    as_json: bool,
    **connection: Any,
) -> int:
    """Put a load on a server and measure how long answers take, each from the moment when it was to be sent.

    So a server that stalls cannot hide it by slowing the load down. Ends with 1 where no request was answered.
    """
    import json

    from serving.cli import printing
    from serving.client import bench

    clients = clients or (1 if rate is None else 64)
    load = bench.Load(rate, clients, duration, warmup, connection["timeout"])
    if metrics_url is None and connection["target"].startswith("http"):
        metrics_url = connection["target"].rstrip("/") + "/monitoring/prometheus/metrics"
    # A request that fails must count, not be tried again.
    with connect_to(**connection, retries=0) as client:
        requests, sequences = _bench_requests(client, signature_name, batch, steps, golden)
        before = bench.metrics_of(metrics_url) if metrics_url else ""
        measured = _watched(client, requests, load)
        together = bench.requests_a_batch(before, bench.metrics_of(metrics_url)) if metrics_url else None
    if as_json:
        found = printing.report(measured, load, sequences, bench.PERCENTILES)
        click.echo(json.dumps({**found, "requests_per_run": together}))
        return 0 if measured.answered else 1
    for line in printing.report_lines(measured, load, sequences, bench.PERCENTILES):
        click.echo(line)
    if together is not None:
        click.echo(f"batches   {together:.1f} requests in one run of the server, on average")
    for line in bench.histogram(measured.latencies) if histogram else []:
        click.echo(line)
    return 0 if measured.answered else 1


def _bench_requests(
    client: "Client", signature_name: str, batch: int, steps: int, golden: Path | None
) -> "tuple[list[Request], float]":
    """Encoded requests to send in turn, and the average number of sequences in one."""
    import numpy as np

    from serving.client import bench, verify

    if golden is not None:
        recorded = verify.read_golden(verify.version_folder(golden)[2])
        asked = [
            request for request in recorded if request.kind == "predict" and request.signature_name == signature_name
        ]
        if not asked:
            raise click.UsageError(f"{golden} has no recorded request to {signature_name}; leave --golden out")
        rows = [len(next(iter(request.inputs.values()))) for request in asked]
        return [client.prepare(request.inputs, signature_name) for request in asked], sum(rows) / len(rows)
    signatures = client.metadata().signatures
    if signature_name not in signatures:
        raise click.UsageError(f"the model has no signature {signature_name}; it has {', '.join(sorted(signatures))}")
    rng = np.random.default_rng(0)
    inputs = [bench.random_inputs(signatures[signature_name], batch, steps, rng) for _ in range(8)]
    return [client.prepare(arrays, signature_name) for arrays in inputs], batch


def _watched(client: "Client", requests: "list[Request]", load: "Load") -> "Report":
    """Run a load, with its progress on standard error where that is a terminal. Ctrl-C ends it early."""
    import sys
    import threading
    import time

    from serving.client import bench

    progress = bench.Progress()
    found: list[Report] = []
    thread = threading.Thread(target=lambda: found.append(bench.run(client, requests, load, progress)))
    end = time.monotonic() + load.warmup + load.seconds
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.5)
            if sys.stderr.isatty():
                left = max(end - time.monotonic(), 0.0)
                click.echo(f"\r{left:5.0f} s left, {progress.sent} sent, {progress.failed} failed ", err=True, nl=False)
    except KeyboardInterrupt:
        progress.stop.set()
        thread.join()
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    return found[0]
