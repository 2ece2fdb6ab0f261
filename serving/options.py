"""The options of the local server: TensorFlow Serving's flags as one frozen object.

A flag is a field here and nothing else: `zoo serve` makes its command line from these fields.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from serving.runtime.options import Options

_CORES = os.cpu_count() or 1
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Flag:
    """The rest of a command-line option, beside its name, type and default.

    Attributes:
        help: One line for `zoo serve --help`.
        minimum: The smallest number that is accepted; None for any.
        maximum: The largest number that is accepted; None for any.
        is_folder: Whether a path names a folder; a file otherwise.
        default: The command line's default, where it differs from that of a program.
    """

    help: str
    minimum: int | None = None
    maximum: int | None = None
    is_folder: bool = False
    default: Any = None


@dataclass(frozen=True)
class ServerOptions:
    """Which models are served, and how. Names, types and defaults are TensorFlow Serving's, but for a few.

    Each field has its own help. A port of 0 is chosen by the system and None switches its API off; on the command
    line, 0 switches it off.
    """

    model_name: Annotated[str, Flag("The model's name in requests.")] = "default"
    model_base_path: Annotated[
        Path | None,
        Flag("The folder with the versions of the one model; not read beside --model_config_file.", is_folder=True),
    ] = None
    model_config_file: Annotated[
        Path | None, Flag("Many models, instead of these two: a ModelServerConfig as text.")
    ] = None
    model_config_file_poll_wait_seconds: Annotated[
        float, Flag("Seconds between two looks at that file; 0 reads it only once.", minimum=0)
    ] = 0
    host: Annotated[str, Flag("The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[
        int | None, Flag("The port for gRPC; 0 switches gRPC off.", minimum=0, maximum=_HIGHEST_PORT, default=8500)
    ] = None
    grpc_socket_path: Annotated[str, Flag("A UNIX socket for gRPC, beside the port.")] = ""
    grpc_max_threads: Annotated[int, Flag("gRPC calls worked on at once.", minimum=1)] = 4 * _CORES
    grpc_channel_arguments: Annotated[str, Flag("key=value between commas, for gRPC's server.")] = ""
    ssl_config_file: Annotated[Path | None, Flag("TLS for gRPC: an SSLConfig as text.")] = None
    enable_grpc_healthcheck_service: Annotated[bool, Flag("Offer gRPC's health service.")] = False
    enable_serialization_as_tensor_content: Annotated[
        bool, Flag("Send the numbers of gRPC predict answers as bytes instead of as typed fields.")
    ] = False
    rest_api_port: Annotated[
        int | None, Flag("The port for REST; 0 switches REST off.", minimum=0, maximum=_HIGHEST_PORT)
    ] = 8501
    rest_api_num_threads: Annotated[int, Flag("REST requests worked on at once.", minimum=1)] = 4 * _CORES
    rest_api_timeout_in_ms: Annotated[int, Flag("How long one run of a REST request may take.", minimum=1)] = 30_000
    rest_api_enable_cors_support: Annotated[bool, Flag("Send the headers that let web pages of other origins ask.")] = (
        False
    )
    page: Annotated[bool, Flag("Serve a page about the models at / on the REST port; TensorFlow Serving has none.")] = (
        True
    )
    monitoring_config_file: Annotated[
        Path | None, Flag("Prometheus metrics on the REST port: a MonitoringConfig as text.")
    ] = None
    file_system_poll_wait_seconds: Annotated[
        float, Flag("Seconds between two looks for versions; 0 looks only once.", minimum=0)
    ] = 1
    max_num_load_retries: Annotated[int, Flag("How often a version that failed to load is tried again.", minimum=0)] = 5
    load_retry_interval_micros: Annotated[int, Flag("Microseconds between two of these tries.", minimum=0)] = 60_000_000
    num_load_threads: Annotated[int, Flag("Versions loaded at once; 0 loads one after the other.", minimum=0)] = 0
    num_unload_threads: Annotated[int, Flag("Versions freed at once; 0 means one.", minimum=0)] = 0
    allow_version_labels_for_unavailable_models: Annotated[
        bool, Flag("Accept new labels for versions that are not loaded yet.")
    ] = False
    enable_model_warmup: Annotated[bool, Flag("Play a version's warm-up requests before it is served.")] = True
    num_request_iterations_for_warmup: Annotated[
        int, Flag("How often each of them is played; 0 means once.", minimum=0)
    ] = 0
    enable_batching: Annotated[bool, Flag("Run requests together that arrive together.")] = False
    batching_parameters_file: Annotated[Path | None, Flag("How to batch: BatchingParameters as text.")] = None
    enable_per_model_batching_parameters: Annotated[
        bool, Flag("Read how to batch from batching_params.pbtxt in a version's folder.")
    ] = False
    enable_signature_method_name_check: Annotated[
        bool,
        Flag("Check the method names of signatures; leave it off: TensorFlow 2 marks every signature for predict."),
    ] = False
    xla_cpu_compilation_enabled: Annotated[
        bool, Flag("Let XLA compile signatures. Only the command line switches XLA off, for its whole process.")
    ] = False
    saved_model_tags: Annotated[str, Flag("Tags of the graph, between commas.")] = "serve"
    tensorflow_session_parallelism: Annotated[
        int, Flag("Threads within and across operations, instead of the next two; 0 lets TensorFlow choose.", minimum=0)
    ] = 0
    tensorflow_intra_op_parallelism: Annotated[int, Flag("Threads within operations.", minimum=0)] = 0
    tensorflow_inter_op_parallelism: Annotated[
        int, Flag("Threads across operations; -1 runs a request in the thread that received it.", minimum=-1)
    ] = 0

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in `saved_model_tags`."""
        return tuple(tag.strip() for tag in self.saved_model_tags.split(",") if tag.strip())

    @property
    def runtime(self) -> Options:
        """How a version is loaded."""
        return Options(
            tags=self.tags,
            intra_op_threads=self.tensorflow_session_parallelism or self.tensorflow_intra_op_parallelism,
            inter_op_threads=self.tensorflow_session_parallelism or self.tensorflow_inter_op_parallelism,
        )
