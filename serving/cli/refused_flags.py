"""The flags of TensorFlow Serving that the local server refuses, and why."""

_TFLITE = "TensorFlow Lite models are not served here"
_PLATFORM = "the only platform here is TensorFlow's SavedModel on a CPU"

REFUSED: dict[str, str] = {
    "enable_profiler": "there is no profiler service here",
    "prefer_tflite_model": _TFLITE,
    "use_tflite_model": _TFLITE,
    "num_tflite_pools": _TFLITE,
    "num_tflite_interpreters_per_pool": _TFLITE,
    "platform_config_file": _PLATFORM,
    "per_process_gpu_memory_fraction": _PLATFORM,
    "xla_gpu_compilation_enabled": _PLATFORM,
    "mixed_precision": _PLATFORM,
    "skip_initialize_tpu": _PLATFORM,
    "tensorflow_session_config_file": "the threads of a session are set by --tensorflow_*_parallelism here",
    "thread_pool_factory_config_file": "the threads of a session are set by --tensorflow_*_parallelism here",
    "use_alts_credentials": "give --ssl_config_file for TLS",
    "flush_filesystem_caches": "this server leaves the caches of the file system to the system",
    "remove_unused_fields_from_bundle_metagraph": "this server never keeps those fields",
}


def refusal(argument: str) -> str | None:
    """Why a command-line argument is refused; None if it is not one of these flags.

    Example:
    >>> refusal("--use_alts_credentials")[:65]
    '--use_alts_credentials is refused: give --ssl_config_file for TLS'
    >>> refusal("--model_name=x") is None
    True
    """
    name = argument.removeprefix("--").partition("=")[0]
    if not argument.startswith("--") or name not in REFUSED:
        return None
    return f"--{name} is refused: {REFUSED[name]}. Leave it out, or use TensorFlow Serving itself (docs/serving.md)."
