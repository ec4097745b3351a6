"""Hostile files: each is refused and runs nothing, and the naive loader would have been caught."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import EpsImagePlugin, Image, ImageFile

from nervecode import load
from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.files import MAX_PLAIN, read_npz, write_json
from nervecode.lab.config.resolve import resolve
from nervecode.lab.config.yaml import MAX_ALIASES, MAX_BYTES, read_yaml
from nervecode.lab.data.image_files import ImageFiles
from nervecode.lab.data.images import MAX_PIXELS
from nervecode.lab.models.features import Features
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import sealed
from tests.lab.inference.reading import read_inputs

GREY = (1, 8, 8)
IMAGE_READERS = [
    lambda p: read_inputs(str(p), GREY),
    lambda p: ImageFiles.listed([(p, 0)]).load(8),
]
model = torch.nn.Sequential(torch.nn.Linear(2, 3))


class Bomb:
    """Unpickled, it makes a directory."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What no loader may make."""
    return tmp_path / "canary"


# Pickles


READERS: dict[str, Callable[[Path], Any]] = {
    "load": lambda path: load(path, model),
    "features": lambda path: Features.load(path, torch.zeros(0)),
    "read_npz": read_npz,
    "npy": lambda path: read_inputs(str(path.rename(path.with_suffix(".npy"))), GREY),
    "npz": lambda path: read_inputs(str(path.rename(path.with_suffix(".npz"))), GREY),
    "image": lambda path: read_inputs(str(path), GREY),
    "config": lambda path: resolve(file=path),
}


def pickled(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(canary)))


def torch_pickled(path: Path, canary: Path) -> None:
    torch.save({"model": Bomb(canary)}, path)  # noqa: TID251


def npy_of_objects(path: Path, canary: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Bomb(canary)], dtype=object), allow_pickle=True)


def npz_of_objects(path: Path, canary: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, inputs=np.array([Bomb(canary)], dtype=object))


