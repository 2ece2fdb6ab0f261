"""Models that are compiled so that training them is traced once."""

from typing import Any

import keras


def compiled(model: keras.Model, **arguments: Any) -> keras.Model:
    """`model`, compiled with `arguments`, with the variables of its optimizer.

    TensorFlow traces a function that makes variables a second time. Left to the first step of `fit`, those of the
    optimizer would make it trace the whole step twice.
    """
    model.compile(**arguments)
    model.optimizer.build(model.trainable_variables)
    return model
