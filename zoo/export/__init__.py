"""From a Keras model to a SavedModel that any stock TensorFlow Serving loads.

    models/<name>/<version>/
        saved_model.pb  variables/
        assets.extra/
            model_card.json  MODEL_CARD.md
            tf_serving_warmup_requests

The graph is traced anew from the layers' Keras operations, so it does not depend on how the model was trained. It is
written to a hidden folder, loaded back, compared with the model, and only then renamed to its version: a server that
polls the folder never sees half of it.
"""

from zoo.export import golden as golden
from zoo.export.contract import ExportError as ExportError
from zoo.export.exporting import Exported as Exported, export as export

__all__ = ["ExportError", "Exported", "export", "golden"]
