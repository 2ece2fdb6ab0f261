"""Both clients against the real servers over models in NumPy, and what only gRPC has."""

import datetime
import ipaddress
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy_serving import NumpyManager, classifier, served
from scripted_http import READY, handler_for
from waiting import PATIENCE

from serving.client import (
    CertificateError,
    Client,
    DeadlineExceeded,
    GrpcClient,
    Prediction,
    RestClient,
    ServerError,
    TargetError,
    Unreachable,
    VersionState,
    connect,
    retries,
)
from serving.client.sequences import InputError
from serving.errors import Code, ServingError
from serving.grpc_server import GrpcServer
from serving.metrics import Metrics
from serving.options import ServerOptions
from serving.protos import apis

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


@pytest.fixture(params=["rest", "grpc"])
def target(request: pytest.FixtureRequest, numpy_served: SimpleNamespace) -> str:
    return str(getattr(numpy_served, request.param))


def test_many_sequences_of_any_lengths_come_back_in_order(target: str, numpy_served: SimpleNamespace) -> None:
    sequences = [rng.normal(size=(steps, 3)).astype("float32") for steps in rng.integers(1, 40, size=50)]
    model = numpy_served.manager.models["digits"][1]
    model.calls.clear()
    with connect(target, "digits", batch_size=8, in_flight=3) as client:
        answers = client.predict(sequences)
    assert [answer.class_id for answer in answers] == [int(sequence.sum() > 0) for sequence in sequences]
    assert len(model.calls) == 7
    sent = sum(feeds["features"][..., 0].size for _, feeds in model.calls)
    # Sorted by length, so padding adds less than a fifth; all in one request would have been 50 x 39.
    assert sent < 1.2 * sum(map(len, sequences))


def test_one_bad_request_of_several_is_an_error(target: str, numpy_served: SimpleNamespace) -> None:
    numpy_served.manager.fail[:] = failing(Code.INVALID_ARGUMENT)
    with connect(target, "digits", batch_size=1, in_flight=2) as client, pytest.raises(ServerError) as caught:
        client.predict([np.zeros((1, 3))] * 5)
    assert caught.value.status == 400


def test_labels_of_steps_are_cut_to_the_length(target: str) -> None:
    sequences = [[[1, 1, 1], [-1, 0, 0], [2, 0, 0]], [[-1, 0, 0]]]
    with connect(target, "steps") as client:
        first, second = client.predict(sequences)
    assert ["".join(step.label for step in answer.steps) for answer in (first, second)] == ["bab", "a"]
    assert first.label == ""
    assert first.steps[0].probabilities[1] == pytest.approx(1 / (1 + np.exp(-3)))


def test_a_text_is_answered_up_to_its_end(target: str) -> None:
    with connect(target, "text", batch_size=2) as client:
        answers = client.predict(["aB", "Ünd", "x"])
    assert ["".join(step.label for step in answer.steps) for answer in answers] == ["ab", "baa", "a"]
    with connect(target, "text") as client, pytest.raises(InputError, match="sequence 1 is ''"):
        client.predict(["a", ""])


def test_numbers_and_a_single_output_without_a_name(target: str) -> None:
    with connect(target, "numbers") as client:
        (answer,) = client.predict([[[1, 2, 3], [0.5, 0, 0]]])
        assert [step.values for step in answer.steps] == [(6.5,), (3.0,)]
        assert client.raw({"features": [[[1.0, 2.0, 3.0]]]})["predictions"].tolist() == [[[6.0], [3.0]]]


def test_raw_metadata_and_status(target: str) -> None:
    with connect(target, "digits", version=1) as client:
        client.wait_until_ready(PATIENCE)
        outputs = client.raw({"features": np.full((1, 2, 3), np.nan, "float32")})
        assert outputs["label"].tolist() == [b""]
        assert np.isnan(outputs["logits"][0, 1])
        assert {name: array.dtype.kind for name, array in outputs.items()} == {
            "class_id": "i", "label": "O", "logits": "f", "probabilities": "f",
        }  # fmt: skip
        found = client.metadata()
        assert (found.model_name, found.version) == ("digits", 1)
        spec = found.signatures["serving_default"].inputs["features"]
        assert (spec.dtype.name, spec.shape) == ("float", (None, None, 3))
        assert client.status() == [VersionState(1, "AVAILABLE")]


def test_both_give_the_same_numbers(numpy_served: SimpleNamespace) -> None:
    sequences = [rng.normal(size=(3, 3)) for _ in range(4)]
    with connect(numpy_served.rest, "digits") as rest, connect(numpy_served.grpc, "digits") as grpc:
        assert rest.predict(sequences) == grpc.predict(sequences)
        assert rest.classify(sequences) == grpc.classify(sequences)
        assert rest.regress(sequences) == grpc.regress(sequences)


