"""A server under load while its versions are swapped, under hostile messages, and killed.

    python tests/support/serving_soak.py     the full counts, about ten minutes; writes docs/results/serving_soak.md

The test suite does the same for a few seconds.
"""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import psutil
import requests
from mutations import Attack, attacks, send
from waiting import PATIENCE

from serving.protos import apis, tensor_proto
from serving.runtime.load import load

ZOO = str(Path(sys.executable).parent / "zoo")
NAME = "soaked"
BATCHES = (1, 2, 3, 8)
CHANNELS = 12  # of the models that `exported` makes
METRICS = "/monitoring/prometheus/metrics"
SETTLED = 5  # swaps after which a server has all the memory that it will need


@contextlib.contextmanager
def served(base: Path, *flags: str) -> Iterator[tuple[psutil.Process, str, str]]:
    """A server process of its own: the process, its REST URL and its gRPC address. It must end well."""
    arguments = [ZOO, "serve", "--model_name", NAME, "--model_base_path", str(base)]
    arguments += ["--port", str(_free_port()), "--rest_api_port", str(_free_port()), *flags]
    with (base.parent / "server.log").open("a") as log:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
    ready = process.stdout.readline() if process.stdout else ""
    if not ready.startswith("ready"):
        process.kill()
        raise RuntimeError(f"the server did not start: {(base.parent / 'server.log').read_text()[-2000:]}")
    address = f"127.0.0.1:{arguments[arguments.index('--port') + 1]}"
    url = f"http://127.0.0.1:{arguments[arguments.index('--rest_api_port') + 1]}"
    try:
        yield psutil.Process(process.pid), url, address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)  # closes the pipe too


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def publish(saved_model: Path, base: Path, version: int) -> None:
    """Put a version there in one step, as an export does."""
    base.mkdir(parents=True, exist_ok=True)
    hidden = base / f".writing-{version}"
    shutil.copytree(saved_model, hidden)
    hidden.rename(base / str(version))


def questions(saved_model: Path) -> list[tuple[bytes, Any]]:
    """Requests, and what the model in this folder answers: `probabilities` by the C API, in this process."""
    random, model = np.random.default_rng(0), load(saved_model)
    try:
        channels = model.signatures["serving_default"].inputs["features"].shape[-1]  # type: ignore[index]
        asked = []
        for batch in BATCHES:
            features = random.normal(size=(batch, 20, channels)).astype("float32")
            answer = model.run("serving_default", {"features": features})["probabilities"]
            asked.append((request(features), answer))
        return asked
    finally:
        model.close()


def request(features: Any) -> bytes:
    """A `PredictRequest` in bytes."""
    message = apis("predict_pb2").PredictRequest()
    message.model_spec.name = NAME
    tensor = tensor_proto()(dtype=1, tensor_content=features.tobytes())
    for size in features.shape:
        tensor.tensor_shape.dim.add(size=size)
    message.inputs["features"].CopyFrom(tensor)
    return bytes(message.SerializeToString())


def predictor(channel: grpc.Channel) -> Any:
    """Predict over `channel`, from bytes to the message of the answer."""
    return channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        response_deserializer=apis("predict_pb2").PredictResponse.FromString,
    )


def _probabilities(answer: Any) -> Any:
    tensor = answer.outputs["probabilities"]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values = np.frombuffer(tensor.tensor_content, "float32") if tensor.tensor_content else np.array(tensor.float_val)
    return values.reshape(shape)


@dataclass
class Swapped:
    """What came of swapping versions under load.

    Attributes:
        requests: Answers that were checked.
        wrong: Answers that were not those of the version that they name, and errors, by what they say.
        published: Versions that were put there.
        taken_over: Versions that were seen to have taken over, the first included; one that is followed by another
            while it is loaded may be passed over.
        megabytes: The server's resident memory after each swap.
        by_version: Answers of each version.
    """

    requests: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    published: int = 1
    taken_over: list[int] = field(default_factory=lambda: [1])
    megabytes: list[float] = field(default_factory=list)
    by_version: Counter[int] = field(default_factory=Counter)

    def growth(self) -> tuple[float, float]:
        """Megabytes a swap, by a straight line through what came after the first few swaps, and its standard error."""
        settled = self.megabytes[SETTLED:]
        (slope, _), covariance = np.polyfit(range(len(settled)), settled, 1, cov=True)
        return float(slope), float(np.sqrt(covariance[0, 0]))


