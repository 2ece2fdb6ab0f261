"""How weights are updated: the optimizer that a configuration describes, and the gradient norms that it records."""

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

# What a schedule leaves of the learning rate where the configuration does not say.
_FINAL_SHARE = 0.01

_NORMS = ("gradient_norm_sum", "gradient_norm_max", "gradient_norm_count")


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Models built in this context compute in the precision called `name`, such as "mixed_bfloat16".

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
    """The optimizer of a run. It records the norm of the whole gradient before clipping, for `take_gradient_norm`.

    Recording changes no weight by a bit. A model saved with this optimizer is saved with Keras's own of the same name
    and loads without this module.

    Args:
        section: Which optimizer, and its learning rate.
        train: How many epochs there are, and the precision: float16 needs its loss scaled.
        steps_per_epoch: Training steps an epoch, for the schedule.
    """
    momentum = {"momentum": section.momentum} if section.momentum else {}
    optimizer = _made_of(_Recording, OPTIMIZERS[section.name])(
        _learning_rate(section, train.epochs, steps_per_epoch),
        # global_clipnorm scales the whole gradient; Keras's clipnorm would scale each weight's by itself.
        global_clipnorm=section.clipnorm,
        clipvalue=section.clipvalue,
        weight_decay=section.weight_decay or None,
        **momentum,
    )
    if train.precision == "mixed_float16":
        return _made_of(_SavedAsKeras, keras.optimizers.LossScaleOptimizer)(optimizer, name="loss_scale_optimizer")
    return optimizer


def take_gradient_norm(optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """The norm of the whole gradient before clipping, over the steps since the last call.

    Call it at the end of an epoch with the optimizer of a callback's `self.model`: on JAX the steps are elsewhere until
    a callback asks for its model. With mixed_float16 the norm is that of the gradient of the loss as it is, unscaled,
    and steps that were left out because the scaled one overflowed are not counted.

    Args:
        optimizer: From `make_optimizer`.

    Returns:
        "mean" and "max". A norm that was not finite shows in both; both are NaN where no step was taken.

    Raises:
        TypeError: The optimizer records nothing.

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
    # Of a number and NaN the larger is one or the other, depending on the backend; their sum is always NaN.
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
    """Leaves the gradient norms out of what is saved, so that it is what Keras's own class saves and loads."""

    def save_own_variables(self, store: Any) -> None:
        for place, variable in enumerate(self._saved()):
            store[str(place)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        for place, variable in enumerate(self._saved()):
            variable.assign(store[str(place)])

    def _saved(self) -> list[keras.Variable]:
        return [variable for variable in self.variables if variable.name not in _NORMS]


class _Recording(_SavedAsKeras):
    """Adds up the norm of the whole gradient in variables of its own, and lets weights of rank 0 and 1 not decay."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        self.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
        super().build(variables)
        # "mean": where devices share a batch, each adds up the same numbers.
        self.gradient_norms = [self.add_variable((), dtype="float32", aggregation="mean", name=name) for name in _NORMS]

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        norm = _global_norm([gradient for gradient in grads if gradient is not None])
        super().apply(grads, trainable_variables)
        total, largest, count = self.gradient_norms
        total.assign_add(norm)
        largest.assign(ops.maximum(largest, norm))
        count.assign_add(1.0)


def _global_norm(gradients: Sequence[Tensor]) -> Tensor:
    # Written as Keras writes it for clipping, so that a graph computes it once for both.
    return ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(_dense(gradient))) for gradient in gradients])))


def _dense(gradient: Tensor) -> Tensor:
    """On TensorFlow the gradient of an embedding is a list of rows; a token that occurs twice has two, to be added."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return gradient


@cache
def _made_of(mixin: Any, public: Any) -> Any:
    """The class `public` with `mixin` in front, under the name by which Keras finds `public`."""
    of_backend = type(public.__new__(public))  # torch has a class of its own for each optimizer
    return type(public.__name__, (mixin, of_backend), {"__module__": "keras.optimizers"})
