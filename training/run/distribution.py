"""Data-parallel training: every device computes its own rows of each batch, and all hold the same weights.

The gradient of a step must not depend on the number of devices, so everything that concerns a whole batch is computed
before the batch is split. Devices need equal parts: a batch that does not divide is filled up with its own rows, of
weight 0 (`shard`). The mean over a batch is expressed by weights, since no device knows the sum over all devices. And
the gradient is summed over the devices before it is clipped, whereas Keras on TensorFlow clips first
(`Devices.optimizer`).
"""

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np

from training.batches.batches import Batch, Batches
from training.batches.windows import Windows

_HOSTS = tuple(f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))


class CannotDistribute(ValueError):
    """Devices or hosts cannot train together; the message says why and what to do."""

    exit_code = 2


def join() -> None:
    """Connect to the other processes of a run over several hosts, if the environment names any.

    Each process of the run is started with the variables that Keras reads: `KERAS_DISTRIBUTION_JOB_ADDRESSES`
    (`host:port` of process 0), `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`. Call this before
    the first array or layer is made, because JAX cannot be configured later. JAX waits five minutes for the other
    processes. If one is missing, or the port is taken, JAX ends this process with its own message and no exception.

    Raises:
        CannotDistribute: A variable is missing or invalid, or the backend is not JAX.
    """
    missing = [name for name in _HOSTS if not os.environ.get(name)]
    if len(missing) == len(_HOSTS):
        return
    if missing:
        raise CannotDistribute(
            f"the environment lacks {' and '.join(missing)}: set all of {', '.join(_HOSTS)} to train on several hosts"
        )
    if keras.backend.backend() != "jax":
        raise CannotDistribute(
            f"several hosts train together on JAX only, and the backend is {keras.backend.backend()}: set "
            "KERAS_BACKEND=jax, or unset the KERAS_DISTRIBUTION_ variables"
        )
    try:
        keras.distribution.initialize()
    except (ValueError, IndexError) as error:  # not a number, too large a number, an address without port
        received = ", ".join(f"{name}={os.environ[name]!r}" for name in _HOSTS)
        raise CannotDistribute(
            f"received {received}, expected host:port of process 0, the number of processes, and the index of this "
            f"one, from 0: {error}"
        ) from None


def is_first() -> bool:
    """Whether this process records the run: it is the only one, or process 0 of several."""
    return os.environ.get(_HOSTS[2], "0") == "0"


def several_hosts() -> bool:
    """Whether the environment names other processes of the same run."""
    return bool(os.environ.get(_HOSTS[0]))


@dataclass(frozen=True)
class Devices:
    """The devices that a model is trained on.

    Attributes:
        count: Number of devices of all hosts together.
        hosts: Number of processes that train together.
        host: The index of this one.
        spread: Whether batches are split between devices. The trained model is then copied outside of `scope`.
        sums_late: Whether each device has the gradient of its own rows only, so that they must be summed.
    """

    count: int = 1
    hosts: int = 1
    host: int = 0
    spread: bool = False
    sums_late: bool = False
    _scope: Callable[[], AbstractContextManager[Any]] = nullcontext

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which the model must be built, compiled and trained."""
        return self._scope()

    def compile_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Adapt the arguments of `compile` to batches of `share`.

        The loss becomes a sum, since the weights of those batches turn the sum into a mean.
        """
        if not self.spread:
            return arguments
        arguments["loss"].reduction = "sum"
        counting = [_counting(one) for key in ("metrics", "weighted_metrics") for one in arguments.get(key) or ()]
        return {**arguments, "metrics": None, "weighted_metrics": counting}

    def optimizer(self, optimizer: keras.Optimizer) -> keras.Optimizer:
        """Make the optimizer sum the gradient over the devices before it clips.

        Keras on TensorFlow clips the gradient of each device and sums the results, so clipping would depend on the
        number of devices. On JAX there is only one gradient.
        """
        if self.sums_late:
            _sum_first(optimizer)
        return optimizer

    def share(self, batches: Batches | Windows, evaluation: bool = False) -> "Batches | Windows | Share":
        """The batches, or the rows of them that this process computes.

        Args:
            batches: Whole batches, the same in every process.
            evaluation: Weight the rows so that the mean loss of an epoch, too, ignores the filling.
        """
        return Share(batches, self, evaluation) if self.spread else batches


