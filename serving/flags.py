"""The flags of TensorFlow Serving that the local server refuses, and why."""

_GRPC = "only REST is served here"
_BATCHING = "requests are not batched here; send several sequences in one request"
_ONE_MODEL = "one model is served, named by --model_name and --model_base_path"
_OTHER = "this server does not have it"

REFUSED: dict[str, str] = {
    "port": _GRPC,
    "grpc_socket_path": _GRPC,
    "grpc_channel_arguments": _GRPC,
    "grpc_max_threads": _GRPC,
    "enable_grpc_healthcheck_service": _GRPC,
    "enable_serialization_as_tensor_content": _GRPC,
    "ssl_config_file": _GRPC,
    "enable_batching": _BATCHING,
    "batching_parameters_file": _BATCHING,
    "enable_per_model_batching_parameters": _BATCHING,
    "allow_version_labels_for_unavailable_models": _ONE_MODEL,
    "model_config_file": _ONE_MODEL,
    "model_config_file_poll_wait_seconds": _ONE_MODEL,
    "platform_config_file": _ONE_MODEL,
    "num_load_threads": _ONE_MODEL,
    "num_unload_threads": _ONE_MODEL,
    "enable_model_warmup": "warm-up records are not played here",
    "num_request_iterations_for_warmup": "warm-up records are not played here",
    "monitoring_config_file": "there are no metrics here",
    "rest_api_enable_cors_support": "no headers for other origins are sent here",
    "enable_signature_method_name_check": _OTHER,
    "xla_cpu_compilation_enabled": _OTHER,
    "enable_profiler": _OTHER,
    "prefer_tflite_model": _OTHER,
    "per_process_gpu_memory_fraction": _OTHER,
    "flush_filesystem_caches": _OTHER,
    "remove_unused_fields_from_bundle_metagraph": _OTHER,
    "use_tflite_model": _OTHER,
    "version": _OTHER,
}


def refusal(argument: str) -> str | None:
    """Why a command-line argument is refused; None if it is not one of these flags.

    Example:
    >>> refusal("--port=8500")
    '--port is refused: only REST is served here. Leave it out, or use TensorFlow Serving itself (docs/serving.md).'
    >>> refusal("--model_name=x") is None
    True
    """
    name = argument.removeprefix("--").partition("=")[0]
    if not argument.startswith("--") or name not in REFUSED:
        return None
    return f"--{name} is refused: {REFUSED[name]}. Leave it out, or use TensorFlow Serving itself (docs/serving.md)."
