"""Clip art by kind: found where a package puts it, each drawing once, on white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.data import clipart, image_files
from nervecode.lab.data.clipart import KINDS, openclipart
from nervecode.lab.data.images import decode
from nervecode.lab.data.locate import locate, places, require
from nervecode.lab.data.splits import build_splits
from nervecode.lab.schema import DataConfig
from tests.lab.data.archives import own_root


def draw(path: Path, shade: int, side: int = 8) -> None:
    """A square that is transparent on the left, and has a shade on the right."""
    array = np.zeros((side, side, 4), dtype=np.uint8)
    array[:, side // 2 :] = (shade, 0, 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package unpacked below the data folder: ten drawings of each kind."""
    own_root(monkeypatch, tmp_path / "data")
    root = tmp_path / "data/openclipart/usr/share/openclipart/png"
    for number, folder in enumerate(KINDS.values()):
        for index in range(10):
            draw(root / folder / "below" / f"{index}.png", 10 * number + index)
    return root


def test_drawings_are_those_of_the_kinds_on_white(package: Path) -> None:
    assert locate("openclipart").where == str(package)
    dataset = openclipart()
    assert dataset.classes == tuple(KINDS)
    assert np.bincount(dataset.train.labels).tolist() == [10] * len(KINDS)
    inputs = dataset.train.load(8).inputs
    assert (inputs[:, :, :, :4] == 255).all()
    assert torch.equal(inputs[:, 0, 0, 7], torch.arange(10 * len(KINDS), dtype=torch.uint8))


def test_drawings_are_decoded_once(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def counted(path: Path, side: int, *, resize: int | None = None) -> torch.Tensor:
        calls.append(path)
        return decode(path, side, resize=resize)

    monkeypatch.setattr(image_files, "decode", counted)
    first = openclipart().train.load(8).inputs
    assert torch.equal(openclipart().train.load(8).inputs, first)
    count = len(calls)
    assert count == 10 * len(KINDS)
    (kept,) = (package.parents[4] / "decoded").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # damaged
    assert torch.equal(openclipart().train.load(8).inputs, first)
    assert len(calls) == 2 * count
    openclipart().train.load(8, resize=10)
    draw(package / KINDS["tools"] / "below/9.png", 255)
    assert openclipart().train.load(8).inputs[-1, 0, 0, 7] == 255
    assert len(calls) == 4 * count
    assert len(list((package.parents[4] / "decoded").iterdir())) == 3


def test_a_folder_that_cannot_be_written_keeps_nothing(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, arrays: object) -> None:
        raise NervecodeError(f"{path}: cannot be written (Read-only file system)")

    monkeypatch.setattr("nervecode.lab.data.cache.write_npz", full)
    assert len(openclipart().train.load(8)) == 10 * len(KINDS)
    monkeypatch.setattr("nervecode.lab.data.cache.data_root", lambda: None)
    assert len(openclipart().train.load(8)) == 10 * len(KINDS)


def test_copies_large_drawings_and_other_files_are_left_out(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipart, "MAX_PIXELS", 100)
    draw(package / KINDS["arrows"] / "copy.png", 0)  # as the first of the kind before it
    draw(package / KINDS["arrows"] / "poster.png", 200, side=11)
    (package / KINDS["arrows"] / "x.jpg").write_bytes(b"no png")
    assert len(openclipart().train) == 10 * len(KINDS)


def test_a_kind_of_many_is_thinned_evenly(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipart, "MOST", 2)
    files = openclipart().train
    assert [path.name for path in files.paths] == ["0.png", "5.png"] * len(KINDS)


def test_classes_are_held_out_by_their_names(package: Path) -> None:
    config = DataConfig(id="openclipart", hold_out=("leds", "birds"), near=("held_out",),
                        image_size=8)  # fmt: skip
    splits = build_splits(config)
    assert splits.num_classes == len(KINDS) - 2
    (birds_and_leds,) = splits.ood
    assert len(birds_and_leds.samples) == 20


def test_what_is_absent_is_told_with_the_command_that_gets_it(
    package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (package / KINDS["tools"]).rename(package / "elsewhere")
    with pytest.raises(InputError, match=r"tools: is absent; get the package openclipart-png"):
        openclipart()
    own_root(monkeypatch, tmp_path / "empty")
    monkeypatch.setattr(
        "nervecode.lab.data.locate.places",
        lambda name: [place for place in places(name) if tmp_path in place.parents],
    )
    with pytest.raises(InputError) as told:
        require(["openclipart"])
    assert "apt install openclipart-png, or: apt-get download" in str(told.value)
    assert f"dpkg -x *.deb {tmp_path / 'empty' / 'openclipart'}" in str(told.value)
