"""The optimizer that a configuration describes, and the gradient norms that it records."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from zoo.schedules import WarmUpThenFall

if TYPE_CHECKING:
    from training.config.schema import OptimizerSection, TrainSection

Tensor = Any

OPTIMIZERS: dict[str, Any] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}

# Final share of the learning rate where the configuration gives none.
_FINAL_SHARE = 0.01

_NORMS = ("gradient_norm_sum", "gradient_norm_max", "gradient_norm_count")


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Build models in this context with the precision called `name`, such as "mixed_bfloat16".

    Example:
    >>> with precision("mixed_bfloat16"):
    ...     layer = keras.layers.Dense(1)
    >>> layer.compute_dtype, layer.variable_dtype, keras.config.dtype_policy().name
    ('bfloat16', 'float32', 'float32')
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def make_optimizer(
    section: "OptimizerSection", train: "TrainSection", steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Make the optimizer of a run, which records gradient norms for `take_gradient_norm`.

    The norm is that of the whole gradient before clipping. Recording does not change a single bit of the weights. A
    model with this optimizer is saved with Keras's own optimizer of the same name, and loads without this module.

    Args:
        section: The optimizer and its learning rate.
        train: The number of epochs, and the precision: float16 needs loss scaling.
        steps_per_epoch: Training steps per epoch, for the schedule.
    """
    momentum = {"momentum": section.momentum} if section.momentum else {}
    optimizer = _made_of(_Recording, OPTIMIZERS[section.name])(
        _learning_rate(section, train.epochs, steps_per_epoch),
        # global_clipnorm scales the whole gradient; Keras's clipnorm would scale that of each weight separately.
        global_clipnorm=section.clipnorm,
        clipvalue=section.clipvalue,
        weight_decay=section.weight_decay or None,
        **momentum,
    )
    if train.precision == "mixed_float16":
        return _made_of(_SavedAsKeras, keras.optimizers.LossScaleOptimizer)(optimizer, name="loss_scale_optimizer")
    return optimizer


def take_gradient_norm(optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """Return and reset the gradient norms recorded since the last call, before clipping.

    Call it at the end of an epoch with the optimizer of a callback's `self.model`: on JAX the variables are updated
    only when a callback accesses its model. With mixed_float16 the norm is that of the unscaled gradient, and steps
    that were skipped because the scaled gradient overflowed are not counted.

    Args:
        optimizer: From `make_optimizer`.

    Returns:
        "mean" and "max". A norm that was not finite affects both; both are NaN where no step was taken.

    Raises:
        TypeError: The optimizer does not record gradient norms.

    Example:
    >>> from training.config.schema import OptimizerSection, TrainSection
    >>> optimizer = make_optimizer(OptimizerSection(name="sgd"), TrainSection(), steps_per_epoch=1)
    >>> weight = keras.Variable([1.0, 1.0])
    >>> for gradient in ([3.0, 4.0], [0.0, 0.0]):
    ...     optimizer.apply([ops.convert_to_tensor(gradient)], [weight])
    >>> take_gradient_norm(optimizer)
    {'mean': 2.5, 'max': 5.0}
    >>> take_gradient_norm(optimizer)
    {'mean': nan, 'max': nan}
    """
    recording = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(recording, _Recording):
        raise TypeError(f"expected an optimizer made by make_optimizer, received {type(optimizer).__name__}")
    if not recording.built:
        return {"mean": math.nan, "max": math.nan}
    total, largest, count = (float(ops.convert_to_numpy(variable)) for variable in recording.gradient_norms)
    for variable in recording.gradient_norms:
        variable.assign(0.0)
    mean = total / count if count else math.nan
    # Which of a number and NaN is the larger depends on the backend; their sum, and so the mean, is always NaN.
    return {"mean": mean, "max": mean if math.isnan(mean) else largest}


def _learning_rate(section: "OptimizerSection", epochs: int, steps_per_epoch: int) -> float | WarmUpThenFall:
    if section.schedule == "constant" and not section.warmup_epochs:
        return section.learning_rate
    return WarmUpThenFall(
        section.learning_rate,
        epochs * steps_per_epoch,
        section.schedule,
        int(section.warmup_epochs * steps_per_epoch),
        _FINAL_SHARE if section.final_share is None else section.final_share,
    )


# === Recording ===


class _SavedAsKeras(keras.optimizers.Optimizer):
    """Saves and loads what Keras's own class does, without the gradient norms."""

    def save_own_variables(self, store: Any) -> None:
        for place, variable in enumerate(self._saved()):
            store[str(place)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        for place, variable in enumerate(self._saved()):
            variable.assign(store[str(place)])

    def _saved(self) -> list[keras.Variable]:
        return [variable for variable in self.variables if variable.name not in _NORMS]


class _Recording(_SavedAsKeras):
    """Records the norm of the whole gradient, and excludes weights of rank 0 and 1 from decay."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        self.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
        super().build(variables)
        # "mean": where devices share a batch, each records the same norm, and a sum would count it several times.
        self.gradient_norms = [self.add_variable((), dtype="float32", aggregation="mean", name=name) for name in _NORMS]

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        norm = _global_norm([gradient for gradient in grads if gradient is not None])
        super().apply(grads, trainable_variables)
        total, largest, count = self.gradient_norms
        total.assign_add(norm)
        largest.assign(ops.maximum(largest, norm))
        count.assign_add(1.0)


def _global_norm(gradients: Sequence[Tensor]) -> Tensor:
    # The same operations as Keras uses for clipping, so that a compiled step computes the norm once for both.
    return ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(_dense(gradient))) for gradient in gradients])))


def _dense(gradient: Tensor) -> Tensor:
    """Convert the gradient of an embedding, which is sparse on TensorFlow, to a dense tensor.

    A token that occurs twice has two rows in the sparse form, which the conversion adds up.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return gradient


@cache
def _made_of(mixin: Any, public: Any) -> Any:
    """Derive a class from `mixin` and `public`, under the name by which Keras finds `public`."""
    of_backend = type(public.__new__(public))  # on torch Keras replaces each optimizer by a subclass
    return type(public.__name__, (mixin, of_backend), {"__module__": "keras.optimizers"})
