"""From data to a served prediction: three LSTM variants, the best of them behind TensorFlow Serving's API.

    make demo

Trains tanh, relu and leaky_relu as candidate-and-hidden activation on real recordings (japanese_vowels), each an
MLflow run; compares them; exports the best by validation; serves it on a free loopback port; sends it raw test
sequences of different lengths; stops the server. Every step prints the `zoo` command that does the same by hand.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console
from rich.table import Table

from zoo.quiet import import_keras

ACTIVATIONS = ("tanh", "relu", "leaky_relu(0.1)")
CONFIG = "japanese_vowels_lstm"
NAME = "speakers"
ROOT = Path("models")
SEQUENCES = Path("mlruns/demo_sequences.npz")
console = Console()


def main() -> int:
    started = time.perf_counter()
    console.rule("1. train three variants, each an MLflow run")
    with console.status("importing Keras and TensorFlow"):
        import_keras()
        from training import tracking
        from training.cli.compare import grouped, heading, plot, table
        from training.cli.export import export_run

    run_ids = [train(activation) for activation in ACTIVATIONS]

    console.rule("2. compare them")
    (compared,) = grouped([tracking.find(run_id) for run_id in run_ids])
    stored = compared.runs
    command(f"compare {' '.join(run.run_id[:8] for run in stored)}")
    console.print(heading(compared), style="bold", highlight=False)
    console.print(table(compared))
    picture = Path("mlruns/demo.png")
    plot([compared], picture)
    console.print(f"picture: {picture}")
    best = stored[0]
    if "best_validation/loss" not in best.metrics:
        console.print("every run diverged: there is nothing to export")
        return 1

    console.rule("3. export the best by validation")
    command(f"export {best.run_id[:8]} --name {NAME}")
    version = export_run(best.run_id, NAME, ROOT)
    console.print(f"{version.path}: a SavedModel, checked against the Keras model it came from")

    console.rule("4. serve it and ask")
    port = free_port()
    with server(port):
        ask(port)

    console.rule("done")
    console.print(f"{time.perf_counter() - started:.0f} s in all. To go on:\n")
    console.print(f"the runs in MLflow's pages:\n  .venv/bin/zoo ui {' '.join(run.run_id[:8] for run in stored)}\n")
    console.print("the same folder behind the real TensorFlow Serving, same API:")
    mount = f'-v "$PWD/{ROOT}/{NAME}:/models/{NAME}" -e MODEL_NAME={NAME}'
    console.print(f"  docker run --rm -p 8501:8501 {mount} tensorflow/serving", soft_wrap=True, highlight=False)
    return 0


def command(arguments: str) -> None:
    console.print(f"$ zoo {arguments}", style="bold", highlight=False, soft_wrap=True)


def train(activation: str) -> str:
    from training.config import load
    from training.train import train_one

    command(f"train --config {CONFIG} study=demo 'model.activation={activation}'")
    run_id, result = train_one(load(CONFIG, [f"model.activation={activation}", "study=demo"]), console)
    if result.validation is None or result.test is None:
        console.print(f"  {result.reason}")
        return run_id
    console.print(
        f"  run {run_id[:8]}: validation accuracy {result.validation.accuracy:.3f}, "
        f"loss {result.validation.loss:.4f}, {len(result.history)} epochs in {result.seconds:.0f} s"
    )
    return run_id


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(port: int) -> Iterator[None]:
    arguments = ["serve", "--port=0", f"--model_name={NAME}", f"--model_base_path={(ROOT / NAME).resolve()}"]
    command(f"{' '.join(arguments)} --rest_api_port={port} &")
    process = subprocess.Popen([Path(sys.executable).parent / "zoo", *arguments, f"--rest_api_port={port}"])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
        console.print("server stopped")


def ask(port: int) -> None:
    import numpy as np

    from serving.client import RestClient
    from training.datasets import get

    dataset = get("japanese_vowels")
    test = dataset.load("test")
    picked = np.linspace(0, len(test) - 1, 6).astype(int)
    sequences = [test.sequences[index] for index in picked]
    np.savez(SEQUENCES, *sequences)
    command(f"predict --target http://127.0.0.1:{port} --model_name {NAME} {SEQUENCES}")
    with RestClient(f"http://127.0.0.1:{port}", NAME) as client:
        client.wait_until_ready(60)
        predictions = client.predict(sequences)
    shown = Table("test sequence", "steps", "label", "probability", "truth")
    for index, prediction in zip(picked, predictions, strict=True):
        truth = dataset.spec.classes[test.labels[index]]
        cells = (str(index), str(len(test.sequences[index])), prediction.label, f"{max(prediction.probabilities):.4f}")
        shown.add_row(*cells, truth, style="" if prediction.label == truth else "red")
    console.print(shown)


if __name__ == "__main__":
    sys.exit(main())
