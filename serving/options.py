"""What the local server is told: the flags of TensorFlow Serving as one frozen object."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from serving.runtime.model import Options


@dataclass(frozen=True)
class ServerOptions:
    """What is served and how; the names are those of TensorFlow Serving's flags.

    Attributes:
        model_base_path: The folder with the versions of the one model; not read if there is a `model_config_file`.
        model_name: That model's name in requests.
        model_config_file: A `ModelServerConfig` as text, with many models.
        model_config_file_poll_wait_seconds: Seconds between two looks at that file; 0 reads it only once.
        host: The address to listen on.
        port: The port for gRPC; 0 lets the system choose, None switches gRPC off.
        rest_api_port: The port for REST; 0 lets the system choose, None switches REST off.
        rest_api_num_threads: How many REST requests are worked on at once.
        rest_api_timeout_in_ms: How long one run of a REST request may take.
        rest_api_enable_cors_support: Whether answers carry headers for pages of other origins.
        grpc_socket_path: A UNIX socket for gRPC, next to the port; empty for none.
        grpc_max_threads: How many gRPC calls are worked on at once.
        grpc_channel_arguments: `key=value` between commas, for gRPC's server.
        ssl_config_file: An `SSLConfig` as text, which makes the gRPC port a TLS port.
        enable_grpc_healthcheck_service: Whether gRPC's health service is there.
        enable_serialization_as_tensor_content: Whether gRPC predict answers carry tensors as bytes.
        enable_signature_method_name_check: Whether classify and regress look at a signature's method name.
        monitoring_config_file: A `MonitoringConfig` as text, which may switch Prometheus metrics on, on the REST port.
        page: Whether the REST port serves a page about the models at `/`; TensorFlow Serving has none.
        file_system_poll_wait_seconds: Seconds between two looks for versions; 0 looks only once.
        max_num_load_retries: How often a version that failed to load is tried again.
        load_retry_interval_micros: Microseconds between two tries.
        num_load_threads: Versions that are loaded at once; 0 loads one after the other between two looks.
        num_unload_threads: Versions that are freed at once; 0 is one.
        allow_version_labels_for_unavailable_models: Whether a new label may name a version that is not loaded yet.
        enable_model_warmup: Whether the warm-up requests of a version are played before it is served.
        num_request_iterations_for_warmup: How often each is played, if positive; else once.
        enable_batching: Whether requests that arrive together run together.
        batching_parameters_file: `BatchingParameters` as text.
        enable_per_model_batching_parameters: Whether those are read from `batching_params.pbtxt` in a version's folder.
        runtime: How a version is loaded.
    """

    model_base_path: Path | None = None
    model_name: str = "default"
    model_config_file: Path | None = None
    model_config_file_poll_wait_seconds: float = 0
    host: str = "127.0.0.1"
    port: int | None = None
    rest_api_port: int | None = 8501
    rest_api_num_threads: int = 4 * (os.cpu_count() or 1)
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    grpc_socket_path: str = ""
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    grpc_channel_arguments: str = ""
    ssl_config_file: Path | None = None
    enable_grpc_healthcheck_service: bool = False
    enable_serialization_as_tensor_content: bool = False
    enable_signature_method_name_check: bool = False
    monitoring_config_file: Path | None = None
    page: bool = True
    file_system_poll_wait_seconds: float = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    num_load_threads: int = 0
    num_unload_threads: int = 0
    allow_version_labels_for_unavailable_models: bool = False
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    enable_batching: bool = False
    batching_parameters_file: Path | None = None
    enable_per_model_batching_parameters: bool = False
    runtime: Options = field(default_factory=Options)
