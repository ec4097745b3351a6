"""Tar files of WebDataset's layout: the images that a folder has, and no harm from hostile ones."""

from __future__ import annotations

import gc
import gzip
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nervecode.errors import InputError, MissingExtraError
from nervecode.lab.inference import images, tars
from nervecode.lab.inference.open import open_inputs
from tests.lab.inference.reading import read_inputs

wds = pytest.importorskip("webdataset")
GREY = (1, 8, 8)
COUNT = 23
pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)


@pytest.fixture(autouse=True, scope="module")
def small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (images, tars):
            patch.setattr(module, "EVAL_BATCH", 4)
        yield


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Images with labels and captions in three files, written by WebDataset itself."""
    for number, rows in enumerate(np.array_split(np.arange(COUNT), 3)):
        with wds.TarWriter(str(tmp_path / f"x-{number}.tar")) as writer:
            for i in rows:
                sample = {"png": png(pixels[i]), "cls": int(i), "json": {"caption": "a.png"}}
                writer.write({"__key__": f"part{number}/{i:03}", **sample})
    return str(tmp_path / "x-{0..2}.tar")


@pytest.mark.parametrize("workers", [1, 3])
def test_tar_files_hold_the_images_that_a_folder_holds(
    shards: str, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(COUNT):
        (folder / f"{i:03}.png").write_bytes(png(pixels[i]))
    found, expected = read_inputs(shards, GREY, workers=workers), read_inputs(str(folder), GREY)
    assert torch.equal(found.inputs, expected.inputs)
    assert [name.split("/")[1] for name in found.ids] == [n.split(".")[0] for n in expected.ids]


@pytest.mark.slow
def test_members_that_were_read_are_not_held(tmp_path: Path) -> None:
    image = png(pixels[0])
    path = write_tar(tmp_path / "x.tar", {f"{i}.png": image for i in range(100)})
    for _ in open_inputs(str(path), GREY).read(0):
        held = sum(type(one) is tarfile.TarInfo for one in gc.get_objects())
        assert held < 20  # of a batch of four


def test_keys_and_order_are_those_of_webdataset(shards: str) -> None:
    theirs = wds.WebDataset(shards, shardshuffle=False, empty_check=False)
    assert read_inputs(shards, GREY).ids == [sample["__key__"] for sample in theirs]


def test_a_tar_file_is_a_unit_and_its_batches_are_small(shards: str) -> None:
    found = open_inputs(shards, GREY)
    assert found.units == 3
    sizes = [[len(batch.ids) for batch in found.read(unit)] for unit in range(3)]
    assert sizes == [[4, 4], [4, 4], [4, 3]]
    assert [name for name, _ in found.identity["tars"]] == ["x-0.tar", "x-1.tar", "x-2.tar"]


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    names = ("a.txt", "b.jpg.txt", "noext", ".png", "c.pyd")
    members = {name: b"junk" for name in names} | {"dir.x/a.B.PNG": png(pixels[0])}
    path = write_tar(tmp_path / "x.tar", members)
    with tarfile.open(path, "a") as tar:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/hostname"
            tar.addfile(link)
    assert read_inputs(str(path), GREY).ids == ["dir.x/a"]


def test_a_sample_without_an_image_is_told(tmp_path: Path) -> None:
    names = ("a.heic", "a.json", "b.json", "b.png", "c.png", "c.cls", "d.txt")
    members = {name: png(pixels[0]) if name.endswith("png") else b"junk" for name in names}
    path = write_tar(tmp_path / "x.tar", members)
    found = read_inputs(str(path), GREY)
    assert found.ids == ["b", "c"]
    (told,) = found.skipped
    assert told.startswith(f"{path}: 2 samples without an image of .")
    assert told.endswith("such as 'a.json'")


def test_names_that_lead_outside_are_names_alone(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write_tar(inside / "x.tar", {"../evil.png": png(pixels[0]), "/abs.png": png(pixels[1])})
    assert len(read_inputs(str(path), GREY).ids) >= 1
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "x.tar"]


def test_a_bad_image_is_named_or_skipped(tmp_path: Path) -> None:
    members = {"a.png": png(pixels[0]), "b.png": b"no image", "c.png": png(pixels[2])}
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=r"x\.tar/b\.png: not a readable image .*--skip-bad"):
        read_inputs(str(path), GREY)
    found = read_inputs(str(path), GREY, skip_bad=True)
    assert found.ids == ["a", "c"]
    assert [text.partition(" (")[0] for text in found.skipped] == [
        f"{path}/b.png: not a readable image"
    ]


def test_a_member_too_large_or_sparse_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"a.png": png(pixels[0]), "b.png": png(pixels[1]) + bytes(5000)}
    monkeypatch.setattr(tars, "MAX_BYTES", 4000)
    with pytest.raises(InputError, match=r"b\.png: not a readable image .*allowed: 4,000"):
        read_inputs(str(write_tar(tmp_path / "x.tar", small)), GREY)
    for size in (1 << 32, 3000):  # the size of what it stands for; its bytes are none
        sparse = tarfile.TarInfo("a.png")
        sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 0
        header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
        header[483:495] = b"%011o\0" % size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        path = tmp_path / "sparse.tar"
        path.write_bytes(bytes(header) + bytes(1024))
        with tarfile.open(path) as naive:
            assert naive.getmembers()[0].size == size
        with pytest.raises(InputError, match="not sparse"):
            read_inputs(str(path), GREY)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.txt": b""}, "holds no image; allowed: .png"),
        ({"a.png": png(pixels[0]), "a.jpg": png(pixels[0])}, "sample 'a' has two images"),
    ],
)
def test_samples_have_one_image(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(str(write_tar(tmp_path / "x.tar", members)), GREY)
    assert words in str(caught.value)


def test_a_damaged_or_packed_tar_file_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{i}.png": png(pixels[i]) for i in range(9)})
    whole = path.read_bytes()
    for cut in (0, 700, 1024, 1500, 5000):  # in a header, in an image, and between two of them
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"x\.tar: not a readable tar file"):
            read_inputs(str(path), GREY, skip_bad=True)
    path.write_bytes(b"hello" * 200)
    with pytest.raises(InputError, match=r"x\.tar: not a readable tar file"):
        read_inputs(str(path), GREY)
    path.write_bytes(gzip.compress(whole) + bytes(1024))  # its end looks like that of a tar file
    with tarfile.open(path) as naive:
        assert len(naive.getmembers()) == 9
    with pytest.raises(InputError, match=r"x\.tar: not a readable tar file"):
        read_inputs(str(path), GREY)


def test_files_that_are_not_there_are_named(shards: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x-3\.tar: no such file \(and 1 more\)"):
        open_inputs(shards.replace("0..2", "0..4"), GREY)
    for source in ("pipe:touch canary.tar", "http://localhost/x.tar"):
        with pytest.raises(InputError, match="no such file"):
            open_inputs(source, GREY)


def test_images_do_not_fit_a_model_of_features(shards: str) -> None:
    with pytest.raises(InputError, match="an image, but the model takes inputs of shape"):
        open_inputs(shards, (16,))


def test_without_the_extra_one_sentence_says_what_to_install(
    shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[webdataset\]'"):
        open_inputs(shards, GREY)