def test_classify_and_regress(target: str) -> None:
    with connect(target, "digits") as client:
        (first, second) = client.classify([[[1, 2, 3]], {"features": [-1.0, -2.0]}])
        assert [label for label, _ in first] == ["a", "b"]
        assert [score for _, score in second] == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))])
        assert client.regress([[[1, 2, 3]]]) == [6.0]
        with pytest.raises(InputError, match="feature 'x' is"):
            client.classify([{"x": None}])
        with pytest.raises(InputError, match="no example"):
            client.classify([])


def test_versions_and_labels(target: str, numpy_served: SimpleNamespace) -> None:
    numpy_served.manager.models["two"] = {1: classifier(), 2: classifier(-1.0)}

    def label_of(**choice: Any) -> str:
        with connect(target, "two", **choice) as client:
            return client.predict([[[1, 0, 0]]])[0].label

    assert (label_of(), label_of(version=1), label_of(label="stable"), label_of(version=2)) == ("a", "b", "b", "a")
    with pytest.raises(ServerError, match="Unrecognized servable version label: none"):
        label_of(label="none")
    with pytest.raises(ServerError, match=r"Servable not found for request: Specific\(two, 7\)") as caught:
        label_of(version=7)
    assert caught.value.status == 404
    with pytest.raises(ValueError, match="give one"):
        connect(target, "two", version=1, label="stable")
    with connect(target, "two", label="stable") as client:
        assert client.metadata().version == 1


def failing(*codes: Code) -> list[ServingError]:
    return [ServingError(code, "not now") for code in codes]


def test_unavailable_is_tried_again_and_nothing_else_is(target: str, numpy_served: SimpleNamespace) -> None:
    manager = numpy_served.manager
    with connect(target, "digits") as client:
        manager.fail[:] = failing(Code.UNAVAILABLE, Code.UNAVAILABLE)
        assert client.predict([[[1, 0, 0]]])
        manager.fail[:] = failing(*[Code.UNAVAILABLE] * 4)
        with pytest.raises(ServerError, match="not now") as caught:
            client.predict([[[1, 0, 0]]])
        assert (caught.value.status, len(manager.fail)) == (503, 1)
        manager.fail[:] = failing(Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)
        with pytest.raises(ServerError) as caught:
            client.predict([[[1, 0, 0]]])
        assert (caught.value.status, len(manager.fail)) == (429, 1)
        manager.fail.clear()


def test_retries_stay_within_the_deadline(monkeypatch: pytest.MonkeyPatch, numpy_served: SimpleNamespace) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 100.0)
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 100.0)
    numpy_served.manager.fail[:] = failing(Code.UNAVAILABLE)
    with connect(numpy_served.grpc, "digits", timeout=5) as client, pytest.raises(ServerError):
        client.predict([[[1, 0, 0]]])  # at once: a pause would end behind the deadline
    with connect(numpy_served.grpc, "digits") as client, pytest.raises(DeadlineExceeded, match="no time was left"):
        client.predict([[[1, 0, 0]]], timeout=-1)


def test_a_deadline_of_grpc(numpy_served: SimpleNamespace) -> None:
    release = threading.Event()
    slow = classifier()
    signature, _ = slow.functions["serving_default"]
    numpy_served.manager.models["slow"] = {
        1: type(slow)({"serving_default": (signature, lambda **_: _waited(release))})
    }
    with connect(numpy_served.grpc, "slow") as client:
        with pytest.raises(DeadlineExceeded, match="no answer from"):
            client.predict([[[1, 0, 0]]], timeout=0.2)
        release.set()
    assert len(numpy_served.manager.models["slow"][1].calls) <= 1  # not asked again


def _waited(release: threading.Event) -> dict[str, Any]:
    release.wait(PATIENCE)
    return {}


def test_no_server() -> None:
    with GrpcClient("127.0.0.1:9", "m") as client:
        with pytest.raises(Unreachable, match="is the server up"):
            client.status()
        with pytest.raises(Unreachable, match=r"m was not ready within 0\.05 s: "):
            client.wait_until_ready(0.05)