ONE = Devices()


def start(
    name: str | None, keeps_states: bool, batch_size: int, jit_compile: bool = False, device: str = "auto"
) -> Devices:
    """Choose the devices for a run.

    Args:
        name: `None` for one device, or "data" for every device of this host (of all hosts after `join`): all GPUs where
            there is one, else the CPU.
        keeps_states: Whether the model keeps states from batch to batch, as a language model does.
        batch_size: Rows of a whole batch.
        jit_compile: Whether steps are to be compiled by XLA.
        device: The argument of `use_device`: "cpu" leaves GPUs out; a single GPU such as "gpu:1" is an error.

    Raises:
        CannotDistribute: The backend or the devices do not support it.
    """
    backend = keras.backend.backend()
    if name is None:
        if several_hosts():
            raise CannotDistribute(f"{_HOSTS[0]} names several processes: set train.distribution=data, or unset it")
        return ONE
    if backend not in ("tensorflow", "jax"):
        raise CannotDistribute(f"train.distribution={name} works on TensorFlow and JAX, and the backend is {backend}")
    if ":" in device:
        raise CannotDistribute(
            f"train.distribution={name} takes all GPUs, and train.device={device} one: set train.device=gpu, choose "
            "them by CUDA_VISIBLE_DEVICES, or set train.distribution=none"
        )
    if backend == "tensorflow" and jit_compile:
        raise CannotDistribute("train.jit_compile=true cannot be distributed on TensorFlow: set it to false")
    if backend == "tensorflow" and keeps_states:
        raise CannotDistribute(
            "a language model keeps states from batch to batch, which TensorFlow cannot distribute: set "
            "train.distribution=none, or KERAS_BACKEND=jax"
        )
    devices = _mirrored() if backend == "tensorflow" else _data_parallel("cpu" if device == "cpu" else None)
    if keeps_states and batch_size % devices.count:
        raise CannotDistribute(
            f"dataset.batch_size={batch_size} does not divide among {devices.count} devices; the streams of a language "
            f"model must: choose {_filled_up(batch_size, devices.count)}"
        )
    return devices


