"""Makes `tf.saved_model.save` write Keras's variables so that every runtime can read them.

When a model is given to TensorFlow's saver, Keras turns each variable into two: functions read the first, and the saved
values go into the second (keras-team/keras #20095). TensorFlow in Python happens to load such a file correctly, but
TensorFlow Serving finds no variable, and TFLite silently computes with uninitialised memory. `model.export` and
`zoo.export` save TensorFlow's own variables and are not affected.
"""

import functools
from typing import Any

import keras


@functools.cache
def save_one_variable_each() -> None:
    """Save every Keras variable as one variable of a SavedModel, those of other layers included.

    Called when TensorFlow lists the parts of a layer of ours, before it writes any variable.
    """

    def export_to_graph(variable: Any, object_map: Any, tensor_map: Any, options: Any, **others: Any) -> Any:
        resources = variable.value._export_to_saved_model_graph(object_map, tensor_map, options, **others)
        object_map[variable] = object_map[variable.value]
        return resources

    keras.Variable._export_to_saved_model_graph = export_to_graph