def test_reloading_the_configuration(numpy_served: SimpleNamespace) -> None:
    text = 'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }'
    with GrpcClient(numpy_served.grpc, "digits") as client:
        client.reload_config(text)
        client.reload_config(numpy_served.manager.configs[0])
        with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
            client.reload_config(apis("model_management_pb2").ReloadConfigRequest().config)
    assert [config.model_config_list.config[0].name for config in numpy_served.manager.configs] == ["m", "m"]


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with (
        served(NumpyManager(m={1: classifier()}), grpc_socket_path=str(path)),
        connect(f"unix:{path}", "m") as client,
    ):
        assert client.predict([[[1, 0, 0]]])[0] == Prediction("b", 1, client.predict([[[1, 0, 0]]])[0].probabilities)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, Path]:
    """Key and certificate of 127.0.0.1, and the latter as a file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = signed.public_bytes(serialization.Encoding.PEM)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    path.write_bytes(public + private)
    return private, public, path


def test_grpc_with_tls(certificate: tuple[bytes, bytes, Path], tmp_path: Path) -> None:
    private, public, path = certificate
    config = tmp_path / "ssl.config"
    config.write_text(f'server_key: "{_escaped(private)}"\nserver_cert: "{_escaped(public)}"\n')
    with served(NumpyManager(m={1: classifier()}), ssl_config_file=config) as running:
        with connect(f"grpcs://{running.grpc}", "m", ca_file=path) as client:
            assert client.predict([[[1, 0, 0]]])[0].label == "b"
        with connect(f"grpcs://{running.grpc}", "m", retries=0) as client, pytest.raises(Unreachable):
            client.status()


def test_grpc_with_certificates_on_both_sides(certificate: tuple[bytes, bytes, Path], tmp_path: Path) -> None:
    private, public, path = certificate
    config, key = tmp_path / "ssl.config", tmp_path / "key.pem"
    key.write_bytes(private)
    pair = f'server_key: "{_escaped(private)}"\nserver_cert: "{_escaped(public)}"\nclient_verify: true\n'
    config.write_text(f'{pair}custom_ca: "{_escaped(public)}"\n')
    with served(NumpyManager(m={1: classifier()}), ssl_config_file=config) as running:
        target = f"grpcs://{running.grpc}"
        for files in ({"cert_file": path}, {"cert_file": path, "key_file": key}):
            with connect(target, "m", ca_file=path, **files) as client:
                assert client.predict([[[1, 0, 0]]])[0].label == "b"
        with connect(target, "m", ca_file=path, retries=0) as client, pytest.raises(Unreachable):
            client.status()
    config.write_text(pair)
    with pytest.raises(ServingError, match="client_verify without custom_ca; give custom_ca"):
        GrpcServer(NumpyManager(), ServerOptions(port=0, ssl_config_file=config), Metrics()).start()


def _escaped(pem: bytes) -> str:
    return pem.decode().replace("\n", "\\n")


@contextmanager
def https_server(context: ssl.SSLContext) -> Iterator[str]:
    """The address of a server with a model that is ready."""
    with HTTPServer(("127.0.0.1", 0), handler_for([READY], [])) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_rest_with_tls(certificate: tuple[bytes, bytes, Path]) -> None:
    path = certificate[2]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with https_server(context) as url:
        with RestClient(url, "m", ca_file=path) as client:
            assert client.status() == [VersionState(1, "AVAILABLE")]
        with RestClient(url, "m", retries=0) as client, pytest.raises(Unreachable, match=r"(?i)certificate"):
            client.status()


def test_rest_with_certificates_on_both_sides(certificate: tuple[bytes, bytes, Path]) -> None:
    path = certificate[2]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(path)
    with https_server(context) as url:
        with RestClient(url, "m", ca_file=path, cert_file=path) as client:
            assert client.status() == [VersionState(1, "AVAILABLE")]
        with RestClient(url, "m", ca_file=path, retries=0) as client, pytest.raises(Unreachable, match="no answer"):
            client.status()


@pytest.mark.parametrize("target", ["https://127.0.0.1:1", "grpcs://127.0.0.1:1"])
def test_files_that_are_no_certificate_are_refused_before_anything_is_sent(target: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for files, message in (
        ({"cert_file": wrong}, r"cert_file '.*wrong\.pem': .*give files in PEM"),
        ({"ca_file": tmp_path / "none.pem"}, r"ca_file '.*none\.pem': .*No such file"),
        ({"key_file": wrong}, r"key_file is '.*wrong\.pem' without a cert_file"),
    ):
        with pytest.raises(CertificateError, match=message):
            connect(target, "m", **files)
    plain = target.replace("s://", "://")
    with pytest.raises(TargetError, match="address without TLS, where no certificate is shown; give https"):
        connect(plain, "m", cert_file=wrong)


@pytest.mark.parametrize("target", ["", "localhost", "http://x:1", "grpc://x", "grpc://x:1/path", "unix:", "x:port"])
def test_targets_that_are_none_of_grpc(target: str) -> None:
    with pytest.raises(TargetError, match="give one like"):
        GrpcClient(target, "m")


def test_the_kind_of_client_follows_from_the_target() -> None:
    kinds = {"http://h:1": RestClient, "https://h": RestClient, "h:1": GrpcClient, "[::1]:1": GrpcClient,
             "grpc://h:1": GrpcClient, "unix:/tmp/s": GrpcClient}  # fmt: skip
    for target, kind in kinds.items():
        client: Client = connect(target, "m")
        assert type(client) is kind
        client.close()


def test_without_the_extra() -> None:
    program = (
        "import sys; sys.modules['grpc'] = None\n"
        "from serving.client import connect\n"
        "connect('http://127.0.0.1:1', 'm')\n"
        "try: connect('127.0.0.1:1', 'm')\n"
        "except ImportError as error: print(error.exit_code, error)\n"
        "print([m for m in sys.modules if m in ('tensorflow', 'keras', 'mlflow')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "pip install 'sequence-zoo[serve]'" in done.stdout
    assert done.stdout.strip().endswith("[]")
