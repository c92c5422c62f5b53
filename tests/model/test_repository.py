"""A model repository on disk, sound and broken."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pspsearch.errors import DigestMismatch, RepositoryError
from pspsearch.model import manifest
from pspsearch.model.manifest import MANIFEST, Manifest
from pspsearch.model.repository import check_model, check_repository, find_broken_versions


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with one published version."""
    version = tmp_path / "pspnet" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text('name: "pspnet"\n')
    (version / "model.onnx").write_bytes(b"weights")
    (version / "model.py").write_bytes(b"code")
    Manifest.of_files(version).write(version)
    return version.parent


def test_sound_model_passes(model: Path) -> None:
    """The files are those that were published."""
    assert check_repository(model.parent).sound == ("pspnet",)


def edit(model: Path) -> Path:
    """Changes one byte in place."""
    (model / "1" / "model.onnx").write_bytes(b"Weights")
    return model / "1" / "model.onnx"


def lose(model: Path) -> Path:
    """Removes a file that the manifest lists."""
    (model / "1" / "model.py").unlink()
    return model / "1" / "model.py"


def lose_config(model: Path) -> Path:
    """Removes the configuration."""
    (model / "config.pbtxt").unlink()
    return model / "config.pbtxt"


def misname(model: Path) -> Path:
    """Adds a version folder whose name is no number."""
    (model / "latest").mkdir()
    return model / "latest"


def zero(model: Path) -> Path:
    """Adds a version 0; versions count from 1."""
    (model / "0").mkdir()
    return model / "0"


def empty(model: Path) -> Path:
    """Adds a version without files."""
    (model / "2").mkdir()
    return model / "2"


def garble(model: Path) -> Path:
    """Overwrites the manifest."""
    (model / "1" / MANIFEST).write_text("[]")
    return model / "1" / MANIFEST


def escape(model: Path) -> Path:
    """Makes the manifest reach outside its folder."""
    (model / "1" / MANIFEST).write_text('{"files": {"../config.pbtxt": "00"}}')
    return model / "1" / MANIFEST


def link(model: Path) -> Path:
    """Replaces a file by a link to the same bytes elsewhere."""
    file = model / "1" / "model.onnx"
    file.rename(model.parent.parent / f"{model.parent.name}.onnx")
    file.symlink_to(model.parent.parent / f"{model.parent.name}.onnx")
    return file


def link_version(model: Path) -> Path:
    """Replaces the version by a link to a folder elsewhere, unchanged."""
    (model / "1").rename(model.parent.parent / "elsewhere")
    (model / "1").symlink_to(model.parent.parent / "elsewhere")
    return model / "1"


def link_config(model: Path) -> Path:
    """Replaces the configuration by a link to one elsewhere."""
    (model / "config.pbtxt").rename(model.parent.parent / "config")
    (model / "config.pbtxt").symlink_to(model.parent.parent / "config")
    return model / "config.pbtxt"


def open_up(model: Path) -> Path:
    """Lets everybody write to a file."""
    (model / "1" / "model.py").chmod(0o666)
    return model / "1" / "model.py"


def open_up_folder(model: Path) -> Path:
    """Lets everybody add a version."""
    model.chmod(0o777)
    return model


def add(model: Path) -> Path:
    """Puts a pickle beside the files that were published."""
    (model / "1" / "weights.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    return model / "1" / "weights.pkl"


def compile_program(model: Path) -> Path:
    """Leaves a compiled file beside the program, which Python would run instead."""
    (model / "1" / "__pycache__").mkdir()
    (model / "1" / "__pycache__" / "model.cpython-313.pyc").write_bytes(b"anything")
    return model / "1" / "__pycache__"


def add_compiled(model: Path) -> Path:
    """Puts a compiled program where the sources are."""
    (model / "1" / "numpy.pyc").write_bytes(b"anything")
    return model / "1" / "numpy.pyc"


def add_beside(model: Path) -> Path:
    """Puts a program beside the version, under a name that Python would import instead of the version's."""
    (model / "1.py").write_text("raise SystemExit")
    return model / "1.py"


DAMAGES = [
    edit, lose, lose_config, misname, zero, empty, garble, escape, link,
    link_version, link_config, open_up, open_up_folder, add, compile_program, add_compiled, add_beside,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_spares_the_other_models(model: Path, damage: Callable[[Path], Path]) -> None:
    """Each kind of damage is a sentence with the file's path, and the model beside it stays loadable."""
    other = model.parent / "other"
    (other / "1").mkdir(parents=True)
    (other / "config.pbtxt").write_text("")
    (other / "1" / "model.plan").write_bytes(b"not ours: no manifest")
    path = damage(model)

    checked = check_repository(model.parent)

    assert checked.sound == ("other",)
    assert str(path) in str(checked.broken["pspnet"])


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("open", "1/model.onnx"), ("open", f"1/{MANIFEST}"), ("iterdir", "1"), ("lstat", "1"), ("lstat", "1/model.py"),
        ("stat", "1/model.onnx"), ("iterdir", ""), ("lstat", "config.pbtxt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOENT])
def test_what_cannot_be_read_is_named_and_spares_the_others(
    model: Path, monkeypatch: pytest.MonkeyPatch, how: str, name: str, number: int
) -> None:
    """The causes are a file of another account, a disk that fails, and a file that goes away while it is read."""
    shutil.copytree(model, model.with_name("other"))
    shutil.copytree(model / "1", model / "2")
    real: Any = getattr(Path, how)

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == model / name:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, how, fail)
    checked = check_repository(model.parent)

    assert checked.sound == ("other",)
    assert str(model / name) in str(checked.broken["pspnet"])
    if name.startswith("1"):
        assert find_broken_versions(model).keys() == {1}


@pytest.mark.parametrize("damage", [edit, compile_program, add_beside])
def test_damage_is_found_where_versions_are_looked_for(model: Path, damage: Callable[[Path], Path]) -> None:
    """A version that comes while the server runs is checked for the same damage."""
    path = damage(model)

    assert any(str(path) in str(error) for error in find_broken_versions(model).values())


def test_what_pip_compiled_of_an_installed_package_is_passed_over(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip compiles the shipped model's program like any other file; this is passed over there and nowhere else."""
    compile_program(model)
    with pytest.raises(RepositoryError, match="__pycache__ is not in the manifest"):
        check_model(model)
    monkeypatch.setattr(manifest, "_INSTALLED", model.parent)

    check_model(model)


def test_model_that_is_not_there_has_no_broken_versions(tmp_path: Path) -> None:
    """Whether there is such a model is for others to decide."""
    assert find_broken_versions(tmp_path / "nosuch") == {}


def test_edited_file_is_told_from_a_missing_one(model: Path) -> None:
    """An edit in place is an error of its own: somebody must find out who made it."""
    edit(model)

    with pytest.raises(DigestMismatch):
        check_model(model)


def test_version_on_its_way_in_is_passed_over(model: Path) -> None:
    """A publisher writes into a hidden folder, and a restart meanwhile must not fail on it."""
    (model / ".incoming-1234").mkdir()

    assert check_repository(model.parent).broken == {}


@pytest.mark.parametrize(("name", "words"), [("nowhere", "is not a folder"), (".", "holds no model")])
def test_repository_without_models_is_refused(tmp_path: Path, name: str, words: str) -> None:
    """A mistyped path must not look like a server with nothing to serve."""
    with pytest.raises(RepositoryError, match=f"{tmp_path / name} {words}"):
        check_repository(tmp_path / name)
