"""The layers of a model that compute something, by readable names, and a way to watch or replace their calls."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras


def leaf_layers(model: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The layers inside `model` that hold no other layers that this module looks into, by path.

    It looks into models and into `Bidirectional`; any other layer is one piece.

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
            f"{model.name} is not built, so it has no weights to look at; expected a built layer or model: "
            "call it once on a batch, or give its input shape to build()"
        )


def tensors(inputs: Any) -> Any:
    """The same structure with tensors for arrays."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, `owner.name` is `value`, past Keras, which would track what is assigned to a layer.

    An attribute of the instance stands before the method of its class, and taking it away again leaves the layer as
    it was.
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
    """Within the block, `layer.method(...)` is `replacement(layer, original_method, arguments)`.

    Keras has no hook for what a layer inside a model receives.
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
