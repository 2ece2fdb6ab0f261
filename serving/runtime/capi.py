"""TensorFlow's C API, called in the shared library that the installed wheel brings.

The functions are those of `tensorflow/c/c_api.h`, `tf_tensor.h` and `tf_tstring.h`, which are stable; that the wheel
exports them is not promised, so without them the other runtime is used.
"""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.errors import RuntimeUnavailable, ServingError, code_of
from serving.protos import tensorflow_directory
from serving.quiet import hold_back_stderr

Pointer = ctypes.c_void_p
LIBRARY_NAMES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")

# sizeof(TF_TString) is part of TensorFlow's ABI.
STRING_SIZE = 24


class LibraryUnavailable(RuntimeUnavailable):
    """TensorFlow's C API cannot be reached in this installation."""


class Buffer(ctypes.Structure):
    """`TF_Buffer`: bytes that TensorFlow wrote."""

    _fields_ = (("data", Pointer), ("length", ctypes.c_size_t), ("deallocator", Pointer))


class Output(ctypes.Structure):
    """`TF_Output`: one output of one operation of the graph."""

    _fields_ = (("operation", Pointer), ("index", ctypes.c_int))


_SIZE = ctypes.c_size_t
_INT = ctypes.c_int
_TEXT = ctypes.c_char_p
_DIMENSIONS = ctypes.POINTER(ctypes.c_int64)
_OUTPUTS = ctypes.POINTER(Output)
_POINTERS = ctypes.POINTER(Pointer)
_BUFFER = ctypes.POINTER(Buffer)

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TF_NewStatus": (Pointer, ()),
    "TF_DeleteStatus": (None, (Pointer,)),
    "TF_GetCode": (_INT, (Pointer,)),
    "TF_Message": (_TEXT, (Pointer,)),
    "TF_NewBuffer": (_BUFFER, ()),
    "TF_NewBufferFromString": (_BUFFER, (_TEXT, _SIZE)),
    "TF_DeleteBuffer": (None, (_BUFFER,)),
    "TF_NewGraph": (Pointer, ()),
    "TF_DeleteGraph": (None, (Pointer,)),
    "TF_GraphOperationByName": (Pointer, (Pointer, _TEXT)),
    "TF_OperationNumOutputs": (_INT, (Pointer,)),
    "TF_NewSessionOptions": (Pointer, ()),
    "TF_DeleteSessionOptions": (None, (Pointer,)),
    "TF_SetConfig": (None, (Pointer, _TEXT, _SIZE, Pointer)),
    "TF_LoadSessionFromSavedModel": (
        Pointer,
        (Pointer, _BUFFER, _TEXT, ctypes.POINTER(_TEXT), _INT, Pointer, _BUFFER, Pointer),
    ),
    "TF_CloseSession": (None, (Pointer, Pointer)),
    "TF_DeleteSession": (None, (Pointer, Pointer)),
    "TF_SessionRun": (
        None,
        (Pointer, _BUFFER, _OUTPUTS, _POINTERS, _INT, _OUTPUTS, _POINTERS, _INT, _POINTERS, _INT, _BUFFER, Pointer),
    ),
    "TF_AllocateTensor": (Pointer, (_INT, _DIMENSIONS, _INT, _SIZE)),
    "TF_DeleteTensor": (None, (Pointer,)),
    "TF_TensorData": (Pointer, (Pointer,)),
    "TF_TensorByteSize": (_SIZE, (Pointer,)),
    "TF_TensorType": (_INT, (Pointer,)),
    "TF_NumDims": (_INT, (Pointer,)),
    "TF_Dim": (ctypes.c_int64, (Pointer, _INT)),
    "TF_StringInit": (None, (Pointer,)),
    "TF_StringCopy": (None, (Pointer, _TEXT, _SIZE)),
    "TF_StringGetDataPointer": (Pointer, (Pointer,)),
    "TF_StringGetSize": (_SIZE, (Pointer,)),
}


class Library:
    """The C API: every function of `_FUNCTIONS` as an attribute, without the prefix `TF_`."""

    def __init__(self, path: str) -> None:
        # CDLL, not PyDLL: a call gives up Python's lock, so runs of several threads overlap.
        handle = ctypes.CDLL(path)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(handle, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("TF_"), function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"TF_{name} is not declared in serving/runtime/capi.py")

    @contextmanager
    def status(self) -> Iterator[Any]:
        """A status to hand to one call; what the call reported is raised at the end.

        Raises:
            ServingError: The call failed; its code and message are TensorFlow's.
        """
        status = self.NewStatus()
        try:
            yield status
            code = self.GetCode(status)
            if code:
                message = self.Message(status).decode("utf-8", "replace")
                raise ServingError(code_of(code), message)
        finally:
            self.DeleteStatus(status)


def disable_xla() -> bool:
    """Make XLA refuse to compile in this process, for good, as TensorFlow Serving's server does when it starts.

    A signature that needs XLA then fails with TensorFlow's `XLA compilation disabled`.

    Returns:
        Whether the installed library has the function, which is not part of the C API.

    Raises:
        LibraryUnavailable: As `library`.
    """
    library()
    function = getattr(ctypes.CDLL(_path()), "_ZN10tensorflow21DisableXlaCompilationEv", None)
    if function is None:
        return False
    function.restype, function.argtypes = None, ()
    function()
    return True


@functools.cache
def library() -> Library:
    """The C API of the installed TensorFlow.

    Raises:
        LibraryUnavailable: The library is not where the wheel puts it, cannot be loaded, or lacks a function.
    """
    path = _path()
    try:
        with hold_back_stderr():
            return Library(path)
    except (OSError, AttributeError) as error:
        raise LibraryUnavailable(f"{Path(path).name} cannot be used: {error}") from error


def _path() -> str:
    directory = tensorflow_directory()
    found = [directory / name for name in LIBRARY_NAMES if (directory / name).is_file()]
    if not found:
        raise LibraryUnavailable(f"the installed TensorFlow has none of {', '.join(LIBRARY_NAMES)}")
    return str(found[0])
