"""Clients of a model server, by REST and by gRPC, for this project's models; they need no TensorFlow."""

from typing import Any

from serving.client.answers import Prediction
from serving.client.base import Client
from serving.client.errors import (
    CertificateError,
    DeadlineExceeded,
    ServerError,
    TargetError,
    Unreachable,
    VersionGone,
)
from serving.client.grpc_client import GrpcClient
from serving.client.messages import Metadata, Request, VersionState
from serving.client.rest import RestClient
from serving.client.streaming import StreamingSession
from serving.client.targets import parse

__all__ = [
    "CertificateError",
    "Client",
    "DeadlineExceeded",
    "GrpcClient",
    "Metadata",
    "Prediction",
    "Request",
    "RestClient",
    "ServerError",
    "StreamingSession",
    "TargetError",
    "Unreachable",
    "VersionGone",
    "VersionState",
    "connect",
]


def connect(target: str, model_name: str, **options: Any) -> Client:
    """The client for an address; nothing is sent yet.

    Args:
        target: `http://host:port` or `https://...` for REST; `grpc://host:port`, `grpcs://...`, plain `host:port`
            or `unix:path` for gRPC.
        model_name: The model's name on the server.
        options: As for `RestClient` and `GrpcClient`: version, label, timeout, retries, batch_size, in_flight, ca_file,
            cert_file, key_file.

    Raises:
        TargetError: The target is not such an address, or has no TLS although a certificate is given.
        CertificateError: The files of TLS cannot be used.
        ServingApiMissing: It is one of gRPC, and the extra `serve` is not installed.

    Example:
    >>> with connect("http://127.0.0.1:8501", "digits") as client:
    ...     type(client).__name__
    'RestClient'
    """
    kind = RestClient if parse(target).rest else GrpcClient
    return kind(target, model_name, **options)
