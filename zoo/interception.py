"""Lists the layers of a model by readable names, and watches or replaces their calls."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras


def leaf_layers(model: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The innermost layers of `model` by path, where only models and `Bidirectional` are taken apart.

    Example:
    >>> from zoo.layers import LSTM
    >>> two_ways = keras.layers.Bidirectional(LSTM(2, name="lstm"), name="two_ways")
    >>> list(leaf_layers(keras.Sequential([keras.Input((None, 1)), two_ways, keras.layers.Dense(1, name="head")])))
    ['two_ways/forward_lstm', 'two_ways/backward_lstm', 'head']
    """
    found: dict[str, keras.layers.Layer] = {}
    for path, layer in _leaves(model, ()):
        if not any(layer is known for known in found.values()):  # a layer shared by two branches is one layer
            found["/".join(path)] = layer
    return found


def _leaves(layer: keras.layers.Layer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(layer, keras.layers.Bidirectional):
        inside = [layer.forward_layer, layer.backward_layer]
    elif isinstance(layer, keras.Model):
        inside = [inner for inner in layer.layers if not isinstance(inner, keras.layers.InputLayer)]
    else:
        inside = []
    for inner in inside:
        yield from _leaves(inner, (*path, inner.name))
    if not inside:
        yield path or (layer.name,), layer


def require_built(model: keras.layers.Layer) -> None:
    """Raise `ValueError` where `model` has no weights yet."""
    if not model.built:
        raise ValueError(
            f"{model.name} is not built, so it has no weights to examine; expected a built layer or model: "
            "call it once on a batch, or give its input shape to build()"
        )


def tensors(inputs: Any) -> Any:
    """Convert every array in a structure to a tensor."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, set `owner.name` to `value`, bypassing Keras, which would track the value.

    An attribute of the instance hides the method of its class, and removing it restores the layer.
    """
    attributes, absent = vars(owner), object()
    before = attributes.get(name, absent)
    attributes[name] = value
    try:
        yield
    finally:
        if before is absent:
            del attributes[name]
        else:
            attributes[name] = before


@contextlib.contextmanager
def intercepted(
    layers: Iterable[keras.layers.Layer],
    replacement: Callable[[keras.layers.Layer, Any, dict[str, Any]], Any],
    method: str = "call",
) -> Iterator[None]:
    """Within the block, replace `layer.method(...)` by `replacement(layer, original_method, arguments)`.

    Keras has no hook for the arguments of a layer inside a model.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced(layer, method, _replacing(layer, getattr(layer, method), replacement)))
        yield


def _replacing(layer: Any, original: Any, replacement: Any) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        return replacement(layer, functools.partial(original, *args, **kwargs), dict(bound.arguments))

    return method
