"""Load one version of a SavedModel by whichever way TensorFlow can be reached here."""

import logging
from collections.abc import Callable
from pathlib import Path

from serving.errors import RuntimeUnavailable
from serving.runtime import capi
from serving.runtime.capi_model import CapiModel
from serving.runtime.model import Model
from serving.runtime.options import Options
from serving.runtime.session_model import SessionModel

logger = logging.getLogger(__name__)

# The ways to TensorFlow by what the log calls them, in the order in which they are tried. Each raises
# `RuntimeUnavailable` where the installation lacks it.
RUNTIMES: dict[str, Callable[[Path, Options], Model]] = {
    "TensorFlow's C API": lambda path, options: CapiModel(capi.library(), path, options),
    "tf.compat.v1.Session, which is slower to start": SessionModel,
}


def load(path: str | Path, options: Options | None = None) -> Model:
    """Load the SavedModel in `path`.

    Raises:
        ServingError: There is no SavedModel there, or TensorFlow cannot load it.
        RuntimeUnavailable: TensorFlow cannot be reached in any of the ways.
    """
    reasons: list[str] = []
    for name, runtime in RUNTIMES.items():
        try:
            model = runtime(Path(path), options or Options())
        except RuntimeUnavailable as reason:
            reasons.append(str(reason))
            continue
        logger.info("loaded %s with %s", path, "; ".join([name, *reasons]))
        return model
    raise RuntimeUnavailable(f"TensorFlow cannot be reached here: {'; '.join(reasons)}")
