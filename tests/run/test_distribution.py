"""Training on several devices or hosts gives the weights that one device gives.

This file is a program too: the devices of a process are chosen before Keras is imported, so each test starts its own.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from waiting import PATIENCE

from training.batches.batches import Batches
from training.config.schema import OptimizerSection, TrainSection
from training.datasets import Examples
from training.run import distribution
from training.run.optimizer import make_optimizer
from training.run.tasks import compile_arguments
from training.run.tf_input import FollowEpoch, feed
from zoo.models import SequenceTask, build

# Sums over devices add float32 numbers in another order: some units in the last place, 6e-8 of 1, at every step. One
# rounding at a time moved no weight by more than 6e-8; a device left out, or a mean of means, moves them by 1e-3.
ROUNDING = 1e-6

TASK = SequenceTask(channels=2, classes=3)


def examples() -> Examples:
    """9 of one length in batches of 6: the last batch has 3, which two devices cannot halve."""
    generator = np.random.default_rng(3)
    return Examples([generator.normal(size=(4, 2)).astype("float32") for _ in range(9)], generator.integers(0, 3, 9))


def train(devices: distribution.Devices) -> dict[str, object]:
    """Two epochs, every gradient clipped, with class weights; gives the weights and what was reported."""
    keras.utils.set_random_seed(1)
    weights = np.array([0.5, 1.0, 2.0], "float32")
    batches = devices.share(Batches(examples(), 6, seed=0, class_weights=weights))
    held_out = devices.share(Batches(examples(), 6, seed=0, shuffle=False), evaluation=True)
    with devices.scope():
        model = build("lstm", TASK, units=2, head_dropout=0.0)
        section = OptimizerSection(name="sgd", learning_rate=0.5, momentum=0.9, clipnorm=0.05)
        model.compile(
            devices.optimizer(make_optimizer(section, TrainSection(), len(batches))),
            jit_compile=keras.backend.backend() == "jax",
            **devices.compile_arguments(compile_arguments(TASK)),
        )
        (fed, steps), (validation, of_validation) = feed(batches), feed(held_out, same_order=True)
        fitted = model.fit(
            fed,
            steps_per_epoch=steps,
            validation_data=validation,
            validation_steps=of_validation,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[FollowEpoch(batches)],
        )
    reported = {key: fitted.history[key] for key in ("accuracy", "val_accuracy", "val_loss")}
    norms = [float(norm.numpy()) for norm in model.optimizer.gradient_norms]
    weights = {variable.path: variable.numpy().tolist() for variable in model.trainable_variables}
    return {"devices": devices.count, "hosts": devices.hosts, "norms": norms, "weights": weights} | reported


def program(backend: str, **environment: str) -> "subprocess.Popen[str]":
    """This file, started to train on one device and then on all."""
    own = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | own | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(process: "subprocess.Popen[str]") -> list[dict[str, object]]:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err[-3000:]
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def assert_same(one: dict[str, object], several: dict[str, object]) -> None:
    for key in ("accuracy", "val_accuracy", "val_loss", "norms"):
        np.testing.assert_allclose(several[key], one[key], rtol=1e-5, err_msg=key)
    for path, values in one["weights"].items():
        np.testing.assert_allclose(several["weights"][path], values, rtol=0, atol=ROUNDING, err_msg=path)


@pytest.mark.slow
def test_two_devices_of_tensorflow_train_as_one():
    one, two = results(program("tensorflow"))
    assert (one["devices"], two["devices"]) == (1, 2)
    assert_same(one, two)


@pytest.mark.slow
def test_two_processes_of_jax_train_as_one():
    pytest.importorskip("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    processes = [program("jax", KERAS_DISTRIBUTION_PROCESS_ID=str(host), **hosts) for host in (0, 1)]
    (one, first), (_, second) = map(results, processes)
    assert (first["devices"], first["hosts"]) == (2, 2)
    assert first == second, "the processes hold different weights"
    assert_same(one, first)


KINDS = {
    "classification": np.array([0, 2, 1]),
    "labelling": np.array([[0, 1], [2, 0], [1, 1]]),
    "regression": np.array([[0.5, 1], [2, 3], [1, -1]], "float32"),
    "forecasting": np.arange(12, dtype="float32").reshape(3, 2, 2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_sums_of_the_parts_are_the_loss_of_the_batch(kind, weighted):
    targets, generator = KINDS[kind], np.random.default_rng(0)
    outputs = {"outputs": 2} if targets.dtype.kind == "f" else {"classes": 3}
    shape = targets.shape if "outputs" in outputs else (*targets.shape, 3)
    said = generator.normal(size=shape).astype("float32")
    given = ((targets != 0).astype("float32"),) if weighted and "classes" in outputs else ()
    loss = compile_arguments(SequenceTask(channels=1, kind=kind, **outputs))["loss"]
    expected = float(loss(targets, said, *given))
    loss.reduction = "sum"
    total = 0.0
    for host in range(4):
        inputs, answers, weights = distribution.shard(({"said": said}, targets, *given), 4, hosts=4, host=host)
        total += float(loss(answers, inputs["said"], weights))
    assert total == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"},
            "lacks KERAS_DISTRIBUTION_JOB_ADDRESSES and KERAS_DISTR.*PROCESS_ID",
        ),
        (
            dict.fromkeys(distribution._HOSTS, "1"),
            "on JAX only, and the backend is tensorflow",
        ),
    ],
)
def test_hosts_that_cannot_meet_are_refused(environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(distribution.CannotDistribute, match=message):
        distribution.join()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keeps_states": True}, "KERAS_BACKEND=jax"),
        ({"keeps_states": False, "jit_compile": True}, "train.jit_compile=true"),
    ],
)
def test_what_tensorflow_cannot_spread_is_refused(arguments, message):
    with pytest.raises(distribution.CannotDistribute, match=message):
        distribution.start("data", batch_size=4, **arguments)


def test_a_process_of_several_must_not_train_alone(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "127.0.0.1:1")
    with pytest.raises(distribution.CannotDistribute, match=r"train\.distribution=data"):
        distribution.start(None, False, batch_size=4)


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    distribution.join()
    for chosen in (distribution.Devices(), distribution.start("data", False, batch_size=6)):
        print(json.dumps(train(chosen)), flush=True)
