"""Files: a write that fails leaves what was there, and equal arrays give equal bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.files import (
    check_new,
    csv_text,
    read_json,
    read_npz,
    replacing,
    sha256,
    write_json,
    write_npz,
    write_text,
)


def test_a_write_makes_the_file_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "grüß")
    assert path.read_bytes() == "grüß".encode()
    write_text(path, "again")
    assert path.read_text() == "again"
    assert [p.name for p in path.parent.iterdir()] == ["c.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), MemoryError()])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    message = "x.txt: cannot be written (No space left on device)"
    with pytest.raises(NervecodeError) as caught, replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert message in str(caught.value)
    assert caught.value.exit_status == 1
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(NervecodeError, match="cannot be written"):
        write_text(tmp_path / "file" / below, "new")
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(NervecodeError, match="cannot be written"):
        write_text(tmp_path / "x", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_json_reads_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is missing"), (b"{", "is damaged"), (b"\xff\xfe", "is damaged")]
)
def test_missing_and_damaged_json(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_json(path)
    assert f"{path}: {words}" in str(caught.value)


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(30, 4)).astype(np.float32), "names": np.array(["x", "yy"])}
    write_npz(tmp_path / "one.npz", arrays)
    write_npz(tmp_path / "two.npz", {name: array.copy() for name, array in arrays.items()})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = read_npz(tmp_path / "one.npz")
    assert list(back) == ["a", "names"]
    np.testing.assert_array_equal(back["a"], arrays["a"])
    assert back["a"].dtype == np.float32
    assert back["names"].tolist() == ["x", "yy"]


def test_objects_are_never_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(AssertionError):
        write_npz(tmp_path / "x.npz", {"a": objects})
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "y.npz", a=objects)
    with pytest.raises(ArtifactError, match=r"y\.npz: is damaged"):
        read_npz(tmp_path / "y.npz")


def test_missing_truncated_and_changed_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(ArtifactError, match="is missing"):
        read_npz(path)
    write_npz(path, {"a": np.arange(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="is damaged"):
        read_npz(path)
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9])
                     + whole[middle + 9 :])  # fmt: skip
    with pytest.raises(ArtifactError, match="is damaged"):
        read_npz(path)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 7])
def test_the_hash_is_sha_256(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "x").write_bytes(data)
    assert sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_rows_are_what_the_csv_module_reads_back() -> None:
    rows = [{"a": 'x,"y"', "b": 0.1 + 0.2}, {"a": "line\nbreak", "b": ""}]
    assert csv_text([]) == ""
    assert list(csv.DictReader(io.StringIO(csv_text(rows)))) == [
        {key: str(value) for key, value in row.items()} for row in rows
    ]
    assert csv_text(rows, ["b", "a"]).startswith("b,a\n")
    with pytest.raises(ValueError, match="'b'"):
        csv_text(rows, ["a"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x.gif", "--output {}: unknown suffix '.gif'; Allowed: .png, .tar.gz"),
        ("absent/x.png", "--output {}: no such folder {}"),
        ("folder.png", "--output {}: cannot be written"),
        ("there.tar.gz", "--output {}: exists; --force replaces it"),
    ],
)
def test_an_output_that_must_not_be_written_is_refused(
    tmp_path: Path, name: str, told: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "there.tar.gz").touch()
    path = tmp_path / name
    with pytest.raises(InputError) as caught:
        check_new(path, (".png", ".tar.gz"), what="--output")
    assert str(caught.value) == told.format(path, path.parent)
    check_new(tmp_path / "there.tar.gz", (".tar.gz",), force=True)
    check_new(tmp_path / "anything")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name here")
def test_nothing_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (lambda: check_new(pipe, force=True), lambda: write_text(pipe, "x")):
        with pytest.raises(NervecodeError, match="pipe: is no regular file, which it would repl"):
            write()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