def swapped(
    models: tuple[Path, Path], folder: Path, seconds: float, every: float, clients: int, at_least: int = 0
) -> Swapped:
    """Clients ask all the time, without retries, while two models take turns as the newest version.

    It goes on for `seconds`, and up to a minute longer until there were `at_least` so many swaps.
    """
    base, outcome, lock = folder / NAME, Swapped(), threading.Lock()
    expected = [questions(model) for model in models]
    publish(models[1], base, 1)
    with served(base, "--file_system_poll_wait_seconds=1") as (process, _, address):
        over = threading.Event()

        def ask(number: int) -> None:
            with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                predict, turn = predictor(channel), number
                while not over.is_set():
                    turn += 1
                    found, problem, version = turn % len(BATCHES), "", 0
                    try:
                        answer = predict(expected[0][found][0], timeout=PATIENCE)
                        version = int(answer.model_spec.version.value)
                        right = expected[version % 2][found][1]
                        if not np.allclose(_probabilities(answer), right, rtol=0, atol=1e-6):
                            problem = f"not the answer of version {version}"
                    except grpc.RpcError as error:
                        problem = f"{error.code().name}: {error.details()}"
                    with lock:
                        outcome.requests += 1
                        outcome.by_version[version] += 1
                        outcome.wrong.update([problem] if problem else [])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        began, version = time.monotonic(), 1
        while (left := began + seconds - time.monotonic()) > 0 or (len(outcome.taken_over) <= at_least and left > -60):
            time.sleep(every if left < 0 else min(left, every))
            newest = max(outcome.by_version)
            if newest > outcome.taken_over[-1]:
                outcome.taken_over.append(newest)
                outcome.megabytes.append(process.memory_info().rss / 2**20)
            for old in base.glob("[0-9]*"):
                if int(old.name) < newest:
                    shutil.rmtree(old)
            version += 1
            publish(models[version % 2], base, version)
            outcome.published += 1
        over.set()
        for thread in threads:
            thread.join()
    return outcome


def killed(model: Path, folder: Path, kills: int) -> list[bool]:
    """Kill a server under load, start it again: does it give the same answers, bit for bit?"""
    base, same = folder / NAME, []
    publish(model, base, 1)
    (asked, expected) = questions(model)[-1]
    for _ in range(kills):
        with contextlib.ExitStack() as stack:
            process, _, address = stack.enter_context(served(base))
            channel = stack.enter_context(grpc.insecure_channel(address))
            answer = predictor(channel)(asked, timeout=PATIENCE)
            same.append(bool(np.array_equal(_probabilities(answer).astype("float32"), expected)))
            waiting = [predictor(channel).future(asked, timeout=PATIENCE) for _ in range(20)]
            process.kill()
            for each in waiting:  # an answer, or an error: never a wait for ever
                each.exception(timeout=PATIENCE)
    return same


