"""Reads TensorFlow Serving's configuration files, and describes the messages that no package on PyPI has.

Their fields are described here by name and type; numbers do not matter in text.
"""

import functools
import re
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from serving.errors import ServingError, invalid
from serving.protos import proto_module

_PACKAGE = "tensorflow.serving"
_WRAPPERS = "google/protobuf/wrappers.proto"
_INT64, _BOOL, _STRING, _MESSAGE = 3, 8, 9, 11  # FieldDescriptorProto.Type
_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label

_MESSAGES: dict[str, list[tuple[str, Any]]] = {
    "BatchingParameters": [
        ("max_batch_size", ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", ".google.protobuf.Int64Value"),
        ("num_batch_threads", ".google.protobuf.Int64Value"),
        ("thread_pool_name", ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", [_INT64]),
        ("pad_variable_length_inputs", _BOOL),
        ("enable_large_batch_splitting", ".google.protobuf.BoolValue"),
        ("max_execution_batch_size", ".google.protobuf.Int64Value"),
    ],
    "SSLConfig": [("server_key", _STRING), ("server_cert", _STRING), ("custom_ca", _STRING), ("client_verify", _BOOL)],
    "PrometheusConfig": [("enable", _BOOL), ("path", _STRING)],
    "MonitoringConfig": [("prometheus_config", f".{_PACKAGE}.PrometheusConfig")],
}


@functools.cache
def config_message(name: str) -> Any:
    """The message class of one of TensorFlow Serving's configurations.

    Example:
    >>> config_message("PrometheusConfig")(enable=True).enable
    True
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="zoo_serving_config.proto", package=_PACKAGE, syntax="proto3", dependency=[_WRAPPERS]
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(fields, start=1):
            label = _REPEATED if isinstance(kind, list) else _OPTIONAL
            kind = kind[0] if isinstance(kind, list) else kind
            of_message = {"type": _MESSAGE, "type_name": kind} if isinstance(kind, str) else {"type": kind}
            described.field.add(name=field, number=number, label=label, **of_message)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def read_text_proto(path: Path, message: Any) -> Any:
    """Read the message in a text file.

    Args:
        path: The file.
        message: The message class.

    Raises:
        ServingError: INVALID_ARGUMENT: the file cannot be read, or does not hold such a message.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message())
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid_file(path, message, str(error)) from error
    except text_format.ParseError as error:
        # TensorFlow Serving's status, and what libprotobuf writes to its log beside it.
        where = re.sub(r"^(\d+:\d+) : ", r"\1: ", str(error))
        parsing = f"Error parsing text-format {message.DESCRIPTOR.full_name}: {where}"
        raise _invalid_file(path, message, parsing) from error


def _invalid_file(path: Path, message: Any, reason: str) -> ServingError:
    return invalid(f"Invalid protobuf file: '{path}': {reason}; expected a {message.DESCRIPTOR.name} as text")


def model_server_config() -> Any:
    """The message class `ModelServerConfig`, of a `models.config`.

    Raises:
        ServingApiMissing: The extra `serve` is not installed.
    """
    return proto_module("tensorflow_serving.config.model_server_config_pb2").ModelServerConfig
