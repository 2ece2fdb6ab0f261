"""Data-parallel training: every device computes its own rows of each batch, and all hold the same weights.

The gradient of a step must not depend on the number of devices, so what concerns a whole batch is settled where the
whole batch is known. Devices want equal parts: a batch that does not divide is filled up with rows of its own, which
weigh nothing (`shard`). The mean over a batch becomes weights, since no device sees the sum of all of them. And the
gradient is summed over the devices before it is clipped, where Keras on TensorFlow clips first (`Devices.optimizer`).
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
    """Devices or hosts that cannot train together; the message says why and what can be done."""

    exit_code = 2


def join() -> None:
    """Meet the other processes of a run over several hosts; does nothing where the environment names none.

    Each process of the run is started with the variables that Keras reads: `KERAS_DISTRIBUTION_JOB_ADDRESSES`
    (`host:port` of process 0), `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`. To be called
    before the first array or layer is made: JAX cannot be told later. JAX waits five minutes for the others. If one
    does not come, or the port is taken, it ends the process itself, with a message of its own and no exception.

    Raises:
        CannotDistribute: A variable is missing or not understood, or the backend is not JAX.
    """
    missing = [name for name in _HOSTS if not os.environ.get(name)]
    if len(missing) == len(_HOSTS):
        return
    if missing:
        raise CannotDistribute(
            f"the environment lacks {' and '.join(missing)}: several hosts need all of {', '.join(_HOSTS)}"
        )
    if keras.backend.backend() != "jax":
        raise CannotDistribute(
            f"several hosts train together on JAX only, and the backend is {keras.backend.backend()}: set "
            "KERAS_BACKEND=jax, or unset the KERAS_DISTRIBUTION_ variables"
        )
    try:
        keras.distribution.initialize()
    except (ValueError, IndexError) as error:  # not a number, a number too large, an address without port
        received = ", ".join(f"{name}={os.environ[name]!r}" for name in _HOSTS)
        raise CannotDistribute(
            f"received {received}, expected host:port of process 0, how many processes there are, and which this one "
            f"is, from 0: {error}"
        ) from None


def is_first() -> bool:
    """Whether this process is the one that records the run: the only one, or process 0 of several."""
    return os.environ.get(_HOSTS[2], "0") == "0"


def several_hosts() -> bool:
    """Whether the environment names other processes that this one trains with."""
    return bool(os.environ.get(_HOSTS[0]))


@dataclass(frozen=True)
class Devices:
    """What a model is trained on.

    Attributes:
        count: Devices of all hosts together.
        hosts: Processes that train together.
        host: The index of this one.
        spread: Whether batches are spread over them: a model that was trained so is kept as a copy made outside.
        sums_late: Whether each device has a gradient of its own rows, so that someone must add them up.
    """

    count: int = 1
    hosts: int = 1
    host: int = 0
    spread: bool = False
    sums_late: bool = False
    _scope: Callable[[], AbstractContextManager[Any]] = nullcontext

    def scope(self) -> AbstractContextManager[Any]:
        """Where the model must be built, compiled and trained."""
        return self._scope()

    def compile_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Those of `compile` for batches of `share`: the loss adds up what their weights have made a mean of."""
        if not self.spread:
            return arguments
        arguments["loss"].reduction = "sum"
        counting = [_counting(one) for key in ("metrics", "weighted_metrics") for one in arguments.get(key) or ()]
        return {**arguments, "metrics": None, "weighted_metrics": counting}

    def optimizer(self, optimizer: keras.Optimizer) -> keras.Optimizer:
        """The same optimizer, made to sum the gradient over the devices before it does anything with it.

        Keras on TensorFlow clips the gradient of each device's rows and sums what is left, so that clipping would
        depend on the number of devices. On JAX there is one gradient from the beginning.
        """
        if self.sums_late:
            _sum_first(optimizer)
        return optimizer

    def share(self, batches: Batches | Windows, evaluation: bool = False) -> "Batches | Windows | Share":
        """What this process feeds: `batches`, or its rows of them.

        Args:
            batches: Whole batches, the same in every process.
            evaluation: Weigh the rows so that the loss over an epoch, too, is that of the rows without the filling.
        """
        return Share(batches, self, evaluation) if self.spread else batches


ONE = Devices()


def start(
    name: str | None, keeps_states: bool, batch_size: int, jit_compile: bool = False, device: str = "auto"
) -> Devices:
    """Choose the devices for a run.

    Args:
        name: `None`, one device; or "data", every device of this host (of all hosts after `join`): all GPUs where there
            is one, else the CPU.
        keeps_states: Whether the model keeps states from batch to batch, as a language model does.
        batch_size: Rows of a whole batch.
        jit_compile: Whether steps are to be compiled by XLA.
        device: What `use_device` was given: with "cpu" GPUs are left out, and with a single GPU nothing is distributed.

    Raises:
        CannotDistribute: The backend, or these devices, cannot do it.
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
        raise CannotDistribute("train.jit_compile=true cannot be spread over devices on TensorFlow: set it to false")
    if backend == "tensorflow" and keeps_states:
        raise CannotDistribute(
            "a language model keeps states from batch to batch, which TensorFlow cannot spread over devices: set "
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
    """The rows of a whole batch that one host computes, with weights.

    A batch that does not divide by `devices` is filled up with its own first rows, of weight 0. They must be real rows:
    zeros might give a loss that is not finite, and 0 times that is not 0.

    Args:
        batch: Inputs, targets and perhaps weights of the targets or of the rows.
        devices: Of all hosts together.
        hosts: Hosts, with equally many devices each.
        host: The index of this one.
        filled: For evaluation: rows of an epoch with the filling, over those without.

    Returns:
        Inputs, targets and a weight for every value of the loss. The weights of a batch add up to 1, so that the sum of
        all weighted values is the batch's weighted mean. With `filled` they add up to a little less in a batch that
        was filled up and to a little more in others: the mean of those sums over an epoch, each counted by all rows of
        its batch, as Keras does, is that of the means counted by the rows without the filling.

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
    numbers = targets.dtype.kind == "f"  # their loss is a mean over the outputs
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
    """Batches of which this process gives its own rows: `shard` of each.

    Args:
        batches: Whole batches.
        devices: What they are spread over.
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
        """As of the whole batches."""
        return self._batches.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._batches.epoch = epoch

    def shapes(self) -> tuple[Any, ...]:
        """As of the whole batches, with weights."""
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
    # Once a process: a second strategy numbers its sums from the beginning and gets those of the first.
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
    spread = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)  # `Share` has done that
    return Devices(count, hosts, jax.process_index(), spread=True, _scope=spread.scope)


def _counting(metric: keras.metrics.Metric) -> keras.metrics.Metric:
    """The same metric, of all targets with a weight, which count the same: the others are filling or have no label."""

    class Counting(type(metric)):  # type: ignore[misc]
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
            return super().update_state(y_true, y_pred, keras.ops.cast(sample_weight > 0, "float32"))

    return Counting.from_config(metric.get_config())


def _sum_first(optimizer: Any) -> None:
    """Let `apply` of an optimizer get the gradient summed over all devices."""
    import tensorflow as tf

    apply = optimizer.apply

    def apply_whole(grads: Any, trainable_variables: Any = None) -> None:
        given = [grad for grad in grads if grad is not None]
        summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, given))
        apply([None if grad is None else next(summed) for grad in grads], trainable_variables)

    optimizer.apply = apply_whole
    for applied in (optimizer, getattr(optimizer, "inner_optimizer", optimizer)):
        applied._all_reduce_sum_gradients = lambda grads_and_variables: grads_and_variables
