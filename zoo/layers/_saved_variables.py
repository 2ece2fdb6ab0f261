"""Variables of Keras in files of `tf.saved_model.save`, as every runtime reads them.

Keras makes two variables of each one when a model is handed to TensorFlow's saver: functions read the first, and the
saved numbers go into the second (keras-team/keras #20095). TensorFlow in Python happens to read such a file right, but
TensorFlow Serving finds no variable, and TFLite computes with memory that nobody wrote, without a word. `model.export`
and `zoo.export` hand over TensorFlow's own variables and are not concerned.
"""

import functools
from typing import Any

import keras


@functools.cache
def save_one_variable_each() -> None:
    """Let every variable of Keras be one variable of a SavedModel, those of other layers of the model included.

    Called when TensorFlow asks a layer of ours what it consists of, before any variable is written.
    """

    def export_to_graph(variable: Any, object_map: Any, tensor_map: Any, options: Any, **others: Any) -> Any:
        resources = variable.value._export_to_saved_model_graph(object_map, tensor_map, options, **others)
        object_map[variable] = object_map[variable.value]
        return resources

    keras.Variable._export_to_saved_model_graph = export_to_graph
