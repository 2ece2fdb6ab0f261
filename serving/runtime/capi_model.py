"""A SavedModel in a session of TensorFlow's C API: the loader and the session that TensorFlow Serving has."""

import ctypes
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.errors import Code, ServingError, invalid
from serving.protos import config_proto, meta_graph_def, run_options
from serving.runtime.capi import Library, Output, Pointer
from serving.runtime.capi_tensors import to_array, to_tensor
from serving.runtime.model import (
    Array,
    Signature,
    TensorSpec,
    naming_wrong_shapes,
    read_signatures,
    resolve,
    signature_defs,
)
from serving.runtime.options import Options


class CapiModel:
    """A loaded SavedModel; see `serving.runtime.model.Model`."""

    def __init__(self, library: Library, path: Path, options: Options) -> None:
        self._library = library
        self._closing = threading.Lock()
        self._operations: dict[str, Output] = {}
        self._graph = library.NewGraph()
        self._session: Any = None
        try:
            meta_graph = self._load(path, options)
        except BaseException:
            library.DeleteGraph(self._graph)
            raise
        self._signature_defs = signature_defs(meta_graph)
        self._signatures = read_signatures(self._signature_defs)

    def _load(self, path: Path, options: Options) -> Any:
        library = self._library
        config = config_proto()(
            intra_op_parallelism_threads=options.intra_op_threads,
            inter_op_parallelism_threads=options.inter_op_threads,
        ).SerializeToString()
        tags = (ctypes.c_char_p * len(options.tags))(*(tag.encode() for tag in options.tags))
        session_options = library.NewSessionOptions()
        written = library.NewBuffer()
        try:
            with library.status() as status:
                library.SetConfig(session_options, config, len(config), status)
            with library.status() as status:
                self._session = library.LoadSessionFromSavedModel(
                    session_options, None, str(path).encode(), tags, len(tags), self._graph, written, status
                )
            return meta_graph_def().FromString(ctypes.string_at(written[0].data, written[0].length))
        finally:
            library.DeleteBuffer(written)
            library.DeleteSessionOptions(session_options)

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
        specs = [self._signatures[signature_name].inputs[alias] for alias in feeds]
        fed: list[Any] = []
        fetched = (Pointer * len(wanted))()
        try:
            for array, spec in zip(feeds.values(), specs, strict=True):
                fed.append(to_tensor(self._library, array, spec.dtype))
            with naming_wrong_shapes(self._signatures[signature_name].inputs, feeds):
                self._run_session(specs, fed, list(wanted.values()), fetched, timeout_in_ms)
            return {alias: to_array(self._library, tensor) for alias, tensor in zip(wanted, fetched, strict=True)}
        finally:
            # A run that failed may have made some of the tensors.
            for tensor in (*fed, *fetched):
                if tensor:
                    self._library.DeleteTensor(tensor)

    def _run_session(
        self, specs: list[TensorSpec], fed: list[Any], wanted: list[TensorSpec], fetched: Any, timeout_in_ms: int
    ) -> None:
        library = self._library
        if self._session is None:
            raise ServingError(Code.UNAVAILABLE, "the model is closed; ask for the version that is served now")
        inputs = (Output * len(specs))(*(self._output(spec.name) for spec in specs))
        outputs = (Output * len(wanted))(*(self._output(spec.name) for spec in wanted))
        values = (Pointer * len(fed))(*fed)
        # A message for each run, because the deadline of each is its own.
        serialized = run_options()(timeout_in_ms=timeout_in_ms).SerializeToString()
        options = library.NewBufferFromString(serialized, len(serialized))
        try:
            with library.status() as status:
                feeds = (inputs, values, len(fed))
                fetches = (outputs, fetched, len(wanted))
                library.SessionRun(self._session, options, *feeds, *fetches, None, 0, None, status)
        finally:
            library.DeleteBuffer(options)

    def _output(self, name: str) -> Output:
        # Looked up once: a lookup by name takes a lock in the graph. Two threads would find the same.
        if name not in self._operations:
            operation, _, index = name.partition(":")
            found = self._library.GraphOperationByName(self._graph, operation.encode())
            # TensorFlow aborts the process on an index that the operation does not have.
            if not found or not index.isdecimal() or int(index) >= self._library.OperationNumOutputs(found):
                raise invalid(f"the signature names the tensor {name!r}, which is not in the graph; export it again")
            self._operations[name] = Output(found, int(index))
        return self._operations[name]

    def close(self) -> None:
        # Closing twice does nothing, whichever threads do it.
        with self._closing:
            session, self._session = self._session, None
        if session is None:
            return
        try:
            with self._library.status() as status:
                self._library.CloseSession(session, status)
        finally:
            with self._library.status() as status:
                self._library.DeleteSession(session, status)
            self._library.DeleteGraph(self._graph)
