"""Inputs to score: folders, arrays and names, in the shape that a model takes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nervecode.errors import InputError
from nervecode.lab.data.load import load_outside
from nervecode.lab.data.registry import DATASETS, OUTLIERS
from nervecode.lab.data.samples import as_float
from nervecode.lab.inference.arrays import ArrayInputs
from nervecode.lab.inference.open import open_inputs
from tests.lab.inference.reading import read_inputs

GREY = (1, 8, 8)
pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one deeper, beside what is none."""
    root = tmp_path / "pictures"
    (root / "deeper").mkdir(parents=True)
    for name, image in zip(("b.png", "a.PNG", "deeper/c.bmp"), pixels, strict=False):
        Image.fromarray(image).save(root / name)
    (root / "notes.txt").write_text("no image")
    return root


def test_a_folder_gives_every_image_below_it_in_order(folder: Path) -> None:
    found = read_inputs(str(folder), GREY)
    assert found.ids == ["a.PNG", "b.png", "deeper/c.bmp"]
    expected = pixels[[1, 0, 2]].astype(np.float32) / 255
    np.testing.assert_array_equal(found.inputs[:, 0], expected)
    assert found.skipped == ()


def test_files_that_are_passed_over_are_told(folder: Path) -> None:
    (folder / "deeper/d.tga").write_text("no image")
    remark = "files and folders that are passed over: 1 .tga, 1 .txt"
    assert open_inputs(str(folder), GREY).remarks == (f"{folder}: {remark}",)
    assert open_inputs(f"folder:{folder}", GREY).remarks == (f"{folder}: {remark}",)


def test_a_single_image_is_an_input(folder: Path) -> None:
    found = read_inputs(str(folder / "b.png"), GREY)
    assert found.ids == ["b.png"]
    np.testing.assert_array_equal(found.inputs[0, 0], pixels[0].astype(np.float32) / 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 6, 5)])
def test_any_kind_of_image_fits(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(pixels[0]).resize((20, 30)).convert(mode).save(tmp_path / f"x.{suffix}")
    found = read_inputs(str(tmp_path), shape)
    assert found.inputs.shape == (1, *shape)
    assert 0 <= float(found.inputs.min()) <= float(found.inputs.max()) <= 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 6, 9)])
