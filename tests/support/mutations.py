"""Requests to the two APIs that were right until a seeded generator changed them, and some that never were."""

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from waiting import PATIENCE

from serving.calls.tensor_protos import from_array
from serving.protos import apis

PIECES = [
    b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\u00e", b"\x00", b"\xff", b"1e999", b"NaN", b"null", b"-", b"9" * 400,
    b"\r\n", b"[]", b"{}", b'{"b64": "="}', b"2147483648", b"-1", b"[[[[[[[", b"true", b"0", b"1e39", b"16777217",
    b"\x80", b"\x7f", b"\x0a\xff\xff\xff\xff\x0f", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
]  # fmt: skip
JSON_VALUES: list[Any] = [
    None, True, "x", "", {}, [], [[]], [[[]]], -1, 0.5, 1e39, 1e308, 2**31, -(2**63), 2**64, 10**400, float("nan"),
    float("-inf"), {"b64": "="}, {"b64": "AAAA"}, {"features": 1}, [[1, 2], [3]], [1] * 2000, "\ud800", "x" * 5000,
]  # fmt: skip
DIMENSIONS = [-1, -(2**63), 0, 1, 2, 3, 33, 2**16, 10**9, 2**31, 2**62, 2**63 - 1]
METHODS = [
    "PredictionService/Predict",
    "PredictionService/Classify",
    "PredictionService/Regress",
    "PredictionService/MultiInference",
    "PredictionService/GetModelMetadata",
    "ModelService/GetModelStatus",
]


@dataclass(frozen=True)
class Attack:
    """One request.

    Attributes:
        transport: `rest` or `grpc`.
        method: For gRPC, the service and method.
        data: A whole HTTP request, or a gRPC message.
        kind: `values` (right, of other values), `bytes` (some are changed), `parts` (a part is replaced), or `hostile`
            (made to do harm); all but the last are mutations of a right request.
    """

    transport: str
    method: str
    data: bytes
    kind: str


def attacks(seed: int, number: int, *, name: str = "digits", channels: int = 3) -> Iterator[Attack]:
    """Requests to a model with the signatures `serving_default` and `serving_padded`, half of them by either API."""
    draw = random.Random(seed)
    for index in range(number):
        kind = draw.choices(["values", "bytes", "parts", "hostile"], [35, 35, 20, 10])[0]
        make = _rest if index % 2 else _grpc
        yield make(draw, kind, name, channels)


def _features(draw: random.Random, channels: int) -> Any:
    rng = np.random.default_rng(draw.getrandbits(32))
    batch, steps = draw.choice([(1, 1), (1, 5), (3, 4), (8, 2)])
    features = (rng.normal(size=(batch, steps, channels)) * draw.choice([1.0, 1e-30, 1e30])).astype("float32")
    if draw.random() < 0.2:
        features.flat[rng.integers(features.size)] = draw.choice([np.nan, np.inf, -np.inf])
    return features


def _lengths(draw: random.Random, features: Any) -> Any:
    steps = features.shape[1]
    return np.array([draw.choice([0, 1, steps, steps + 1, -1, 2**31 - 1, -(2**31)]) for _ in features], "int32")


def _change(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(changed) + 1)
        end = min(len(changed), start + draw.choice([0, 1, 2, 6, len(changed)]))
        changed[start:end] = draw.choice([b"", draw.choice(PIECES), bytes([draw.randrange(256)])])
    return bytes(changed)


