"""The verb `serve`. What it needs is imported when it runs: the command line must answer at once."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from serving.options import ServerOptions
    from serving.server import Server

_COUNT = click.IntRange(min=0)
_PORT = click.IntRange(0, 65535)
_FILE = click.Path(dir_okay=False, path_type=Path)


class ServeCommand(click.Command):
    """A command that names the flags of TensorFlow Serving that it refuses, instead of calling them unknown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from serving.cli.refused_flags import refusal

        for argument in args:
            reason = refusal(argument)
            if reason is not None:
                raise click.UsageError(reason, ctx)
        return super().parse_args(ctx, args)


def _flag(name: str, kind: Any, default: Any, text: str, **more: Any) -> Any:
    return click.option(f"--{name}", type=kind, default=default, show_default=default is not None, help=text, **more)


def _switch(name: str, default: bool, text: str) -> Any:
    """`--name`, `--name=true` and `--name=false`."""
    return _flag(name, click.BOOL, default, text, is_flag=False, flag_value="true")


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"sequence-zoo: {version('sequence-zoo')}\nTensorFlow Library: {version('tensorflow')}")
        ctx.exit()


_FLAGS = [
    _flag("model_name", str, "default", "The model's name in requests."),
    _flag("model_base_path", click.Path(file_okay=False, path_type=Path), None, "The folder with its versions."),
    _flag("model_config_file", _FILE, None, "Many models, instead of these two: a ModelServerConfig as text."),
    _flag("model_config_file_poll_wait_seconds", _COUNT, 0, "Seconds between two looks at it; 0 reads it once."),
    _flag("host", str, "127.0.0.1", "The address to listen on; 0.0.0.0 for all."),
    _flag("port", _PORT, 8500, "The port for gRPC; 0 switches gRPC off."),
    _flag("grpc_socket_path", str, "", "A UNIX socket for gRPC."),
    _flag("grpc_max_threads", click.IntRange(min=1), 4 * (os.cpu_count() or 1), "gRPC calls worked on at once."),
    _flag("grpc_channel_arguments", str, "", "key=value between commas, for gRPC's server."),
    _flag("ssl_config_file", _FILE, None, "TLS for gRPC: an SSLConfig as text."),
    _switch("enable_grpc_healthcheck_service", False, "gRPC's health service."),
    _switch("enable_serialization_as_tensor_content", False, "gRPC predict answers carry tensors as bytes."),
    _flag("rest_api_port", _PORT, 8501, "The port for REST; 0 switches REST off."),
    _flag("rest_api_num_threads", click.IntRange(min=1), 4 * (os.cpu_count() or 1), "REST requests worked on at once."),
    _flag("rest_api_timeout_in_ms", click.IntRange(min=1), 30_000, "How long one REST request may take."),
    _switch("rest_api_enable_cors_support", False, "Headers for web pages of other origins."),
    _switch("page", True, "A page about the models at / on the REST port."),
    _flag("monitoring_config_file", _FILE, None, "Prometheus metrics: a MonitoringConfig as text."),
    _flag("file_system_poll_wait_seconds", _COUNT, 1, "Seconds between two looks for versions; 0 looks once."),
    _flag("max_num_load_retries", _COUNT, 5, "Tries after a failed load."),
    _flag("load_retry_interval_micros", _COUNT, 60_000_000, "Microseconds between these tries."),
    _flag("num_load_threads", _COUNT, 0, "Versions loaded at once; 0 loads one after the other."),
    _flag("num_unload_threads", _COUNT, 0, "Versions freed at once; 0 is one."),
    _switch("allow_version_labels_for_unavailable_models", False, "New labels may name versions not loaded yet."),
    _switch("enable_model_warmup", True, "Play a version's warm-up requests before it is served."),
    _flag("num_request_iterations_for_warmup", _COUNT, 0, "How often each is played; 0 is once."),
    _switch("enable_batching", False, "Requests that arrive together run together."),
    _flag("batching_parameters_file", _FILE, None, "How: BatchingParameters as text."),
    _switch("enable_per_model_batching_parameters", False, "How: batching_params.pbtxt in a version's folder."),
    _switch("enable_signature_method_name_check", False, "Check the method names of signatures; not for TensorFlow 2."),
    _switch("xla_cpu_compilation_enabled", False, "Let signatures be compiled by XLA."),
    _flag("saved_model_tags", str, "serve", "Tags of the graph, between commas."),
    _flag("tensorflow_session_parallelism", _COUNT, 0, "Threads within and across operations; 0: TensorFlow chooses."),
    _flag("tensorflow_intra_op_parallelism", _COUNT, 0, "Threads within operations."),
    _flag(
        "tensorflow_inter_op_parallelism",
        click.IntRange(min=-1),
        0,
        "Threads across operations; -1 runs a request in the thread that received it.",
    ),
    click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it."),
]  # fmt: skip


