"""That the native engine is there where it can be: its own tests are skipped where it is not."""

import pytest

from zoo.kernels import native
from zoo.kernels.native import build


def test_it_is_built_where_there_is_a_compiler():
    try:
        compiler = build.find_compiler()
    except build.BuildError as missing:
        pytest.skip(str(missing))
    assert native.not_built() is None, f"{compiler} could have built it: {native.not_built()}"
