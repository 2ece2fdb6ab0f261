"""`zoo ui`: MLflow's pages, served as sparingly as they can be. Heavy imports are made in another process."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import click

HOST = "127.0.0.1"

# Runs from which on the page that compares runs one by one cannot be read, and charts are shown.
_MANY = 20

# Seconds in which the pages must answer; importing MLflow takes most of it.
_PATIENCE = 180.0


class UiNotStarted(RuntimeError):
    """The pages could not be served."""

    exit_code = 1


@click.command()
@click.argument("run_ids", nargs=-1, metavar="[RUN]...")
@click.option("--study", help="The runs of this study.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(run_ids: tuple[str, ...], study: str | None, port: int) -> None:
    """Show runs in MLflow's pages until Ctrl-C.

    RUN is a run id or a unique beginning of one. Without any, all runs are shown. With MLFLOW_TRACKING_URI set to a
    server, only the address of the page is printed.

    \b
    zoo ui 3f2a 81c0
    zoo ui --study relu --port 5001
    """  # noqa: D301  (click reads the backspace character as "keep these lines")
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    remote = uri.startswith(("http://", "https://"))
    base = uri.rstrip("/") if remote else f"http://{HOST}:{port}"
    if not remote:
        _check_free(port)
    click.echo("starting MLflow's pages, which takes some 30 seconds", err=True)
    # What looking up runs imports takes a gigabyte, which is not kept for as long as the pages are served.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        page, store = child.submit(look_up, run_ids, study, base).result()
    if remote:
        click.echo(page)
        return
    with _server(store, port) as server:
        click.echo(f"open {page}")
        click.echo("Ctrl-C ends it", err=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            return
        raise UiNotStarted(f"MLflow's server ended by itself with exit code {server.returncode}")


def look_up(run_ids: Sequence[str], study: str | None, base: str) -> tuple[str, str]:
    """The address of the page that shows the requested runs, and their store."""
    from training import tracking

    return _page(run_ids, study, base), tracking.tracking_uri()


def _page(run_ids: Sequence[str], study: str | None, base: str) -> str:
    from training import tracking

    stored = tracking.runs()
    chosen = [tracking.find(run_id, stored) for run_id in run_ids]
    if study is not None:
        chosen += [run for run in stored if run.tags.get("study") == study and run not in chosen]
    if not chosen and study is not None:
        known = ", ".join(sorted({run.tags["study"] for run in stored if "study" in run.tags})) or "none"
        raise tracking.RunNotFound(f"no run has the study {study!r} in {tracking.shown_uri()}; studies are: {known}")
    if not chosen:
        return tracking.charts_url(stored[0].experiment_id, base=base) if stored else f"{base}/"
    if len(chosen) > _MANY and study is not None:
        return tracking.charts_url(chosen[0].experiment_id, study, base)
    return tracking.compare_url(chosen, base)


def _check_free(port: int) -> None:
    """Raise `UiNotStarted` where something listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just ended is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UiNotStarted(
                f"port {port} of {HOST} is taken ({error.strerror}): end what listens there, or choose another with "
                "--port"
            ) from error


@contextmanager
def _server(uri: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """MLflow's server, answering; it ends with the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    # One worker and none of the processes that run MLflow's jobs: a sixth of the memory.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [*command, "--host", HOST, "--port", str(port), "--workers", "1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which ends all of the other's
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _await(server, f"http://{HOST}:{port}/health")
        yield server
    finally:
        _end(server)


def _await(server: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise UiNotStarted(
        f"MLflow's server does not answer at {address} (exit code {server.poll()}). To see what it says, start it "
        "yourself: mlflow server --backend-store-uri sqlite:///mlruns/mlflow.db"
    )


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and what it has started."""
    for ask in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, ask)
            server.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
