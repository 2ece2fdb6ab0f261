"""Requests to the REST API of a server of a test, over a socket."""

import http.client
import json
import socket
from urllib.parse import urlsplit

from waiting import PATIENCE

from serving.server import Server

ROW = [[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]


def ask(server: Server, method: str, path: str, body: bytes | str | None = None, **headers: str):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def raw(server: Server, data: bytes, seconds: float = 20.0) -> bytes:
    """Send bytes, then read until the server closes."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def predict(server: Server, document: object, path: str = "/v1/models/digits:predict"):
    return ask(server, "POST", path, json.dumps(document))
