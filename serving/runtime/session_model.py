"""A SavedModel in a `tf.compat.v1.Session`: for installations where the C API cannot be reached."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, code_of, invalid
from serving.quiet import hold_back_stderr
from serving.runtime.model import Array, Signature, naming_wrong_shapes, read_signatures, resolve, signature_defs
from serving.runtime.options import Options


class SessionModel:
    """A loaded SavedModel; see `serving.runtime.model.Model`. Importing TensorFlow takes many seconds."""

    def __init__(self, path: Path, options: Options) -> None:
        # Only now: importing TensorFlow takes many seconds.
        with hold_back_stderr():
            import tensorflow as tf
        self._tensorflow: Any = tf
        version1 = self._tensorflow.compat.v1
        config = version1.ConfigProto(
            intra_op_parallelism_threads=options.intra_op_threads,
            inter_op_parallelism_threads=options.inter_op_threads,
        )
        self._callables: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Callable[..., Any]] = {}
        self._lock = threading.Lock()
        self._session: Any = version1.Session(graph=self._tensorflow.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                meta_graph = version1.saved_model.loader.load(self._session, list(options.tags), str(path))
        except (OSError, RuntimeError, ValueError, self._tensorflow.errors.OpError) as error:
            self._session.close()
            code = code_of(getattr(error, "error_code", Code.NOT_FOUND))
            raise ServingError(code, getattr(error, "message", str(error))) from error
        self._signature_defs = signature_defs(meta_graph)
        self._signatures = read_signatures(self._signature_defs)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def signature_def_map(self) -> Mapping[str, Any]:
        return self._signature_defs

    def run(
        self,
        signature_name: str,
        feeds: Mapping[str, Array],
        output_filter: Sequence[str] | None = None,
        *,
        timeout_in_ms: int = 0,
    ) -> dict[str, Array]:
        feeds, wanted = resolve(self._signatures, signature_name, feeds, output_filter)
        for alias, spec in wanted.items():
            if spec.dtype.numpy is None:
                raise ServingError(
                    Code.UNIMPLEMENTED,
                    f"output {alias!r} is of type {spec.dtype.name}; export the model with float32 outputs",
                )
        function = self._callable(signature_name, tuple(feeds), tuple(wanted))
        options = self._tensorflow.compat.v1.RunOptions(timeout_in_ms=timeout_in_ms)
        try:
            values = function(*feeds.values(), options=options)
        except self._tensorflow.errors.OpError as error:
            # The prefix is Python's own; without it the message is the one that every other runtime gives.
            message = error.message.removeprefix("Graph execution error:\n\n")
            with naming_wrong_shapes(self._signatures[signature_name].inputs, feeds):
                raise ServingError(code_of(error.error_code), message) from error
        return {
            alias: np.asarray(value, spec.dtype.numpy)
            for (alias, spec), value in zip(wanted.items(), values, strict=True)
        }

    def _callable(self, signature_name: str, feeds: tuple[str, ...], wanted: tuple[str, ...]) -> Callable[..., Any]:
        signature = self._signatures[signature_name]
        key = (signature_name, feeds, wanted)
        with self._lock:
            if self._session is None:
                raise ServingError(Code.UNAVAILABLE, "the model is closed; ask for the version that is served now")
            if key not in self._callables:
                # Unlike Session.run, a callable leaves the shapes to the graph, as the C API does.
                try:
                    self._callables[key] = self._session.make_callable(
                        [signature.outputs[alias].name for alias in wanted],
                        [self._session.graph.get_tensor_by_name(signature.inputs[alias].name) for alias in feeds],
                        accept_options=True,
                    )
                except (KeyError, ValueError, TypeError) as error:
                    raise invalid(
                        f"signature {signature_name!r} names a tensor that is not in the graph: {error}"
                    ) from error
            return self._callables[key]

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            self._callables.clear()
        if session is not None:
            session.close()
