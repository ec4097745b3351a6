"""IDX files: read as torchvision reads them, and refused with a reason."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from nervecode.errors import InputError
from nervecode.lab.data.idx_sets import check_folder, read_idx
from tests.lab.data.archives import idx_bytes

ARRAY = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("shape", [(60,), (5, 12), (5, 4, 3)])
def test_it_reads_what_torchvision_reads(
    tmp_path: Path, shape: tuple[int, ...], gzipped: bool
) -> None:
    plain, path = tmp_path / "a-idx", tmp_path / ("a-idx.gz" if gzipped else "a-idx")
    content = idx_bytes(ARRAY.reshape(shape))
    plain.write_bytes(content)
    if gzipped:
        path.write_bytes(gzip.compress(content))
    found = read_idx(path, shape)
    np.testing.assert_array_equal(found, read_sn3_pascalvincent_tensor(str(plain)).numpy())
    np.testing.assert_array_equal(found, ARRAY.reshape(shape))


GOOD = idx_bytes(ARRAY)
PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a", b"", "found magic number (nothing), allowed: 00000803"),
        ("a", b"<html>", "found magic number 3c68746d, allowed: 00000803 (an IDX file"),
        ("a", idx_bytes(ARRAY[0, 0]), "found magic number 00000801, allowed: 00000803"),
        ("a", b"\0\0\x0d\x03" + GOOD[4:], "found magic number 00000d03"),
        ("a", GOOD[:9], "is cut short (found 9 bytes)"),
        ("a", GOOD[:-1], "is cut short (found 75 bytes, allowed: 76)"),
        ("a", GOOD + b"x", "is too long (found 77 bytes, allowed: 76)"),
        ("a", idx_bytes(ARRAY[:4]), "found shape (4, 4, 3), allowed: (5, 4, 3)"),
        ("a.gz", PACKED[:-9], "is cut short (the gzip stream has no end)"),
        ("a.gz", GOOD, "is not a gzip file, or damaged"),
        ("a.gz", PACKED[:12] + b"\xff\xff" + PACKED[14:], "is not a gzip file, or damaged"),
        ("a.gz", gzip.compress(GOOD[:-1], mtime=0), "is cut short (found 75 bytes, allowed: 76)"),
    ],
    ids=lambda value: "file" if isinstance(value, bytes) else None,
)
def test_what_is_no_such_file_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_idx(path, (5, 4, 3))
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        read_idx(tmp_path / "nowhere", (1,))


@given(cut=st.integers(0, len(GOOD) - 1))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(GOOD[:cut])
    with pytest.raises(InputError):
        read_idx(path, (5, 4, 3))


def test_a_folder_is_checked_as_a_whole(tmp_path: Path) -> None:
    shapes = {"a": (5, 4, 3), "b": (3,), "c": (2,)}
    (tmp_path / "a.gz").write_bytes(PACKED)
    with pytest.raises(InputError, match=r"holds no b, c \(plain or \.gz\)"):
        check_folder(tmp_path, shapes)
    (tmp_path / "b").write_bytes(idx_bytes(ARRAY[0, 0]))
    (tmp_path / "c").write_bytes(idx_bytes(ARRAY[0, 0, :2]))
    found = check_folder(tmp_path, shapes)
    assert [one.path.name for one in found.values()] == ["a.gz", "b", "c"]


def test_the_hash_is_that_of_the_content_however_it_is_packed(tmp_path: Path) -> None:
    packers: list[Callable[[bytes], bytes]] = [
        lambda content: gzip.compress(content, 1, mtime=0),
        lambda content: gzip.compress(content, 9, mtime=5),
    ]
    digests = set()
    for number, pack in enumerate(packers):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a.gz").write_bytes(pack(GOOD))
        digests.add(check_folder(folder, {"a": ARRAY.shape})["a"].sha256)
    (tmp_path / "a").write_bytes(GOOD)
    digests.add(check_folder(tmp_path, {"a": ARRAY.shape})["a"].sha256)
    assert len(digests) == 1