def _with_flags(command: Any) -> Any:
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


@click.command(cls=ServeCommand)
@_with_flags
def serve(
    xla_cpu_compilation_enabled: bool,
    saved_model_tags: str,
    tensorflow_session_parallelism: int,
    tensorflow_intra_op_parallelism: int,
    tensorflow_inter_op_parallelism: int,
    **flags: Any,
) -> None:
    """Serve models by TensorFlow Serving's REST and gRPC APIs, with TensorFlow Serving's flags."""
    # TensorFlow reads it when its library is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if flags["model_base_path"] is None and flags["model_config_file"] is None:
        raise click.UsageError("give --model_base_path, the folder with a model's versions, or --model_config_file")
    if not (flags["port"] or flags["rest_api_port"] or flags["grpc_socket_path"]):
        raise click.UsageError("--port and --rest_api_port are both 0, so nothing would be served; give one of them")
    if flags["port"] == flags["rest_api_port"] != 0:
        raise click.UsageError("--rest_api_port cannot be same as --port; give each its own, or 0 to switch one off")
    if tensorflow_session_parallelism and (tensorflow_intra_op_parallelism or tensorflow_inter_op_parallelism):
        raise click.UsageError(
            "--tensorflow_session_parallelism sets both others; give it alone, or --tensorflow_intra_op_parallelism "
            "and --tensorflow_inter_op_parallelism"
        )
    tags = tuple(tag.strip() for tag in saved_model_tags.split(",") if tag.strip())
    if not tags:
        raise click.UsageError(f"--saved_model_tags got {saved_model_tags!r}; give at least one tag, such as serve")
    from serving.options import ServerOptions
    from serving.runtime.model import Options

    runtime = Options(
        tags=tags,
        intra_op_threads=tensorflow_session_parallelism or tensorflow_intra_op_parallelism,
        inter_op_threads=tensorflow_session_parallelism or tensorflow_inter_op_parallelism,
    )
    # To a server that a program makes, port 0 is one that the system chooses.
    ports = {name: flags[name] or None for name in ("port", "rest_api_port")}
    _serve(ServerOptions(**{**flags, **ports}, runtime=runtime), allow_xla=xla_cpu_compilation_enabled)


def _serve(options: "ServerOptions", *, allow_xla: bool) -> None:
    import logging
    import signal
    import threading
    import time

    from serving.errors import ServingError
    from serving.server import Server

    started = time.perf_counter()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not allow_xla:
        _disable_xla()
    try:
        server = Server(options)
        server.start()
    except ServingError as error:
        raise ServingError(error.code, f"Failed to start server. Error: {error.described}") from error
    page = options.page and options.rest_api_port is not None
    shown = f"; page: {server.url}/" if page else ""
    click.echo(f"ready: {_described(server)}, {time.perf_counter() - started:.1f} s){shown}")
    try:
        stop.wait()
    finally:
        server.stop()


def _disable_xla() -> None:
    import logging

    from serving.runtime import capi

    try:
        is_disabled = capi.disable_xla()
    except capi.LibraryUnavailable:
        is_disabled = False
    if not is_disabled:
        logging.getLogger(__name__).warning(
            "XLA cannot be switched off in this installation; a signature that needs it works here, and not in "
            "TensorFlow Serving without --xla_cpu_compilation_enabled"
        )


def _described(server: "Server") -> str:
    """Where what is served, with a bracket that is left open: `http://... and gRPC 127.0.0.1:8500 (version 1`."""
    manager = server.manager
    names = manager.names()
    versions = []
    for name in names:
        numbers = sorted(status.version for status in manager.statuses(name) if status.state.value == "AVAILABLE")
        words = [name] if len(names) > 1 else []
        words += ["version" if len(numbers) == 1 else "versions", ", ".join(map(str, numbers))]
        versions.append(" ".join(words))
    path = f"/v1/models/{names[0]}" if len(names) == 1 else "/v1/models/"
    places = [f"{server.url}{path}"] if server.options.rest_api_port is not None else []
    if server.grpc_target is not None:
        places.append(f"gRPC {server.grpc_target}")
    if server.options.grpc_socket_path:
        places.append(f"gRPC unix:{server.options.grpc_socket_path}")
    return f"{', '.join(places)} ({'; '.join(versions)}"
