"""The verb `serve`. What it needs is imported when it runs: the command line must answer at once."""

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import click

from serving.cli.refused_flags import refusal
from serving.options import Flag, ServerOptions

if TYPE_CHECKING:
    from serving.server import Server


class ServeCommand(click.Command):
    """A command that names the flags of TensorFlow Serving that it refuses, instead of calling them unknown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for argument in args:
            reason = refusal(argument)
            if reason is not None:
                raise click.UsageError(reason, ctx)
        return super().parse_args(ctx, args)


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"sequence-zoo: {version('sequence-zoo')}\nTensorFlow Library: {version('tensorflow')}")
        ctx.exit()


def parameters(options: type[ServerOptions]) -> Iterator[click.Parameter]:
    """A flag for every field of the options, and `--version`."""
    kinds = get_type_hints(options, include_extras=True)
    for option in fields(options):
        kind, flag = get_args(kinds[option.name])
        yield _parameter(option.name, kind, option.default, flag)
    yield click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it."
    )


def _parameter(name: str, kind: Any, default: Any, flag: Flag) -> click.Option:
    if flag.default is not None:
        default = flag.default
    is_optional = isinstance(kind, UnionType)
    if is_optional:
        kind = get_args(kind)[0]
    more: dict[str, Any] = {}
    if kind is bool:  # `--name`, `--name=true` and `--name=false`
        more = {"is_flag": False, "flag_value": "true"}
    elif kind is int and is_optional:  # on the command line, 0 switches off
        more = {"callback": lambda context, parameter, value: value or None}
    return click.Option(
        [f"--{name}"], type=_kind(kind, flag), default=default, show_default=default is not None, help=flag.help, **more
    )


def _kind(kind: Any, flag: Flag) -> Any:
    if kind is Path:
        return click.Path(file_okay=not flag.is_folder, dir_okay=flag.is_folder, path_type=Path)
    if kind is int:
        return click.IntRange(flag.minimum, flag.maximum)
    return click.FloatRange(flag.minimum, flag.maximum) if kind is float else kind


@click.command(cls=ServeCommand)
def serve(**flags: Any) -> None:
    """Serve models by TensorFlow Serving's REST and gRPC APIs, with TensorFlow Serving's flags."""
    # TensorFlow reads it when its library is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = ServerOptions(**flags)
    _require_sense(options)
    _serve(options)


serve.params.extend(parameters(ServerOptions))


def _require_sense(options: ServerOptions) -> None:
    """Refuse flags that contradict each other, or leave nothing to serve.

    Raises:
        click.UsageError: They do.
    """
    if options.model_base_path is None and options.model_config_file is None:
        raise click.UsageError("give --model_base_path, the folder with a model's versions, or --model_config_file")
    if not (options.port or options.rest_api_port or options.grpc_socket_path):
        raise click.UsageError("--port and --rest_api_port are both 0, so nothing would be served; give one of them")
    if options.port is not None and options.port == options.rest_api_port:
        raise click.UsageError("--rest_api_port cannot be same as --port; give each its own, or 0 to switch one off")
    if options.tensorflow_session_parallelism and (
        options.tensorflow_intra_op_parallelism or options.tensorflow_inter_op_parallelism
    ):
        raise click.UsageError(
            "--tensorflow_session_parallelism sets both others; give it alone, or --tensorflow_intra_op_parallelism "
            "and --tensorflow_inter_op_parallelism"
        )
    if not options.tags:
        raise click.UsageError(
            f"--saved_model_tags got {options.saved_model_tags!r}; give at least one tag, such as serve"
        )


def _serve(options: ServerOptions) -> None:
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
    if not options.xla_cpu_compilation_enabled:
        _disable_xla()
    try:
        server = Server(options)
        server.start()
    except ServingError as error:
        raise ServingError(error.code, f"Failed to start server. Error: {error.described}") from error
    click.echo(_ready_line(server, time.perf_counter() - started))
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


def _ready_line(server: "Server", seconds: float) -> str:
    """The line that says that the server is ready: addresses, versions, the seconds that it took, the page."""
    manager, options = server.manager, server.options
    names = manager.names()
    versions = []
    for name in names:
        numbers = sorted(status.version for status in manager.statuses(name) if status.state.value == "AVAILABLE")
        words = [name] if len(names) > 1 else []
        words += ["version" if len(numbers) == 1 else "versions", ", ".join(map(str, numbers))]
        versions.append(" ".join(words))
    path = f"/v1/models/{names[0]}" if len(names) == 1 else "/v1/models/"
    places = [f"{server.url}{path}"] if options.rest_api_port is not None else []
    if server.grpc_target is not None:
        places.append(f"gRPC {server.grpc_target}")
    if options.grpc_socket_path:
        places.append(f"gRPC unix:{options.grpc_socket_path}")
    page = f"; page: {server.url}/" if options.page and options.rest_api_port is not None else ""
    return f"ready: {', '.join(places)} ({'; '.join(versions)}, {seconds:.1f} s){page}"