NAIVE: dict[Callable[[Path, Path], None], Callable[[Path], Any]] = {
    pickled: lambda path: pickle.loads(path.read_bytes()),  # noqa: S301
    torch_pickled: lambda path: torch.load(path, weights_only=False),  # noqa: TID251
    npy_of_objects: lambda path: np.load(path, allow_pickle=True),
    npz_of_objects: lambda path: np.load(path, allow_pickle=True)["inputs"],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("write", NAIVE)
def test_no_reader_runs_a_pickle(
    write: Callable[[Path, Path], None], reader: str, tmp_path: Path, canary: Path
) -> None:
    write(tmp_path / "file.x", canary)
    with pytest.raises(NervecodeError):
        READERS[reader](tmp_path / "file.x")
    assert not canary.exists()


@pytest.mark.parametrize("write", NAIVE)
def test_the_naive_reader_would_have_run_it(
    write: Callable[[Path, Path], None], tmp_path: Path, canary: Path
) -> None:
    write(tmp_path / "file.x", canary)
    NAIVE[write](tmp_path / "file.x")
    assert canary.is_dir()


# YAML


def test_yaml_makes_no_objects(tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "x.yaml"
    for tag in (f"!!python/object/apply:os.mkdir [{canary}]", "!!python/name:os.system ''", "!x y"):
        path.write_text(f"name: {tag}\n")
        with pytest.raises(InputError, match=r"x\.yaml: not valid YAML"):
            read_yaml(path)
    assert not canary.exists()
    naive = f"name: !!python/object/apply:os.mkdir [{canary}]"
    yaml.load(naive, Loader=yaml.UnsafeLoader)
    assert canary.is_dir()


def laughs(levels: int) -> str:
    """A list of nine, each of which is nine of the one before, and so on."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    def count(value: Any) -> int:
        return sum(map(count, value)) if isinstance(value, list) else 1

    path = tmp_path / "x.yaml"
    for text in (laughs(3), laughs(40), "a: &a [*a]", "a: &a {b: *a}",
                 "a: &a 1\n" + f"b: [{', '.join(['*a'] * (MAX_ALIASES + 1))}]"):  # fmt: skip
        path.write_text(text)
        with pytest.raises(InputError, match="aliases, or one within another"):
            read_yaml(path)
    assert count(yaml.safe_load(laughs(6))["a5"]) == 9**6  # what the naive loader would hand on
    path.write_text("a: &a {b: 1}\nc: *a\nd: {e: *a}")
    assert read_yaml(path) == {"a": {"b": 1}, "c": {"b": 1}, "d": {"e": {"b": 1}}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "x" * MAX_BYTES, f"allowed: at most {MAX_BYTES:,}"),
        ("a: " + "9" * 999, "the number on line 1 is too large"),
        ("[" * 9999, "not valid YAML"),
        ("{a: " * 9999, "not valid YAML"),
    ],
)
def test_yaml_has_limits(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_yaml(tmp_path / "x.yaml")


# Arrays


def bomb(path: Path, size: int) -> None:
    """A zip file of one array of zeros, a thousand times larger than the file."""
    header = struct.pack("<H", 118) + b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }"
    text = b"\x93NUMPY\x01\x00" + (header % size).ljust(119) + b"\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("inputs.npy", "w", force_zip64=True) as file,
    ):
        file.write(text)
        for _ in range(size // (1 << 20)):
            file.write(bytes(1 << 20))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    bomb(path, 2 * MAX_PLAIN)
    assert path.stat().st_size < MAX_PLAIN / 400
    with pytest.raises(ArtifactError, match="promises 134,"):
        read_npz(path)
    with pytest.raises(InputError, match="promises 134,"):
        read_inputs(str(path), (8,))
    with np.load(path, allow_pickle=False) as naive:
        assert naive["inputs"].nbytes == 2 * MAX_PLAIN


def test_a_member_that_lies_about_its_size_is_not_unpacked_further(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    bomb(path, 2 * MAX_PLAIN)
    data = bytearray(path.read_bytes())
    directory = data.rfind(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 200)  # the size, unpacked
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="is damaged"):
        read_npz(path)


def test_members_that_overlap_are_counted_each(tmp_path: Path) -> None:
    """As in zip files whose thousand members share their bytes."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(1 << 20))
        archive.filelist = archive.filelist * 100
    with pytest.raises(ArtifactError, match="promises 104,857,600 bytes"):
        read_npz(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_arrays_are_packed_as_numpy_packs_them(packing: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", packing) as archive:
        archive.writestr("a.npy", bytes(1000))
    with pytest.raises(ArtifactError, match="NumPy does not pack"):
        read_npz(tmp_path / "x.npz")


def test_a_header_that_asks_for_more_than_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 8)))
    path.write_bytes(path.read_bytes().replace(b"(2, 8), }      ", b"(2000000000, 8)}"[:15]))
    with pytest.raises(InputError, match="not a readable array file"):
        read_inputs(str(path), (8,))


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inputs", b"some bytes")
    with pytest.raises(ArtifactError, match="a member is no array"):
        read_npz(path)
    with pytest.raises(InputError, match="its member is no array"):
        read_inputs(str(path), (8,))
    with np.load(path) as naive:
        assert naive["inputs"] == b"some bytes"


# Images


def png(path: Path, side: int, *, rows: int) -> None:
    """A black image, whose rows pack a thousandfold; with fewer rows than its header says."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((side + 1) * rows))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.slow
@pytest.mark.parametrize("read", IMAGE_READERS)
def test_an_image_bomb_is_refused_by_its_header(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for side in (20_000, 60_000):
        png(path, side, rows=1)
        with pytest.raises(InputError, match="not a readable image"):
            read(path)
    png(path, 8_000, rows=8_000)
    assert path.stat().st_size < 100_000 < MAX_PIXELS < 8_000**2
    with pytest.raises(InputError, match="8000 x 8000 pixels, allowed: 50,000,000"):
        read(path)
    with Image.open(path) as naive:  # Pillow's own limit is higher
        assert np.array(naive).nbytes == 8_000**2


@pytest.mark.parametrize("read", IMAGE_READERS)
def test_a_truncated_image_is_refused_whatever_another_library_chose(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Image.open(path) as naive:
        assert np.array(naive).shape == (64, 64)  # grey where it ends
    with pytest.raises(InputError, match="not a readable image"):
        read(path)


def test_a_format_that_runs_other_programs_is_refused(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    Image.new("L", (8, 8)).save(path, format="EPS")

    def ghostscript(*args: Any, **options: Any) -> Any:
        canary.mkdir()
        raise OSError("stands for the program that Pillow calls")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    with pytest.raises(InputError, match=r"not a readable image \(of no known format\)"):
        read_inputs(str(path), GREY)
    assert not canary.exists()
    with Image.open(path) as naive, pytest.raises(OSError, match="stands for the program"):
        naive.load()
    assert canary.is_dir()


# Names


OUTSIDE = ("../outside.txt", "/etc/hostname", "a/../../outside.txt", "a//b", "./x", "..\\x", "")


@pytest.mark.parametrize("name", OUTSIDE)
def test_metadata_name_no_file_outside_the_run(name: str, copy: Path, cli: Any) -> None:
    (copy.parent / "outside.txt").write_text("secret")
    meta = RunDir(copy).meta
    for forged in (
        meta | {"files": meta["files"] | {name: "0" * 64}},
        meta | {"stages": {"train/seed_0": {"inputs": {}, "outputs": {name: "0" * 64}}}},
    ):
        write_json(copy / "meta.json", sealed(forged))
        for command in ("verify", "archive", "bench"):
            status, _, err = cli(command, copy)
            assert status == 4
            assert f"found the path {name!r}, allowed: files inside the run" in err
    if name.startswith("../"):
        assert (copy / name).resolve() != copy / name  # the naive join would have left the run


@pytest.mark.slow
def test_a_link_is_no_artifact(copy: Path, cli: Any, tmp_path: Path) -> None:
    """Not even one that leads to the right bytes: they may be others a moment later."""
    path = copy / "calibration/seed_0.safetensors"
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    for command in (("score", copy, "--input", "blobs"), ("bench", copy), ("verify", copy)):
        status, _, err = cli(*command)
        assert (status, "seed_0.safetensors" in err, "link" in err) == (4, True, True)
    assert path.read_bytes() == outside.read_bytes()  # the naive reader sees no difference


def test_a_linked_folder_is_no_part_of_a_run(copy: Path, cli: Any, tmp_path: Path) -> None:
    (copy / "calibration").rename(tmp_path / "outside")
    (copy / "calibration").symlink_to(tmp_path / "outside")
    status, _, err = cli("score", copy, "--input", "blobs")
    assert (status, "calibration: is a link" in err) == (4, True)
    status, _, err = cli("calibrate", copy)
    assert (status, "calibration: is a link" in err) == (4, True)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "", ".hidden", "a\n"])
def test_a_config_names_no_place_outside_the_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps({"extends": "toy", "name": name}))
    with pytest.raises(InputError, match="name: "):
        resolve(file=path)
    path.write_text(json.dumps({"extends": f"../{name}"}))
    with pytest.raises(InputError, match=r"x\.yaml: extends: found"):
        resolve(file=path)


def test_the_data_filter_holds_an_archive_back(tmp_path: Path) -> None:
    """What docs/reliability.md tells people to unpack with."""
    (tmp_path / "payload").write_text("x")
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "payload", "../../escaped")
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)
    with tarfile.open(path) as tar, pytest.raises(tarfile.OutsideDestinationError):
        tar.extractall(inside, filter="data")
    assert not (tmp_path / "escaped").exists()
    with tarfile.open(path) as tar:
        tar.extractall(inside, filter="fully_trusted")
    assert (tmp_path / "escaped").exists()