def _flip(data: bytes, draw: random.Random) -> bytes:
    """Bytes of the same length, more often still a message; changed rather where names and shapes stand."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        changed[draw.randrange(draw.choice([min(60, len(data)), len(data)]))] = draw.choice(
            [0, 1, 2, 0x7F, 0x80, draw.randrange(256)]
        )
    return bytes(changed)


def _rest(draw: random.Random, kind: str, name: str, channels: int) -> Attack:
    document = _document(draw, channels)
    body = json.dumps(document).encode()
    verb = "predict"
    if kind == "parts":
        _replace(document, draw)
        body = json.dumps(document).encode()
        verb = draw.choice(["predict", "predict", "classify", "regress"])
    elif kind == "hostile":
        body = _hostile_body(draw)
    elif kind == "bytes":
        body = _change(body, draw)
    request = f"POST /v1/models/{name}:{verb} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    request += f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    if kind == "bytes" and draw.random() < 0.25:
        request = _change(request, draw)
    return Attack("rest", "", request, kind)


def _document(draw: random.Random, channels: int) -> dict[str, Any]:
    features = _features(draw, channels)
    lengths = _lengths(draw, features)
    padded = {"signature_name": "serving_padded"}
    return draw.choice(
        [
            {"instances": features.tolist()},
            {"inputs": features.tolist()},
            {**padded, "inputs": {"features": features.tolist(), "lengths": lengths.tolist()}},
            {**padded, "instances": [{"features": row, "lengths": length}
                                     for row, length in zip(features.tolist(), lengths.tolist(), strict=True)]},
        ]
    )  # fmt: skip


def _replace(document: Any, draw: random.Random) -> None:
    """Put something else where some value stands, at any depth."""
    while True:
        keys = list(document) if isinstance(document, dict) else range(len(document))
        key = draw.choice(keys)
        if draw.random() < 0.4 or not isinstance(document[key], list | dict) or not document[key]:
            document[key] = draw.choice(JSON_VALUES)
            return
        document = document[key]


def _hostile_body(draw: random.Random) -> bytes:
    depth = draw.choice([40, 1000, 100_000])
    return draw.choice(
        [
            b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}",
            b'{"inputs": ' + b"[" * depth,
            b'{"a": ' * depth + b"1" + b"}" * depth,
            b'{"inputs": [' + b"[]," * depth + b"[]]}",
            b'{"inputs": ' + b"9" * depth + b"}",
            b'{"inputs": 1e' + b"9" * depth + b"}",
            b'{"instances": [' + b"{}," * depth + b"{}]}",
            b'{"signature_name": "' + b"x" * depth + b'", "inputs": 1}',
            b'{"examples": [' + b"{}," * (depth // 100) + b"{}]}",
            bytes(depth),
        ]
    )


def _grpc(draw: random.Random, kind: str, name: str, channels: int) -> Attack:
    request = _request(draw, name, channels)
    method = METHODS[0]
    if kind == "parts":
        _spoil(request, draw)
    elif kind == "hostile":
        for tensor in request.inputs.values():
            _spoil_tensor(tensor, draw)
            _spoil_shape(tensor, draw)
    data: bytes = request.SerializeToString()
    if kind == "bytes":
        data = draw.choice([_change, _flip])(data, draw)
        method = draw.choice([METHODS[0], METHODS[0], draw.choice(METHODS)])
    return Attack("grpc", method, data, kind)


def _request(draw: random.Random, name: str, channels: int) -> Any:
    request = apis("predict_pb2").PredictRequest()
    request.model_spec.name = name
    features = _features(draw, channels)
    as_content = draw.random() < 0.5
    request.inputs["features"].CopyFrom(from_array(features, as_content=as_content))
    if draw.random() < 0.5:
        request.model_spec.signature_name = "serving_padded"
        request.inputs["lengths"].CopyFrom(from_array(_lengths(draw, features), as_content=as_content))
    return request


def _spoil(request: Any, draw: random.Random) -> None:
    """Make one part of a request wrong."""
    tensor = request.inputs[draw.choice(sorted(request.inputs))]
    part = draw.randrange(7)
    if part == 0:
        request.model_spec.signature_name = draw.choice(["", "x", "serving_default", "__saved_model_init_op"])
    elif part == 1:
        request.model_spec.version.value = draw.choice([-1, 0, 1, 2**63 - 1])
    elif part == 2:
        request.model_spec.version_label = draw.choice(["", "x", "\x00"])
    elif part == 3:
        request.output_filter.extend(draw.choice([["label"], ["x"], ["label"] * 2, [""]]))
    elif part == 4:
        request.inputs[draw.choice(["features", "lengths", "", "x"])].CopyFrom(tensor)
    elif part == 5:
        _spoil_shape(tensor, draw)
    else:
        _spoil_tensor(tensor, draw)


def _spoil_shape(tensor: Any, draw: random.Random) -> None:
    part = draw.randrange(4)
    if part == 0 and tensor.tensor_shape.dim:
        draw.choice(tensor.tensor_shape.dim).size = draw.choice(DIMENSIONS)
    elif part == 1:
        for _ in range(draw.choice([1, 3, 31, 300])):
            tensor.tensor_shape.dim.add().size = draw.choice([0, 1, 2, 2**31])
    elif part == 2:
        del tensor.tensor_shape.dim[draw.randrange(4) :]
    else:
        tensor.tensor_shape.unknown_rank = True
        for dimension in tensor.tensor_shape.dim:
            dimension.size = draw.choice(DIMENSIONS)


def _spoil_tensor(tensor: Any, draw: random.Random) -> None:
    part = draw.randrange(4)
    if part == 0:
        tensor.dtype = draw.choice([*range(31), 101, 2**31 - 1, -1])
    elif part == 1:
        tensor.tensor_content = draw.choice([b"", b"x", bytes(100), tensor.tensor_content[:-1]])
        tensor.ClearField("float_val")
    elif part == 2:
        tensor.dtype = 7
        tensor.string_val.extend([b"", b"\xff" * draw.choice([1, 10_000])])
    else:
        tensor.float_val.extend([1e38] * draw.choice([1, 1000]))
        tensor.half_val.append(-1)


def send(attack: Attack, rest: tuple[str, int], channel: Any, seconds: float = PATIENCE) -> str:
    """Send one and say how it ended: `200`, `400`, ... by REST (`0` without an answer), `OK`, `NOT_FOUND`, ... by gRPC.

    Raises:
        AssertionError: No answer in time, one that shows the server's inside, or one that is no proper answer.
    """
    if attack.transport == "grpc":
        return _send_grpc(attack, channel, seconds)
    with socket.create_connection(rest, timeout=seconds) as connection:
        connection.sendall(attack.data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError as error:
            raise AssertionError(f"no answer within {seconds} s to {attack.data[:500]!r}") from error
    if not answer:  # an empty line where a request should be
        return "0"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert b"Traceback" not in answer, attack
    assert status < 500 or status in (501, 505), (attack, answer)
    if status != 200 and not attack.data.startswith(b"HEAD"):
        # A change may have made two requests of one: the first answer counts.
        assert set(json.JSONDecoder().raw_decode(body.decode())[0]) == {"error"}, attack
    return str(status)


def _send_grpc(attack: Attack, channel: Any, seconds: float) -> str:
    import grpc

    try:
        channel.unary_unary(f"/tensorflow.serving.{attack.method}")(attack.data, timeout=seconds)
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
        assert "Traceback" not in details, attack
        # What is no message at all is INTERNAL, as gRPC has it; anything else must have been found out.
        is_found_out = code not in ("UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL")
        assert is_found_out or "the message is not a tensorflow.serving." in details, (attack, code, details)
        return str(code)
    return "OK"
