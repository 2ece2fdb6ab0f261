"""Load one version of a SavedModel by whichever way TensorFlow can be reached here."""

import logging
from pathlib import Path

from serving.runtime import capi
from serving.runtime.capi_model import CapiModel
from serving.runtime.model import Model
from serving.runtime.options import Options
from serving.runtime.session_model import SessionModel

logger = logging.getLogger(__name__)


def load(path: str | Path, options: Options | None = None) -> Model:
    """Load the SavedModel in `path`.

    Raises:
        ServingError: There is no SavedModel there, or TensorFlow cannot load it.
    """
    options = options or Options()
    try:
        library = capi.library()
    except capi.LibraryUnavailable as reason:
        logger.info("loading %s with tf.compat.v1.Session, which is slower to start: %s", path, reason)
        return SessionModel(Path(path), options)
    logger.info("loading %s with TensorFlow's C API", path)
    return CapiModel(library, Path(path), options)