def half_written(model: Path, folder: Path) -> dict[str, str]:
    """What a server says of versions of which only a part is there, while it goes on with the whole one."""
    base = folder / NAME
    publish(model, base, 1)
    with served(base, "--max_num_load_retries=0") as (_, url, _):
        (base / "2").mkdir()  # nothing yet
        (base / "3").mkdir()
        content = (model / "saved_model.pb").read_bytes()
        (base / "3/saved_model.pb").write_bytes(content[: len(content) // 2])
        shutil.copytree(model, base / "4", ignore=shutil.ignore_patterns("variables.data*"))
        deadline, states = time.monotonic() + 30, {}
        while time.monotonic() < deadline and states.get("4", "LOADING") not in ("END", "AVAILABLE"):
            answer = requests.get(f"{url}/v1/models/{NAME}", timeout=PATIENCE).json()
            states = {each["version"]: each["state"] for each in answer["model_version_status"]}
            time.sleep(0.1)
    return states


@dataclass
class Hostile:
    """What came of hostile messages.

    Attributes:
        outcomes: HTTP statuses and gRPC codes.
        kinds: Of what kind the messages were; see `mutations.Attack`.
        ran: Messages that reached a run of the graph.
        faults: What should not have been: no answer, an answer of the wrong kind, a traceback in the log.
        megabytes: Resident memory after the first tenth of the messages, and at the end.
        threads: Threads likewise.
        same: Whether a right request gets the right answer at the end.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    ran: int = 0
    faults: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    same: bool = False


def _attack(attack: Attack, rest: tuple[str, int], channel: grpc.Channel, outcome: Hostile) -> None:
    try:
        outcome.outcomes[send(attack, rest, channel)] += 1
    except (AssertionError, OSError) as error:
        outcome.faults.append(f"{type(error).__name__}: {error}"[:1000])


def _runs(url: str) -> int:
    """Runs of a graph so far, by the server's own count."""
    counted = re.findall(
        r"runtime_latency_count\{[^}]*\} (\d+)", requests.get(f"{url}{METRICS}", timeout=PATIENCE).text
    )
    return sum(map(int, counted))


def hostile(model: Path, folder: Path, channels: int, messages: int, slow: int) -> Hostile:
    """Messages that are wrong in many ways, while `slow` connections send a byte now and then."""
    base, outcome = folder / NAME, Hostile()
    publish(model, base, 1)
    asked, expected = questions(model)[0]
    monitoring = folder / "monitoring.config"
    monitoring.write_text(f'prometheus_config {{ enable: true path: "{METRICS}" }}')
    with contextlib.ExitStack() as stack:
        process, url, address = stack.enter_context(served(base, f"--monitoring_config_file={monitoring}"))
        channel = stack.enter_context(grpc.insecure_channel(address))
        rest = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
        stalled = [stack.enter_context(socket.create_connection(rest)) for _ in range(slow)]
        for each in stalled:
            each.sendall(b"POST /v1/models/soaked:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n[")
        before = _runs(url)
        for number, attack in enumerate(attacks(1, messages, name=NAME, channels=channels)):
            outcome.kinds[attack.kind] += 1
            _attack(attack, rest, channel, outcome)
            if number in (messages // 10, messages - 1):
                outcome.megabytes.append(process.memory_info().rss / 2**20)
                outcome.threads.append(process.num_threads())
            if number % 100 == 0:
                for each in stalled:
                    with contextlib.suppress(OSError):  # cut off by the server, as it should be in the end
                        each.sendall(b"1")
        outcome.ran = _runs(url) - before
        right = _probabilities(predictor(channel)(asked, timeout=PATIENCE)).astype("float32")
        outcome.same = bool(np.array_equal(right, expected))
    if "Traceback" in (folder / "server.log").read_text():
        outcome.faults.append("there is a traceback in the server's log")
    return outcome


@dataclass
class Agreement:
    """Whether all ways to a model give the same answers.

    Attributes:
        models: How many were asked.
        unequal: Those of which C API, gRPC and REST differ in any bit.
        largest: The largest difference of a probability to the Keras model.
        of: The model that has it.
    """

    models: int = 0
    unequal: list[str] = field(default_factory=list)
    largest: float = 0.0
    of: str = ""


def agreement(folder: Path) -> Agreement:
    """Every model of the zoo, and an LSTM with every activation, as cell's and as gates': asked in four ways."""
    import keras

    from serving.client import connect
    from zoo.activations import ACTIVATIONS
    from zoo.export import export
    from zoo.models import MODELS, SequenceTask, build

    task = SequenceTask(channels=3, classes=4, mean=(1.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
    kept = {"kind": "classification", "classes": list("abcd"), "channels": 3}
    forms = {name: (name, {}) for name in MODELS}
    for name in ACTIVATIONS:
        forms[f"cell_{name}"] = ("lstm", {"units": 16, "activation": name})
        forms[f"gates_{name}"] = ("lstm", {"units": 16, "recurrent_activation": name})
    features = np.random.default_rng(0).normal(2, 2, size=(3, 17, 3)).astype("float32")
    lengths = np.full(3, 17, "int32")
    wanted: dict[str, Any] = {}
    for name, (model_name, arguments) in forms.items():
        keras.utils.set_random_seed(1)
        model = build(model_name, task, **arguments)
        export(model, kept, folder / name)
        wanted[name] = keras.ops.softmax(model({"features": features, "lengths": lengths})).numpy()
        keras.utils.clear_session()
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}' for name in forms
    )
    (folder / "models.config").write_text(f"model_config_list {{ {entries} }}")
    found = Agreement()
    with served(folder, f"--model_config_file={folder / 'models.config'}") as (_, url, address):
        for name, keras_answer in wanted.items():
            model = load(folder / name / "1")
            answers = [model.run("serving_default", {"features": features})["probabilities"]]
            model.close()
            for target in (address, url):
                with connect(target, name) as client:
                    answers.append(np.asarray(client.raw({"features": features})["probabilities"], "float32"))
            found.models += 1
            if not all(np.array_equal(answers[0], other) for other in answers[1:]):
                found.unequal.append(name)
            difference = float(np.max(np.abs(answers[0] - keras_answer)))
            if not difference <= found.largest:
                found.largest, found.of = difference, name
    return found


def exported(folder: Path) -> tuple[Path, Path]:
    """Two models as `zoo export` writes them, alike but for their weights."""
    import keras

    from zoo.export import export
    from zoo.models import SequenceTask, build

    paths = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        model = build("lstm", SequenceTask(channels=CHANNELS, classes=9), units=64)
        task = {"kind": "classification", "classes": [f"class_{number}" for number in range(9)], "channels": CHANNELS}
        paths.append(export(model, task, folder / str(seed)).path)
    return paths[0], paths[1]


def main() -> None:
    """The full counts."""
    from training.run import environment

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / part for part in ("models", "swapped", "hostile", "killed", "half", "all")]
        for folder in folders:
            folder.mkdir()
        models = exported(folders[0])
        swaps = swapped(models, folders[1], seconds=180, every=2, clients=32)
        print(swaps, flush=True)
        attacked = hostile(models[0], folders[2], CHANNELS, messages=10_000, slow=20)
        print(attacked, flush=True)
        same = killed(models[0], folders[3], kills=5)
        states = half_written(models[0], folders[4])
        print(same, states, flush=True)
        agreed = agreement(folders[5])
        print(agreed, flush=True)
    minutes = (time.perf_counter() - began) / 60
    growth, error = swaps.growth()
    about = environment.describe()
    right = sum(attacked.kinds[kind] for kind in ("values", "bytes", "parts")) / sum(attacked.kinds.values())
    lines = [
        "# The server under load, under attack and killed",
        "",
        "- command: `python tests/support/serving_soak.py` (part of `make soak`)",
        f"- commit {about.get('git_commit', 'unknown')[:10]}; Python {about['python']}, tensorflow "
        f"{about['version.tensorflow']}, grpcio {grpc.__version__}",
        f"- machine: {about['machine']}; clients and server on the same cores",
        f"- model: `lstm`, 64 units, {CHANNELS} channels, 9 classes, as `zoo export` writes it; "
        f"time: {minutes:.0f} minutes",
        "",
        "| what | counts | found |",
        "| --- | --- | --- |",
        "| 32 gRPC clients without retries for 180 s, a new version every 2 s, old ones deleted "
        f"| {swaps.requests} requests, {swaps.published} versions, {len(swaps.taken_over) - 1} swaps "
        f"| {sum(swaps.wrong.values())} errors or answers of another version; resident memory {growth:+.2f} MB "
        f"(standard error {error:.2f}) a swap after the fifth, {max(swaps.megabytes):.0f} MB at most |",
        f"| hostile REST bodies and gRPC messages, 20 connections stalled meanwhile | {sum(attacked.kinds.values())} "
        f"messages, {right:.0%} of them mutations of right ones, {attacked.ran} runs of the graph | "
        f"{len(attacked.faults)} without a proper error or answer; memory after a tenth and at the end "
        f"{' and '.join(f'{size:.0f}' for size in attacked.megabytes)} MB, threads "
        f"{' and '.join(map(str, attacked.threads))}; a right request gets the right answer afterwards: "
        f"{'yes' if attacked.same else 'no'} |",
        f"| `kill -9` under load and started again | {len(same)} | {sum(same)} times the same answers, bit for bit |",
        f"| half a version | 3 folders | never served: {', '.join(f'{v} {s}' for v, s in sorted(states.items()))} |",
        "| every model of the zoo, and an LSTM with every activation in cell or gates, asked through the C API, gRPC "
        f"and REST | {agreed.models} | equal bit for bit but {len(agreed.unequal)}; largest difference in probability "
        f"to the Keras model {agreed.largest:.1e} ({agreed.of}) |",
        "",
        "Answers to the hostile messages: "
        + ", ".join(f"{name} {count}" for name, count in attacked.outcomes.most_common())
        + ".",
    ]
    (Path(__file__).parents[2] / "docs/results/serving_soak.md").write_text("\n".join(lines) + "\n")
    if swaps.wrong or attacked.faults or not (attacked.same and all(same)) or states.get("1") != "AVAILABLE":
        sys.exit(f"the soak found faults: {swaps.wrong} {attacked.faults[:5]} {same} {states}")
    if agreed.unequal or not agreed.largest < 1e-6:
        sys.exit(f"the soak found answers that differ: {agreed}")


if __name__ == "__main__":
    main()
