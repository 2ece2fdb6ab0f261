"""Requests that were right until a seeded generator changed them: none may hang or break the server."""

import json
import random
import socket
from urllib.parse import urlsplit

from serving.server import Server

BODY = json.dumps({"signature_name": "serving_padded", "instances": [{"features": [[1, 2.5, -3]], "lengths": 1}]})
PATH = "/v1/models/digits:predict"
PIECES = [
    b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\u00e", b"\x00", b"\xff", b"1e999", b"NaN", b"null", b"-", b"9" * 400,
    b"\r\n", b"[]", b"{}", b'{"b64": "="}', b"2147483648", b"-1", b"[[[[[[[", b"true", b"0", b"1e39", b"16777217",
]  # fmt: skip


def mutate(random_numbers: random.Random) -> bytes:
    """One request, changed in its body, and one time in four in its bytes as a whole."""
    body = bytearray(BODY.encode())
    for _ in range(random_numbers.randint(1, 3)):
        _change(body, random_numbers)
    request = bytearray(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    if random_numbers.random() < 0.25:
        _change(request, random_numbers)
    return bytes(request)


def _change(data: bytearray, random_numbers: random.Random) -> None:
    start = random_numbers.randrange(len(data))
    end = min(len(data), start + random_numbers.randint(0, 6))
    data[start:end] = random_numbers.choice(
        [b"", random_numbers.choice(PIECES), bytes([random_numbers.randrange(256)])]
    )


def test_three_hundred_mutations(server: Server) -> None:
    address = urlsplit(server.url)
    random_numbers = random.Random(7)
    statuses: dict[int, int] = {}
    for _ in range(300):
        request = mutate(random_numbers)
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        if not answer:  # an empty line where a request should be
            statuses[0] = statuses.get(0, 0) + 1
            continue
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        statuses[status] = statuses.get(status, 0) + 1
        assert b"Traceback" not in answer, request
        assert status < 500 or status in (501, 505), (request, answer)
        if status != 200:
            assert set(json.JSONDecoder().raw_decode(body.decode())[0]) == {"error"}, request
    # The mutations are neither all harmless nor all the same.
    assert statuses[200] >= 1
    assert statuses[400] > 100
    assert statuses.get(0, 0) < 5