def test_an_image_to_score_is_what_the_data_set_makes_of_it(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    random = np.random.default_rng(1)
    for index, size in enumerate([(40, 30, 3), (13, 57, 3), (8, 8, 3)]):
        image = Image.fromarray(random.integers(0, 256, size, dtype=np.uint8))
        image.save(tmp_path / f"{index}.png")
    generator = torch.Generator().manual_seed(0)
    known = load_outside(f"folder:{tmp_path}", shape, generator=generator)
    assert torch.equal(read_inputs(str(tmp_path), shape).inputs, as_float(known.inputs))


@pytest.mark.parametrize("damage", [b"", b"not an image", None])
def test_an_unreadable_image_is_named_or_skipped(folder: Path, damage: bytes | None) -> None:
    whole = (folder / "b.png").read_bytes()
    bad = folder / "bad.png"
    bad.write_bytes(whole[: len(whole) - 30] if damage is None else damage)
    with pytest.raises(InputError) as caught:
        read_inputs(str(folder), GREY)
    assert f"{bad}: not a readable image" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    found = read_inputs(str(folder), GREY, skip_bad=True)
    assert found.ids == ["a.PNG", "b.png", "deeper/c.bmp"]
    assert [text.partition(" (")[0] for text in found.skipped] == [f"{bad}: not a readable image"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no image; allowed: \.png"):
        read_inputs(str(tmp_path), GREY)


def test_images_do_not_fit_a_model_of_features(folder: Path) -> None:
    with pytest.raises(InputError, match="an image, but the model takes inputs of shape"):
        read_inputs(str(folder), (16,))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pixels[:, None], pixels[:, None] / 255),
        (pixels, pixels[:, None] / 255),
        (pixels[:, None] / 255, pixels[:, None] / 255),
    ],
    ids=["uint8", "without channel", "float64"],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_are_read(
    tmp_path: Path, array: np.ndarray, expected: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        np.savez(path, anything=array)
    found = read_inputs(str(path), GREY)
    np.testing.assert_allclose(found.inputs, expected.astype(np.float32), rtol=1e-6)
    assert found.inputs.dtype == torch.float32
    assert found.ids == [str(i) for i in range(len(array))]


@pytest.mark.parametrize("shape", [(8,), (2, 4)], ids=["vectors", "series"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_small_numbers_are_no_bytes_of_a_picture(
    tmp_path: Path, shape: tuple[int, ...], suffix: str
) -> None:
    small = pixels[0].reshape(8, *shape)
    save = np.save if suffix == ".npy" else np.savez
    save(tmp_path / f"x{suffix}", small)
    found = read_inputs(str(tmp_path / f"x{suffix}"), shape)
    assert torch.equal(found.inputs, torch.from_numpy(small).float())


def test_of_several_arrays_the_one_named_inputs_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", labels=np.arange(4), inputs=pixels)
    assert read_inputs(str(tmp_path / "x.npz"), GREY).inputs.shape == (4, *GREY)
    np.savez(tmp_path / "y.npz", a=pixels, b=pixels)
    with pytest.raises(InputError, match="found arrays a, b; allowed: one array, or one named"):
        read_inputs(str(tmp_path / "y.npz"), GREY)


def test_features_fit_a_model_of_features(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 16)))
    assert read_inputs(str(tmp_path / "x.npy"), (16,)).inputs.shape == (3, 16)
    np.save(tmp_path / "counts.npy", np.full((3, 16), 9))
    assert (read_inputs(str(tmp_path / "counts.npy"), (16,)).inputs == 9).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 8, 8)), "found shape (2, 3, 8, 8), allowed: (N, 1, 8, 8), N >= 1"),
        (np.zeros((2, 1, 8, 9)), "found shape (2, 1, 8, 9)"),
        (np.zeros((0, 1, 8, 8)), "found shape (0, 1, 8, 8)"),
        (np.zeros(()), "found shape ()"),
        (np.full((2, 1, 8, 8), np.nan), "row 0, column (0, 0, 0): found nan, allowed"),
        (np.full((2, 1, 8, 8), np.inf), "found inf, allowed: finite float32"),
        (np.full((2, 1, 8, 8), 1e300), "found 1e+300, allowed: finite float32"),
        (np.full((2, 1, 8, 8), "a"), "found <U1 values"),
        (np.full((2, 1, 8, 8), True), "found bool values, allowed: float or uint8"),
        (np.full((2, 1, 8, 8), 9), "found int64 pixels, allowed: float from 0 to 1, or uint8"),
        (np.full((2, 1, 8, 8), 9, "u2"), "found uint16 pixels, allowed: float from 0 to 1"),
        (np.full((2, 1, 8, 8), 1j), "found complex128 values"),
        (np.full((2, 1, 8, 8), None), "found an object array, allowed: numbers or texts"),
        (np.full((2, 1, 8, 8), 255.0), "row 0 holds values from 255 to 255, allowed in pictures: "),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read_inputs(str(path), GREY)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("bad", [[0], [1, 3], [0, 1, 2, 3]])
def test_a_row_that_is_not_finite_is_named_or_skipped(
    tmp_path: Path, bad: list[int], suffix: str
) -> None:
    array = np.random.default_rng(0).random((4, 16))
    wrong = [np.nan, np.inf, -np.inf, 1e300][: len(bad)]
    array[bad, 5] = wrong
    path = tmp_path / f"x{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, array)
    reasons = [
        f"{path}: row {row}, column 5: found {value}, allowed: finite float32 values"
        for row, value in zip(bad, wrong, strict=True)
    ]
    with pytest.raises(InputError) as caught:
        read_inputs(str(path), (16,))
    assert str(caught.value) == f"{reasons[0]}; --skip-bad leaves it out"
    found = read_inputs(str(path), (16,), skip_bad=True)
    kept = [row for row in range(4) if row not in bad]
    assert found.ids == [str(row) for row in kept]
    np.testing.assert_array_equal(found.inputs, array[kept].astype(np.float32))
    assert found.skipped == tuple(reasons)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("scale", [(0, 255), (-1, 1), (0, 1.01)])
def test_a_picture_of_another_range_is_named_or_skipped(
    tmp_path: Path, scale: tuple[float, float], suffix: str
) -> None:
    array = np.random.default_rng(0).random((300, *GREY))
    array[270, 0, 0, :2] = scale
    path = tmp_path / f"x{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, array)
    reason = (
        f"row 270 holds values from {min(scale[0], array[270].min()):.3g} to {scale[1]:.3g}, "
        "allowed in pictures: 0 to 1, or uint8; the network standardises them itself"
    )
    with pytest.raises(InputError) as caught:
        read_inputs(str(path), GREY)
    assert str(caught.value) == f"{path}: {reason}; --skip-bad leaves it out"
    assert read_inputs(str(path), GREY, skip_bad=True).skipped == (f"{path}: {reason}",)
    flat = array.reshape(300, 64)
    np.save(path, flat) if suffix == ".npy" else np.savez(path, flat)
    assert len(read_inputs(str(path), (64,)).ids) == 300  # features have no range


