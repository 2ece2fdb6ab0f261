"""Which device a run computes on: obeyed, or refused with what there is."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest

from training.config import ConfigError, load
from training.config.schema import OptimizerSection, TrainSection
from training.run import distribution
from training.run.device import DeviceFixed, DeviceNotFound, use_device
from training.run.loop import build_model
from training.run.optimizer import make_optimizer, precision
from zoo import devices
from zoo.devices import Device
from zoo.models import SequenceTask, build

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
TWO = [Device("gpu:0", "Fast"), Device("gpu:1", "Faster")]


@pytest.fixture(autouse=True)
def as_before():
    yield
    use_device("auto")


@pytest.mark.parametrize("name", ["tpu", "gpu:", "cuda:0", "gpu:-1", ""])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(ConfigError, match=r"train\.device"):
        load(overrides=[f"train.device='{name}'"])


@pytest.mark.skipif(bool(devices.gpus()), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused_with_what_there_is(monkeypatch):
    with pytest.raises(DeviceNotFound, match=rf"train.device=gpu is not here: {BACKEND} sees cpu:0; .*pip install"):
        use_device("gpu")
    assert load(overrides=["train.device=gpu"]).train.device == "gpu"  # a file may be for another machine
    monkeypatch.setattr(devices, "gpus", lambda: TWO)
    with pytest.raises(DeviceNotFound, match=r"gpu:0 \(Fast\), gpu:1 \(Faster\), cpu:0\. Choose .* train.device=auto"):
        use_device("gpu:2")


def test_the_cpu_computes_and_what_is_built_there_learns():
    use_device("cpu")
    assert devices.computing() == "cpu:0"
    layer = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((2,)), layer])
    before = layer.kernel.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"), verbose=0)
    assert (layer.kernel.numpy() != before).all()


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow is shown devices, not asked for one")
def test_keras_is_asked_for_the_gpu_until_another_is_wanted(monkeypatch):
    asked, left = [], []

    class Scope(nullcontext):
        def __exit__(self, *_):
            left.append(asked[-1])

    def scope(name):
        asked.append(str(getattr(name, "id", name)))
        return Scope()

    monkeypatch.setattr(devices, "gpus", lambda: TWO)
    monkeypatch.setattr(keras, "device", scope)
    if BACKEND == "jax":
        from types import SimpleNamespace

        import jax

        monkeypatch.setattr(jax, "local_devices", lambda backend: [SimpleNamespace(id=0), SimpleNamespace(id=1)])
    for name in ("gpu", "gpu:1", "auto"):
        use_device(name)
    assert asked == (["0", "1"] if BACKEND == "jax" else ["gpu:0", "gpu:1"])
    assert left == asked


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's own way")
def test_tensorflow_is_shown_the_devices_that_it_may_use(monkeypatch):
    import tensorflow as tf

    shown = [["first", "second"]]
    monkeypatch.setattr(devices, "gpus", lambda: TWO)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: shown[-1])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda those, kind: shown.append(those))
    for name in ("auto", "gpu", "cpu", "cpu", "gpu:1"):
        use_device(name)
    assert shown[1:] == [[], ["second"]]

    def too_late(those, kind):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    with pytest.raises(DeviceFixed, match=r"train\.device=cpu comes too late: TensorFlow computes on cpu:0"):
        use_device("cpu")


def test_steps_are_compiled_on_jax_alone():
    config = load(overrides=["model.units=4"])
    assert build_model(config, SequenceTask(channels=2, classes=2)).jit_compile == (BACKEND == "jax")


@pytest.mark.skipif(BACKEND == "torch", reason="torch is not distributed at all")
def test_one_gpu_is_no_distribution():
    with pytest.raises(distribution.CannotDistribute, match=r"takes all GPUs, and train\.device=gpu:1 one"):
        distribution.start("data", False, 8, device="gpu:1")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.sample(1, elsewhere=1)
def test_sixteen_bits_train(policy):
    """Weights stay float32, the loss falls, and no step is left out, as each would be whose gradient overflowed."""
    with precision(policy):
        model = build("lstm", SequenceTask(channels=2, classes=2, mean=(0.0, 0.0), variance=(1.0, 1.0)), units=8)
    optimizer = make_optimizer(OptimizerSection(learning_rate=0.02), TrainSection(precision=policy), steps_per_epoch=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=BACKEND == "jax")
    x = np.random.default_rng(0).normal(size=(64, 5, 2)).astype("float32")
    inputs = {"features": x, "lengths": np.full(64, 5, "int32")}
    losses = model.fit(inputs, (x.sum((1, 2)) > 0).astype("int32"), epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers} >= {policy.removeprefix("mixed_")}
    assert int(getattr(optimizer, "inner_optimizer", optimizer).iterations.numpy()) == 20
