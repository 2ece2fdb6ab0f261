"""A Keras model zoo for sequences.

`zoo.layers` has the layers, `zoo.activations` the table of activations, `zoo.models` the models, `zoo.export`
the way to a SavedModel. Importing this package imports nothing heavy: each part is imported by its own name.
"""

__version__ = "0.1.0"