@pytest.mark.parametrize(("high", "told"), [(0, False), (1, True), (2, False)])
def test_bytes_of_zero_and_one_are_told(tmp_path: Path, high: int, told: bool) -> None:
    np.save(tmp_path / "x.npy", (pixels > 127).astype(np.uint8) * np.uint8(high))
    source = open_inputs(str(tmp_path / "x.npy"), GREY)
    remark = (
        f"{tmp_path}/x.npy: bytes of 0 and 1 alone are nearly black, as white is 255; x * 255 "
        "stretches them"
    )
    assert source.remarks == (remark,) * told


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_files_that_are_no_arrays_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(InputError, match="no such file"):
        read_inputs(str(path), GREY)
    path.write_text("hello")
    with pytest.raises(InputError, match="not a readable array file") as caught:
        read_inputs(str(path), GREY)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("source", ["-", "/dev/null", "pipe.csv"])
def test_what_can_be_read_but_once_is_refused(source: str, tmp_path: Path) -> None:
    if source == "pipe.csv":
        source = str(tmp_path / source)
        os.mkfifo(source)
    with pytest.raises(InputError, match=f"--input {source}: is a pipe or a device, .* a file"):
        read_inputs(source, GREY)


def test_names_of_data_sets_and_outliers() -> None:
    assert torch.equal(read_inputs("digits", GREY).inputs, DATASETS["digits"]().train.inputs)
    assert read_inputs("digits", (3, 16, 16)).inputs.shape == (1797, 3, 16, 16)
    noise = OUTLIERS["uniform_noise"](GREY, torch.Generator().manual_seed(0))
    assert torch.equal(read_inputs("uniform_noise", GREY).inputs, noise)
    with pytest.raises(InputError, match=r"neither a path nor a data set; did you mean 'digits'\?"):
        read_inputs("digts", GREY)


def test_a_folder_is_the_same_by_its_kind(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    plain, kind = (read_inputs(f"{k}{folder}", GREY, skip_bad=True) for k in ("", "folder:"))
    assert kind.ids == plain.ids == ["a.PNG", "b.png", "deeper/c.bmp"]
    assert torch.equal(kind.inputs, plain.inputs)
    assert kind.skipped == plain.skipped


def test_capitals_make_no_other_suffix(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pixels)
    (tmp_path / "x.npy").rename(tmp_path / "x.NPY")
    np.savez(tmp_path / "x.npz", x=pixels)
    (tmp_path / "x.npz").rename(tmp_path / "x.NPZ")
    mapped, held = (read_inputs(str(tmp_path / name), GREY) for name in ("x.NPY", "x.NPZ"))
    assert torch.equal(mapped.inputs, held.inputs)
    assert len(mapped.inputs) == len(pixels)


def test_a_picture_needs_no_name_of_its_own(folder: Path) -> None:
    expected = read_inputs(str(folder / "b.png"), GREY).inputs
    for name in ("3b1f0c", "b.dib"):
        (folder / name).write_bytes((folder / "b.png").read_bytes())
        assert torch.equal(read_inputs(str(folder / name), GREY).inputs, expected)


def test_a_file_of_another_kind_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    words = r"model\.onnx: found '\.onnx', allowed: \.npy, \.npz, \.ts, \.csv, .*\.tar, \.png"
    with pytest.raises(InputError, match=words):
        read_inputs(str(path), GREY)


def test_what_lies_beside_a_mistyped_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "new.csv").touch()
    np.save(tmp_path / "rows.npy", np.zeros((2, 4)))
    for typed, meant in (("picturs", "pictures"), ("new.cvs", "new.csv"), ("row.npy", "rows.npy")):
        with pytest.raises(InputError, match=rf"{typed}: .*; did you mean '{meant}'\?$"):
            read_inputs(str(tmp_path / typed), GREY)


@pytest.mark.parametrize("shape", [(5,), (2, 9)])
def test_vectors_and_series_are_numbers_of_any_type(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="found bool values, allowed: numbers"):
        ArrayInputs("x", np.zeros((3, *shape), bool), shape)
    for dtype in ("int8", "int64", "float16", "uint8"):
        assert ArrayInputs("x", np.zeros((3, *shape), dtype), shape).count == 3


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x-{0..1}.tar.zst", "x.tar.xz"])
def test_packed_tar_files_are_told_from_pictures(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    told = f"{re.escape(name)}: is a packed tar file, allowed: .tar, as `gunzip` "
    with pytest.raises(InputError, match=told):
        open_inputs(str(tmp_path / name), (1, 8, 8))
