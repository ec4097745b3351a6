"""Arrays and series by path: shapes, types, parts of one's own, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nervecode.errors import InputError
from nervecode.lab.data.by_path import array_files, memory
from nervecode.lab.data.by_path.rounding import merged_columns
from nervecode.lab.data.names import set_name
from nervecode.lab.data.seen import Seen
from nervecode.lab.data.splits import build_splits
from nervecode.lab.inference.open import open_inputs
from nervecode.lab.schema import DataConfig

COUNT = 60
LABELS = np.arange(COUNT) % 3


def vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(COUNT, 5)).astype(np.float32)


def config(spec: str, **values: Any) -> DataConfig:
    return DataConfig.model_validate({"id": spec, **values})


def refused(spec: str, **values: Any) -> str:
    with pytest.raises(InputError) as caught:
        build_splits(config(spec, **values))
    return str(caught.value)


def npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    kind = "series" if path.stem.startswith("series") else "array"
    return f"{kind}:{path}"


def rows(samples: Any) -> list[bytes]:
    return sorted(x.numpy().tobytes() for x in samples.inputs)


def test_vectors_of_an_npz_are_split_like_any_set(tmp_path: Path) -> None:
    x = vectors()
    spec = npz(tmp_path / "my.npz", x=x, y=LABELS)
    splits = build_splits(config(spec, hold_out=[2], near=["held_out"], far=["gaussian_noise"]))
    inside = [splits.train, splits.calibration, splits.test, splits.ood[0].samples]
    assert sorted(key for part in inside for key in rows(part)) == sorted(r.tobytes() for r in x)
    assert rows(splits.ood[0].samples) == sorted(r.tobytes() for r in x[LABELS == 2])
    assert splits.ood[0].name == "array_my_2"
    assert set_name(f"array:{tmp_path}/a b.npz", config(spec)) == "array_a_b"


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16"])
def test_numbers_become_float32(tmp_path: Path, dtype: str) -> None:
    x = (vectors() * 100).astype(dtype)
    splits = build_splits(config(npz(tmp_path / "my.npz", x=x, y=LABELS)))
    assert splits.train.inputs.dtype == torch.float32
    every = {row.astype(np.float32).tobytes() for row in x}
    assert set(rows(splits.train)) <= every


@pytest.mark.parametrize("shape", [(8,), (2, 4)], ids=["vectors", "series"])
def test_small_numbers_are_no_bytes_of_a_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    small = np.random.default_rng(0).integers(0, 256, (COUNT, *shape), np.uint8)
    name = "series" if len(shape) == 2 else "my"
    splits = {}
    for dtype in (np.uint8, np.float32):
        spec = npz(tmp_path / f"{name}.npz", x=small.astype(dtype), y=LABELS)
        far = npz(tmp_path / f"{name}_far.npz", x=small[::-1].astype(dtype))
        test = npz(tmp_path / f"{name}_test.npz", x=small // 2, y=LABELS).partition(":")[2]
        splits[dtype] = build_splits(config(spec, test=test, far=[far]))
    ours, theirs = splits.values()
    for part in ("train", "calibration", "test"):
        torch.testing.assert_close(  # of one type too
            getattr(ours, part).inputs, getattr(theirs, part).inputs, rtol=0, atol=0
        )
    expected = torch.from_numpy(small[::-1].copy()).float()
    torch.testing.assert_close(ours.ood[0].samples.inputs, expected, rtol=0, atol=0)


def test_an_npy_is_mapped_and_has_its_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", vectors())
    np.save(tmp_path / "y.npy", LABELS)
    np.save(tmp_path / "kinds.npy", np.array(["ant", "bee", "cat"])[LABELS])
    spec = f"array:{tmp_path}/x.npy"
    packed = npz(tmp_path / "my.npz", x=vectors(), y=LABELS)
    plain, other = build_splits(config(spec)), build_splits(config(packed))
    assert torch.equal(plain.train.inputs, other.train.inputs)
    assert torch.equal(plain.train.labels, other.train.labels)
    named = build_splits(config(spec, target="kinds"))
    assert named.classes == ("ant", "bee", "cat")
    assert torch.equal(named.train.labels, plain.train.labels)
    assert isinstance(np.load(tmp_path / "x.npy", mmap_mode="r"), np.memmap)
    array = array_files.inputs_array(tmp_path / "x.npy")
    mapped = array_files.as_inputs(array, "x", series=False, seen=Seen())
    before = (tmp_path / "x.npy").read_bytes()
    mapped[0] = 7  # on a copy: the file stays
    assert (tmp_path / "x.npy").read_bytes() == before
    text = refused(spec, target="z")
    assert f"data.target: {tmp_path}/z.npy: no such file, allowed: an array beside x.npy" in text


def test_pictures_are_grey_or_colour_and_take_any_size(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (COUNT, 12, 12), np.uint8)
    colour = random.random((COUNT, 3, 16, 16))
    spec = npz(tmp_path / "grey.npz", x=grey, y=LABELS)
    far = npz(tmp_path / "colour.npz", x=colour)
    splits = build_splits(config(spec, far=[far], shift=["rotate:90"]), limit_eval=9)
    assert splits.train.inputs.shape[1:] == (1, 12, 12)
    assert splits.train.inputs.dtype == torch.uint8
    assert splits.ood[0].samples.inputs.shape == (9, 1, 12, 12)
    small = build_splits(config(spec, image_size=8))
    assert small.train.inputs.shape[1:] == (1, 8, 8)


def test_parts_groups_and_a_test_file(tmp_path: Path) -> None:
    part = np.array(["train", "train", "calibration", "test", "test"]).repeat(12)
    patient = np.arange(COUNT) // 6
    x = vectors()
    spec = npz(tmp_path / "my.npz", x=x, kind=LABELS, part=part, patient=patient)
    splits = build_splits(config(spec, target="kind", split="part", group="patient"))
    assert torch.equal(splits.test.inputs, torch.from_numpy(x[part == "test"]))
    assert torch.equal(splits.calibration.inputs, torch.from_numpy(x[part == "calibration"]))
    assert splits.test.labels.tolist() == LABELS[part == "test"].tolist()
    own = {"target": "kind", "split": "part", "group": "patient"}
    chosen = config(spec, **own, test_fraction=0.4, calibration_fraction=0.3)
    assert build_splits(chosen).remarks == (
        "ID: data.test_fraction 0.4 has no effect, since the data have this part of their own",
        "ID: data.calibration_fraction 0.3 has no effect, since the data have this part of their "
        "own",
    )
    test = npz(tmp_path / "test.npz", x=x + 1, kind=LABELS).partition(":")[2]
    assert not build_splits(
        config(spec, target="kind", test=test, calibration_fraction=0.3)
    ).remarks
    splits = build_splits(config(spec, target="kind", test=test))
    assert torch.equal(splits.test.inputs, torch.from_numpy(x + 1))
    assert len(splits.train) + len(splits.calibration) == COUNT


def test_a_test_file_that_is_trained_on_is_refused(tmp_path: Path) -> None:
    x = vectors()
    spec = npz(tmp_path / "my.npz", x=x, y=LABELS)
    path = tmp_path / "my.npz"
    (tmp_path / "link.npz").symlink_to(path)
    for same in (path, tmp_path / "link.npz"):
        assert f"data.test: {path} is the file of data.id itself" in refused(spec, test=str(same))
    splits = build_splits(config(spec, test=npz_path(tmp_path, x + 1, LABELS)))
    train, calibration = splits.train, splits.calibration
    inside = npz_path(tmp_path, train.inputs.numpy()[:9], train.labels.numpy()[:9])
    text = f"all 9 inputs of {tmp_path}/test.npz are in ID train or calibration as well, allowed"
    assert text in refused(spec, test=inside)
    both = torch.cat([train.inputs[:5], calibration.inputs[:4]]).numpy()
    labels = torch.cat([train.labels[:5], calibration.labels[:4]]).numpy()
    assert text in refused(spec, test=npz_path(tmp_path, both, labels))
    x[:57] += 1
    x[57:] = train.inputs[:3]
    labels = np.concatenate([LABELS[:57], (train.labels[:3].numpy() + 1) % 3])
    splits = build_splits(config(spec, test=npz_path(tmp_path, x, labels)))
    assert splits.remarks == (
        "ID: 3 of 60 test inputs are in ID train too, so that false alarms are counted too low",
    )


def test_inputs_of_id_in_sets_outside_of_it_are_counted(tmp_path: Path) -> None:
    """As a picture that was filed in two classes, one of which is held out."""
    x, y = vectors(), LABELS.copy()
    held = y == 2
    x[np.flatnonzero(held)[:4]] = x[np.flatnonzero(~held)[:4]]
    spec = npz(tmp_path / "my.npz", x=x, y=y)
    far = npz(tmp_path / "far.npz", x=np.concatenate([x[~held][4:7], x[:5] + 9]))
    splits = build_splits(config(spec, hold_out=[2], near=["held_out"], far=[far]))
    inside = {ood.name: ood.samples for ood in splits.ood}
    assert splits.remarks == tuple(
        f"{name}: {count} of {len(inside[name])} inputs are in ID train, calibration or test too, "
        "so that its AUROC is too low"
        for name, count in zip(inside, (4, 3), strict=True)
    )


@pytest.mark.parametrize("times", [1, 2])
def test_inputs_that_splits_share_are_counted(tmp_path: Path, times: int) -> None:
    x, y = vectors(), LABELS
    spec = npz(tmp_path / "my.npz", x=np.tile(x, (times, 1)), y=np.tile(y, times))
    splits = build_splits(config(spec))
    train, calibration, test = map(rows, (splits.train, splits.calibration, splits.test))
    expected = []
    for name, inputs, others, digests, follows in (
        ("calibration", calibration, "train", train, "new inputs raise more false alarms than"),
        ("test", test, "train", train, "false alarms are counted too low"),
        ("test", test, "calibration", calibration, "false alarms are counted too low"),
    ):
        if count := sum(row in digests for row in inputs):
            expected.append(
                f"ID: {count} of {len(inputs)} {name} inputs are in ID {others} too, so that "
                f"{follows}"
            )
    assert len(expected) == (3 if times == 2 else 0)
    assert [remark.removesuffix(" alpha") for remark in splits.remarks] == expected


def npz_path(folder: Path, x: np.ndarray, y: np.ndarray) -> str:
    return npz(folder / "test.npz", x=x, y=y).partition(":")[2]


def test_the_first_measurement_among_classes_is_named(tmp_path: Path) -> None:
    y = LABELS.astype(float)
    y[7:] += np.linspace(0.1, 0.9, COUNT - 7)[::-1]
    text = refused(npz(tmp_path / "my.npz", x=vectors(), y=y))
    assert "row 7: found 1.9, allowed: names or whole numbers" in text
    assert text.endswith("measurements are no classes")


@pytest.mark.parametrize("word", ["", " ", "NA", "nan", "null", "?"])
@pytest.mark.parametrize(
    ("key", "names", "found"),
    [
        ("target", ["ant", "bee"], "found nothing, allowed: a class"),
        ("group", ["a", "b", "c"], "found nothing, allowed: the name of a group"),
        ("split", ["train", "test"], "found 'nothing', allowed: train, calibration, test"),
    ],
)
@pytest.mark.parametrize("dtype", ["U9", "S9"])
def test_a_missing_text_beside_arrays_is_none(
    tmp_path: Path, key: str, names: list[str], found: str, word: str, dtype: str
) -> None:
    values = np.array(names, dtype)[np.arange(COUNT) % len(names)]
    values[7] = word
    path = tmp_path / "my.npz"
    spec = npz(path, x=vectors(), y=LABELS, values=values)
    assert refused(spec, **{key: "values"}) == f"data.{key}: {path}: row 7: {found}"


def test_bytes_beside_arrays_are_texts_in_utf8(tmp_path: Path) -> None:
    names = np.array(["bär", "élan", "猫"])
    x, path = vectors(), tmp_path / "my.npz"
    coded = npz(path, x=x, y=np.char.encode(names, "utf-8")[LABELS])
    assert build_splits(config(coded)).classes == tuple(sorted(names))
    coded = npz(path, x=x, y=np.char.encode(names[:2], "latin-1")[LABELS % 2])
    assert refused(coded) == (
        f"{path}: y: found {'bär'.encode('latin-1')!r}, allowed: texts, or bytes of them in UTF-8; "
        'np.char.decode(y, "latin-1") makes texts of older ones'
    )


TIMES = 1.7e12 + 1000 * np.random.default_rng(0).permutation(COUNT)  # milliseconds


@pytest.mark.parametrize(
    ("values", "merged"),
    [
        (TIMES, True), (TIMES.astype(np.int64), True), (2**40 + np.arange(COUNT), True),
        (2**24 + np.arange(COUNT), True), (2**24 - np.arange(COUNT), False),
        (np.where(np.arange(COUNT) % 3, TIMES, 0), True), (1e-30 * TIMES, True),
        (TIMES - TIMES[0], False), (np.full(COUNT, 0.1), False), (vectors()[:, 0], False),
        (np.random.default_rng(1).normal(size=COUNT), False), (np.arange(COUNT) * 2**40, False),
    ],
)  # fmt: skip
def test_numbers_that_float32_does_not_tell_apart_are_told(
    tmp_path: Path, values: np.ndarray, merged: bool
) -> None:
    x = np.stack([vectors()[:, 0].astype(values.dtype), values, np.arange(COUNT)], 1)
    text = (
        "{}: numbers that differ are one in float32, which inputs are: {}; less an offset, they "
        "stay apart"
    )
    assert merged_columns(x) == (["column 1"] if merged else [])
    spec = npz(tmp_path / "my.npz", x=x, y=LABELS)
    far = npz(tmp_path / "far.npz", x=2 * x)
    told = build_splits(config(spec, far=[far])).remarks
    expected = tuple(text.format(name, "column 1") for name in ("ID", "array_far"))
    assert tuple(remark for remark in told if "float32" in remark) == expected * merged
    for suffix in ("npz", "npy"):
        path = tmp_path / f"far.{suffix}"
        np.save(path, x) if suffix == "npy" else None
        remarks = open_inputs(str(path), (3,)).remarks
        assert remarks == (text.format(path, "column 1"),) * merged
    series = np.stack([values, np.arange(COUNT, dtype=float)])[None].repeat(COUNT, 0)
    spec = npz(tmp_path / "series.npz", x=series, y=LABELS)
    assert merged_columns(series) == (["channel 0"] if merged else [])
    told = build_splits(config(spec)).remarks
    assert (text.format("ID", "channel 0") in told) == merged


def test_noise_over_inputs_that_are_all_one_is_refused(tmp_path: Path) -> None:
    spec = npz(tmp_path / "series.npz", x=np.ones((COUNT, 2, 9)), y=LABELS)
    assert refused(spec, far=["uniform_noise"]) == (
        "data: the set 'uniform_noise' fills the range of ID train, where all inputs are one; "
        "allowed: ID inputs that differ"
    )


def test_series_keep_their_channels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(COUNT, 4, 9)) * [[[1], [10], [100], [1000]]]
    spec = npz(tmp_path / "series.npz", x=x, y=LABELS)
    splits = build_splits(config(spec, far=["uniform_noise"], shift=["noise:1"]))
    assert splits.train.inputs.shape[1:] == (4, 9)
    noise, shifted = splits.ood[0].samples.inputs, splits.ood[1].samples.inputs
    low, high = splits.train.inputs.amin((0, 2)), splits.train.inputs.amax((0, 2))
    assert (noise.amin((0, 2)) >= low).all() and (noise.amax((0, 2)) <= high).all()
    assert ((noise.amax((0, 2)) - noise.amin((0, 2))) / (high - low) > 0.99).all()
    step = (shifted - splits.test.inputs).std((0, 2)) / splits.test.inputs.std((0, 2))
    torch.testing.assert_close(step, torch.ones(4), atol=0.15, rtol=0)
    one = npz(tmp_path / "series_one.npz", x=x[:, 0], y=LABELS)
    assert build_splits(config(one)).train.inputs.shape[1:] == (1, 9)
    text = refused(spec, shift=["hflip"])
    assert "the shift 'hflip' is for images, found inputs of shape (4, 9)" in text


@pytest.mark.parametrize(("shape", "told"), [((40, 4), True), ((4, 40), False), ((9, 3), False)])
def test_series_that_look_turned_are_told(
    tmp_path: Path, shape: tuple[int, int], told: bool
) -> None:
    x = np.random.default_rng(0).normal(size=(COUNT, *shape))
    remarks = build_splits(config(npz(tmp_path / "series.npz", x=x, y=LABELS))).remarks
    text = (
        "ID: series of 40 channels and 4 steps; where it is the other way round, "
        "x.transpose(0, 2, 1) brings the channels to the front"
    )
    assert remarks == ((text,) if told else ())


def broken(values: np.ndarray, value: float) -> np.ndarray:
    values[41, 3] = value
    return values


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": vectors(), "b": LABELS}, "found arrays a, b; allowed: one array, or one named 'x'"),
        ({"x": vectors(), "label": LABELS}, "data.target: {0} has no array 'y'; Allowed: label, x"),
        ({"x": vectors(), "y": LABELS[:-1]}, "data.target: {0}: found 59 values for 60 inputs"),
        ({"x": vectors(), "y": np.eye(3)[LABELS]}, "found float64 of shape (60, 3), allowed"),
        ({"x": vectors(), "y": LABELS + 0.5}, "{0}: row 0: found 0.5, allowed: names or whole"),
        ({"x": broken(vectors(), np.nan), "y": LABELS}, "{0}: row 41, column 3: found nan"),
        ({"x": broken(vectors().astype(float), 1e300), "y": LABELS},
         "{0}: row 41, column 3: found 1e+300, allowed: finite float32"),
        ({"x": vectors()[:, 0], "y": LABELS}, "{0}: found shape (60,), allowed: (N, D) of vectors"),
        ({"x": vectors().astype(complex), "y": LABELS}, "{0}: found complex128 values, allowed"),
        ({"x": np.zeros((COUNT, 8, 8, 3), np.uint8), "y": LABELS},
         "found shape (60, 8, 8, 3), allowed: (N, D) of vectors, (N, H, W) of grey pictures, or "
         "(N, C, H, W); x.transpose(0, 3, 1, 2) brings the channels to the front"),
        ({"x": np.zeros((COUNT, 3, 8, 8), int), "y": LABELS},
         "found int64 values, allowed: float or uint8"),
        ({"x": np.full((COUNT, 3, 8, 8), 2.5), "y": LABELS},
         "row 0: found values from 2.5 to 2.5, allowed in pictures: 0 to 1, or uint8"),
    ],
)  # fmt: skip
def test_arrays_that_will_not_do(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    path = tmp_path / "my.npz"
    spec = npz(path, **arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert words.format(path) in refused(spec)


def test_files_that_are_no_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my.npz"
    path.write_bytes(b"nothing")
    assert f"{path}: not a readable array file" in refused(f"array:{path}")
    ragged = np.array([np.zeros(3), np.zeros(4)], dtype=object)
    np.savez(path, x=ragged, y=LABELS)
    for kind in ("array", "series"):
        text = refused(f"{kind}:{path}")
        assert f"{path}: x: found an object array, allowed: numbers" in text
        assert "rows of unequal length are cut or padded" in text and "pickle" not in text
    np.save(path.with_suffix(".npy"), ragged)
    assert "my.npy: found an object array" in refused(f"array:{path.with_suffix('.npy')}")
    other = tmp_path / "my.mat"
    other.write_bytes(b"")
    assert f"{other}: found '.mat', allowed: .npz, .npy" in refused(f"array:{other}")
    assert f"array:{tmp_path}/no.npz is absent;" in refused(f"array:{tmp_path}/no.npz")
    monkeypatch.setattr(memory, "MAX_BYTES", 1000)
    spec = npz(path, x=vectors(), y=LABELS)
    assert "bytes in memory, allowed: 1,000" in refused(spec)


def test_inputs_of_another_shape_are_no_ood_set(tmp_path: Path) -> None:
    spec = npz(tmp_path / "my.npz", x=vectors(), y=LABELS)
    far = npz(tmp_path / "far.npz", x=vectors()[:, :4])
    assert "inputs of shape (4,) do not fit inputs of (5,)" in refused(spec, far=[far])
    test = far.partition(":")[2]
    assert f"data.test: {test} holds inputs of shape (4,), allowed: (5,)" in refused(
        spec, test=test
    )
    same = npz(tmp_path / "same.npz", x=build_splits(config(spec)).test.inputs.numpy())
    assert "holds the ID test split itself" in refused(spec, far=[same])


def test_bytes_of_zero_and_one_are_told(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (COUNT, 8, 8), np.uint8)
    spec = npz(tmp_path / "my.npz", x=mask, y=LABELS)
    far = npz(tmp_path / "far.npz", x=1 - mask)
    remark = "bytes of 0 and 1 alone are nearly black, as white is 255; x * 255 stretches them"
    assert build_splits(config(spec, far=[far])).remarks == (
        f"ID: {remark}",
        f"array_far: {remark}",
    )
    spec = npz(tmp_path / "my.npz", x=mask * np.uint8(255), y=LABELS)
    assert build_splits(config(spec)).remarks == ()


@pytest.mark.parametrize(
    ("shape", "told"),
    [((16, 16, 5), True), ((16, 9, 2), True), ((16, 2, 5), False), ((3, 16, 2), False)],
)
def test_channels_that_look_last_are_told(
    tmp_path: Path, shape: tuple[int, ...], told: bool
) -> None:
    x = np.random.default_rng(0).random((COUNT, *shape))
    remark = (
        f"ID: pictures of {shape[0]} channels and {shape[1]} x {shape[2]} pixels; where the "
        "channels are last, x.transpose(0, 3, 1, 2) brings them to the front"
    )
    splits = build_splits(config(npz(tmp_path / "my.npz", x=x, y=LABELS)))
    assert splits.remarks == (remark,) * told


def test_pictures_of_other_channels_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    spec = npz(tmp_path / "my.npz", x=random.random((COUNT, 3, 8, 8)), y=LABELS)
    near = npz(tmp_path / "near.npz", x=random.random((COUNT, 5, 8, 8)))
    text = refused(spec, near=[near])
    assert f"data: the set {near!r}: pictures of 5 channels do not fit inputs of (3, 8, 8)" in text
    assert text.endswith("allowed: as many channels, or grey and RGB")
    spec = npz(tmp_path / "my.npz", x=random.random((COUNT, 8, 8, 2)), y=LABELS)
    text = refused(spec, far=["photo_patches"])
    assert text.endswith("where the channels are last, x.transpose(0, 3, 1, 2) brings them to the "
                         "front")  # fmt: skip


def test_a_text_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_text("a text")
    reason = "it does not begin as an .npy file does"
    assert f"{path}: not a readable array file ({reason})" in refused(f"array:{path}")
