"""That the native engine is there where it can be: its own tests are skipped where it is not."""

import sys

import pytest

from zoo.kernels import native
from zoo.kernels.native import build


def test_it_is_built_where_there_is_a_compiler():
    try:
        compiler = build.find_compiler()
    except build.BuildError as missing:
        pytest.skip(str(missing))
    assert native.not_built() is None, f"{compiler} could have built it: {native.not_built()}"


def test_it_is_built_again_only_where_something_has_changed(tmp_path, monkeypatch):
    sources = tmp_path / "src"
    sources.mkdir()
    (sources / "a.cpp").write_text("// one")
    library, note, builds = tmp_path / "lib" / "lstm.so", tmp_path / "lib" / "build.json", []
    for name, value in {"SOURCES": sources, "LIBRARY": library, "NOTE": note}.items():
        monkeypatch.setattr(build, name, value)
    monkeypatch.setattr(build, "find_compiler", lambda: sys.executable)  # it answers to --version
    monkeypatch.setattr(
        build, "build", lambda: (library.parent.mkdir(exist_ok=True), library.touch(), builds.append(1))
    )

    def built(**options):
        before = len(builds)
        assert build.build_or_note(**options) is None
        return len(builds) > before

    assert built()
    assert not built()
    assert built(anew=True)
    (sources / "a.cpp").write_text("// two")
    assert built()
    library.unlink()
    assert built()
    note.write_text("half of")
    assert built()
    assert not built()


def test_what_failed_is_tried_again_and_leaves_no_older_library(tmp_path, monkeypatch):
    library, note = tmp_path / "lstm.so", tmp_path / "build.json"
    library.touch()
    monkeypatch.setattr(build, "LIBRARY", library)
    monkeypatch.setattr(build, "NOTE", note)
    monkeypatch.setenv("CXX", "no such compiler")
    reason = build.build_or_note()
    assert "no C++ compiler was found" in reason
    assert not library.exists()
    assert build.noted() == {"error": reason}