def shard(batch: Batch, devices: int, hosts: int = 1, host: int = 0, filled: float | None = None) -> Batch:
    """Take the rows of a whole batch that one host computes, with weights.

    A batch that does not divide by `devices` is filled up with its own first rows, at weight 0. Rows of zeros would not
    do: their loss might not be finite, and 0 times infinity is not 0.

    Args:
        batch: Inputs, targets and optionally weights of the targets or of the rows.
        devices: Number of devices of all hosts together.
        hosts: Number of hosts, which have equally many devices each.
        host: The index of this host.
        filled: For evaluation: the number of rows of an epoch with the filling, divided by that without.

    Returns:
        Inputs, targets and a weight for every value of the loss. The weights of a batch add up to 1, so that the sum of
        all weighted values is the weighted mean of the batch. With `filled` they add up to slightly less in a batch
        that was filled up and to slightly more in others. Keras averages the losses of batches by their number of rows,
        filling included; this correction makes the average the same as without filling.

    Example:
    >>> inputs, targets = {"features": np.zeros((3, 5, 1))}, np.array([7, 8, 9])
    >>> for host in (0, 1):
    ...     _, of_host, weights = shard((inputs, targets), devices=2, hosts=2, host=host)
    ...     of_host.tolist(), weights.round(3).tolist()
    ([7, 8], [0.333..., 0.333...])
    ([9, 7], [0.333..., 0.0])
    """
    inputs, targets, *given = batch
    rows = len(targets)
    padded = _filled_up(rows, devices)
    numbers = targets.dtype.kind == "f"  # their loss is a mean over the outputs, so all outputs share one weight
    weights = np.ones(targets.shape[:-1] if numbers else targets.shape, np.float32)
    for factor in given:
        weights *= factor.reshape(factor.shape + (1,) * (weights.ndim - factor.ndim))
    weights /= weights.sum(dtype=np.float64) or 1.0
    if filled is not None:
        weights *= rows / padded * filled
    place = np.arange(host * padded // hosts, (host + 1) * padded // hosts)
    mine = place % rows
    weights = np.where((place < rows).reshape(-1, *[1] * (weights.ndim - 1)), weights[mine], np.float32(0))
    return {name: values[mine] for name, values in inputs.items()}, targets[mine], weights


class Share(keras.utils.PyDataset):
    """The rows of batches that this process computes: `shard` of each batch.

    Args:
        batches: Whole batches.
        devices: The devices that batches are split between.
        evaluation: As in `Devices.share`.
    """

    def __init__(self, batches: Batches | Windows, devices: Devices, evaluation: bool = False) -> None:
        super().__init__()
        self._batches, self._devices = batches, devices
        self._filled: float | None = None
        if evaluation and isinstance(batches, Batches):  # the streams of `Windows` need no filling
            sizes = [len(members) for members in batches.plan(0)]
            self._filled = sum(_filled_up(size, devices.count) for size in sizes) / sum(sizes)

    @property
    def epoch(self) -> int:
        """The epoch of the whole batches."""
        return self._batches.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._batches.epoch = epoch

    def shapes(self) -> tuple[Any, ...]:
        """Shapes of the whole batches, with weights added."""
        inputs, (shape, dtype), *_ = self._batches.shapes()
        return inputs, (shape, dtype), (shape[:-1] if dtype == "float32" else shape, "float32")

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> Batch:
        """Item `index` of an epoch; may be called from any thread."""
        devices = self._devices
        return shard(self._batches.batch(epoch, index), devices.count, devices.hosts, devices.host, self._filled)


def _filled_up(rows: int, devices: int) -> int:
    return math.ceil(rows / devices) * devices


@cache
def _mirrored() -> Devices:
    # One strategy per process: a second one would number its collective sums from 0 and receive those of the first.
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in found])
    return Devices(len(found), spread=True, sums_late=True, _scope=strategy.scope)


def _data_parallel(kind: str | None) -> Devices:
    import jax

    hosts, count, local = jax.process_count(), jax.device_count(kind), jax.local_device_count(kind)
    if count != hosts * local:
        raise CannotDistribute(
            f"process {jax.process_index()} has {local} of {count} devices, expected equally many "
            f"in each of {hosts} processes: choose them by CUDA_VISIBLE_DEVICES"
        )
    names = keras.distribution.list_devices(kind)
    # `Share` has split the batches already.
    spread = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    return Devices(count, hosts, jax.process_index(), spread=True, _scope=spread.scope)


def _counting(metric: keras.metrics.Metric) -> keras.metrics.Metric:
    """Copy a metric so that it counts all targets with a positive weight equally.

    Targets of weight 0 are filling or have no label.
    """

    class Counting(type(metric)):  # type: ignore[misc]
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
            return super().update_state(y_true, y_pred, keras.ops.cast(sample_weight > 0, "float32"))

    return Counting.from_config(metric.get_config())


def _sum_first(optimizer: Any) -> None:
    """Replace `apply` of an optimizer by one that first sums the gradient over all devices."""
    import tensorflow as tf

    apply = optimizer.apply

    def apply_whole(grads: Any, trainable_variables: Any = None) -> None:
        given = [grad for grad in grads if grad is not None]
        summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, given))
        apply([None if grad is None else next(summed) for grad in grads], trainable_variables)

    optimizer.apply = apply_whole
    # Keras on TensorFlow would sum once more after clipping; a loss-scaling optimizer has another one inside.
    for applied in (optimizer, getattr(optimizer, "inner_optimizer", optimizer)):
        applied._all_reduce_sum_gradients = lambda grads_and_variables: grads_and_variables
