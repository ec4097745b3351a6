"""Folders of images, the rule that fits images to a model, and images in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from nervecode.errors import InputError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.images import FORMATS, IMAGE_SUFFIXES, fit_images
from nervecode.lab.data.load import load_id
from nervecode.lab.data.names import set_name
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.data.samples import Samples, as_float
from nervecode.lab.data.splits import build_splits
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.machine.progress import Progress, showing_reading
from nervecode.lab.models.build import build_model
from nervecode.lab.models.features import extract
from nervecode.lab.schema import DataConfig, ModelConfig
from tests.progress import Told
from tests.rehearsal import photographs

SIZES = [(40, 32), (32, 57), (64, 33), (100, 41), (32, 32), (20, 25)]


def write_classes(root: Path, *names: str, count: int = 12) -> Path:
    """A folder with a sub-folder of pictures for each class, of many sizes and modes."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            height, width = SIZES[index % len(SIZES)]
            picture = photographs()[(number + index) % len(photographs())][:height, :width]
            mode, suffix = [("RGB", "png"), ("L", "jpg"), ("RGBA", "PNG")][index % 3]
            Image.fromarray(picture).convert(mode).save(root / name / f"{index:02}.{suffix}")
    return root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "pictures", "ant", "bee", "cat")


def config(**values: object) -> DataConfig:
    return DataConfig.model_validate({"id": "digits"} | values)


OPENOOD = Compose([Resize(32), CenterCrop(32), PILToTensor()])


def test_reading_is_told(pictures: Path) -> None:
    told = Told()
    with showing_reading(told):
        load_id(config(id=f"folder:{pictures}", image_size=8))
    assert told.pieces == [("pictures", 36, 36)]
    load_id(config(id=f"folder:{pictures}", image_size=8))
    assert len(told.pieces) == 1  # nobody is told outside


def test_a_folder_is_that_of_torchvision(pictures: Path) -> None:
    (pictures / "notes.txt").write_text("no picture")
    (pictures / ".hidden").mkdir()
    (pictures / "empty").mkdir()
    oracle = datasets.ImageFolder(
        pictures, OPENOOD, is_valid_file=lambda path: not path.endswith("txt"), allow_empty=True
    )
    found = load_id(config(id=f"folder:{pictures}"))
    assert found.test is None
    assert torch.equal(found.train.inputs, torch.stack([image for image, _ in oracle]))
    names = [oracle.classes[label] for label in oracle.targets]
    assert [["ant", "bee", "cat"][label] for label in found.train.labels] == names


def test_a_folder_is_id_data_and_another_is_ood(pictures: Path, tmp_path: Path) -> None:
    other = write_classes(tmp_path / "other pictures", "whatever")
    splits = build_splits(
        config(id=f"folder:{pictures}", hold_out=(2,), near=["held_out"],
               far=[f"folder:{other}", f"folder:{other / 'whatever'}"], image_size=16)
    )  # fmt: skip
    assert splits.num_classes == 2
    assert len(splits.train) + len(splits.calibration) + len(splits.test) == 24
    assert {samples.inputs.shape[1:] for samples in splits.evaluated().values()} == {(3, 16, 16)}
    assert list(splits.evaluated())[2:] == [
        "ood_folder_pictures_2", "ood_folder_other_pictures", "ood_folder_whatever",
    ]  # fmt: skip
    classes, plain = splits.ood[1].samples, splits.ood[2].samples
    assert torch.equal(classes.inputs, plain.inputs)


def test_classes_of_a_folder_have_names(pictures: Path) -> None:
    spec = f"folder:{pictures}"
    by_name = build_splits(config(id=spec, hold_out=("cat",), near=["held_out"], image_size=8))
    by_number = build_splits(config(id=spec, hold_out=(2,), near=["held_out"], image_size=8))
    assert by_name.classes == ("ant", "bee")
    assert torch.equal(by_name.ood[0].samples.inputs, by_number.ood[0].samples.inputs)
    text = refused(id=spec, hold_out=("cats",))
    assert "has no class cats; did you mean 'cat'? Allowed: ant, bee, cat" in text


def test_folders_of_whole_numbers_have_names_and_no_places(tmp_path: Path) -> None:
    spec = f"folder:{write_classes(tmp_path / 'pictures', '2', '10', '030')}"
    assert f"data.hold_out: {spec} has no class 1; did you mean '10'? Allowed: 030, 10, 2" in (
        refused(id=spec, hold_out=(1,))
    )
    assert build_splits(config(id=spec, hold_out=(10,))).classes == ("030", "2")


def test_a_folder_has_parts_of_its_own(pictures: Path, tmp_path: Path) -> None:
    parts = {
        "test": write_classes(tmp_path / "test", "bee", "cat", "dog", count=5),
        "calibration": write_classes(tmp_path / "calibration", "ant", "bee", count=4),
    }
    found = config(id=f"folder:{pictures}", image_size=8, hold_out=("dog",), near=["held_out"],
                   **{key: str(path) for key, path in parts.items()})  # fmt: skip
    splits = build_splits(found)
    assert splits.classes == ("ant", "bee", "cat")
    assert len(splits.train) == 36
    assert np.bincount(splits.calibration.labels).tolist() == [4, 4]
    assert np.bincount(splits.test.labels).tolist() == [0, 5, 5]
    assert len(splits.ood[0].samples) == 5
    whole = build_splits(found.model_copy(update={"calibration": None}))
    assert len(whole.train) + len(whole.calibration) == 36
    few = build_splits(found.model_copy(update={"limit_train": 20}))
    assert len(few.train) == 20


def test_parts_that_will_not_do_are_refused(pictures: Path, tmp_path: Path) -> None:
    spec, other = f"folder:{pictures}", write_classes(tmp_path / "test", "ant", "dog", count=2)
    assert (
        f"data: class 'dog' of '{spec}' has 2 rows, none of them in the train split"
    ) in refused(id=spec, test=str(other))
    assert f"{spec} and {spec}/ant share pictures, allowed: folders apart" in refused(
        id=spec, test=f"{pictures}/ant"
    )
    assert "share pictures" in refused(id=spec, test=str(other), calibration=str(other))
    assert "calibration is for data.id folder:PATH or list:PATH with a test part" in refused(
        id=spec, calibration=str(other)
    )
    assert f"folder:{tmp_path}/no is absent;" in refused(id=spec, test=f"{tmp_path}/no")
    assert f"data.test: {other}/ant: found 0 class sub-folders, allowed as ID data: one" in refused(
        id=spec, test=f"{other}/ant"
    )
    for name in ("ant", "bee", "cat"):
        (other / name).mkdir(exist_ok=True)
        for path in (pictures / name).iterdir():
            (other / name / path.name).write_bytes(path.read_bytes())
    (other / "dog/00.png").unlink()
    (other / "dog/01.jpg").unlink()
    assert f"all 29 inputs of {other} are in ID train or calibration as well" in refused(
        id=spec, test=str(other), calibration_from="test"
    )


def test_parts_are_no_classes(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", "train", "val", count=2)
    assert (
        f"data.id: {root} holds train, val, which are parts and no classes; allowed: "
        f"data.id=folder:{root}/train with data.test={root}/val"
    ) in refused(id=f"folder:{root}")


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Train", "test"), ("val", "test")])
def test_parts_beside_another_folder_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = write_classes(tmp_path / "pets", *parts, "extra", count=2)
    first, second = sorted(parts, key=lambda name: (name.lower() != "train", name))[:2]
    text = refused(id=f"folder:{root}")
    assert f"holds {', '.join(sorted(parts))}, which are parts and no classes" in text
    assert f"data.id=folder:{root}/{first} with data.test={root}/{second}" in text
    one = write_classes(tmp_path / "vehicles", "bus", "train", count=12)
    assert build_splits(config(id=f"folder:{one}")).classes == ("bus", "train")


def test_what_packers_and_servers_leave_is_no_class(pictures: Path) -> None:
    before = load_id(config(id=f"folder:{pictures}")).train
    for name in ("__MACOSX", "@eaDir", "ant/@eaDir"):
        write_classes(pictures / name, "left")
    after = load_id(config(id=f"folder:{pictures}"))
    assert after.classes == ("ant", "bee", "cat")
    assert after.train.fingerprint == before.fingerprint


def test_suffixes_are_those_of_the_formats_in_pillow() -> None:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert set(IMAGE_SUFFIXES) == known


def test_files_that_are_passed_over_are_told(pictures: Path, tmp_path: Path) -> None:
    before = load_id(config(id=f"folder:{pictures}")).train
    for name in ("ant/a.bak", "ant/b.BAK", "bee/c.tga", "cat/README", "cat/.hidden", "notes.txt"):
        (pictures / name).write_text("no picture")
    for name in ("beside.png", "._hidden.png"):
        Image.new("L", (8, 8)).save(pictures / name)
    far = write_classes(tmp_path / "scans", "deep") / "x.heic"
    far.write_text("no picture")
    flat = write_classes(tmp_path / "flat", "deep") / "deep"
    (flat / "x.heic").write_text("no picture")
    splits = build_splits(
        config(id=f"folder:{pictures}", far=[f"folder:{far.parent}", f"folder:{flat}"])
    )
    assert splits.remarks[0] == (
        "ID: files and folders that are passed over: 2 .bak, 1 .tga, 1 without a suffix, 1 beside "
        "the folders of the classes"
    )
    assert "folder_deep: files and folders that are passed over: 1 .heic" in splits.remarks
    assert load_id(config(id=f"folder:{pictures}")).train.fingerprint == before.fingerprint


def test_a_jfif_is_read(pictures: Path) -> None:
    for path in (pictures / "ant").glob("*.jpg"):
        path.rename(path.with_suffix(".JFIF"))
    assert len(load_id(config(id=f"folder:{pictures}")).train) == 36


def test_a_class_without_a_picture_is_refused(pictures: Path, tmp_path: Path) -> None:
    (pictures / "dog").mkdir()
    splits = build_splits(config(id=f"folder:{pictures}"))
    assert splits.classes == ("ant", "bee", "cat")
    assert splits.remarks[0] == "ID: files and folders that are passed over: 1 empty"
    (pictures / "dog/a.tga").write_text("no picture")
    (pictures / "dog/b").write_text("no picture")
    reason = "holds no picture, found .tga, without a suffix; allowed in a class: .png, .jpg"
    assert f"data.id: {pictures}/dog: {reason}" in refused(id=f"folder:{pictures}")
    test = write_classes(tmp_path / "test", "ant", "bee")
    (pictures / "dog").rename(test / "dog")
    assert f"data.test: {test}/dog: {reason}" in refused(id=f"folder:{pictures}", test=str(test))


@pytest.mark.parametrize("size", [(1, 3_000_000), (3_000_000, 1)])
def test_a_picture_that_is_large_once_resized_is_refused(
    pictures: Path, size: tuple[int, int]
) -> None:
    thin = pictures / "ant/thin.png"
    Image.new("L", size).save(thin)
    assert (
        f"{thin}: not a readable image ({size[0]} x {size[1]} pixels, 96,000,000 x 32 once "
        "resized, allowed: 50,000,000)"
    ) in refused(id=f"folder:{pictures}")
    images = torch.zeros(1, 3, *size, dtype=torch.uint8)
    with pytest.raises(InputError, match="once resized, allowed: 50,000,000 pixels"):
        fit_images(images, (3, 32, 32))


def test_a_path_becomes_absolute(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    found = config(far=["folder:pictures"])
    assert found.far == (f"folder:{pictures}",)
    assert set_name(found.far[0], found) == "folder_pictures"
    monkeypatch.setenv("HOME", str(pictures.parent))
    assert config(far=["folder:~/pictures"]).far == (f"folder:{pictures}",)


def test_an_optional_folder_joins_where_it_is(pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nmodel: {name: mlp}\n"
        f'data: {{id: digits, far: ["folder:{pictures}?", "folder:{tmp_path}/none?"]}}\n'
    )
    found = resolve(file=file)
    assert found.config.data.far == (f"folder:{pictures}",)
    assert found.left_out == (f"folder:{tmp_path}/none",)


def refused(**values: object) -> str:
    with pytest.raises((InputError, ValueError)) as caught:
        build_splits(config(**values))
    return str(caught.value)


def test_folders_that_will_not_do_are_refused(pictures: Path, tmp_path: Path) -> None:
    one = write_classes(tmp_path / "one", "single", count=4)
    empty = tmp_path / "empty"
    empty.mkdir()
    spec = f"folder:{pictures}"
    assert "found 1 class sub-folders, allowed as ID data: two or more" in refused(
        id=f"folder:{one}"
    )
    assert "found 0 class sub-folders" in refused(id=f"folder:{one / 'single'}")
    assert f"{empty}: holds no image; allowed: .png, .jpg" in refused(far=[f"folder:{empty}"])
    assert f"folder:{tmp_path}/no is absent;" in refused(far=[f"folder:{tmp_path}/no"])
    assert "the set 'folder' needs a path, as in folder:PATH" in refused(far=["folder:"])
    assert f"the OOD set '{spec}' is the ID set itself" in refused(id=spec, far=[spec])
    inner = f"{spec}/ant"
    assert f"the OOD set '{inner}' is the ID set itself" in refused(id=spec, far=[inner])
    (pictures / "ant/broken.png").write_bytes(b"nothing")
    assert f"{pictures}/ant/broken.png: not a readable image" in refused(far=[spec])


def test_classes_of_the_id_set_are_no_outliers() -> None:
    text = refused(hold_out=(8, 9), far=["digits:8,3"])
    assert "the OOD set 'digits:8,3' holds class 3 of the ID set" in text
    splits = build_splits(config(hold_out=(8, 9), near=["digits:8"]))
    assert splits.ood[0].name == "digits_8"


# The rule, on tensors


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [24, 32, 48])
def test_images_are_fitted_as_pillow_would(size: tuple[int, int], side: int) -> None:
    picture = photographs()[0][: size[0], : size[1]]
    expected = Compose([Resize(side), CenterCrop(side), PILToTensor()])(Image.fromarray(picture))
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1).unsqueeze(0)
    found = fit_images(images, (3, side, side))
    assert found.dtype == torch.uint8
    # Pillow rounds after each of its two passes.
    assert int((found[0].int() - expected.int()).abs().max()) <= 1
    torch.testing.assert_close(fit_images(as_float(images), (3, side, side)), as_float(found),
                               atol=0.51 / 255, rtol=0)  # fmt: skip


# Bytes stand for the floats they would be


@pytest.fixture
def both() -> tuple[Samples, Samples]:
    """The same images as bytes and as floats."""
    random = np.random.default_rng(0)
    inputs = torch.from_numpy(random.integers(0, 256, (90, 3, 8, 8), dtype=np.uint8))
    labels = torch.arange(90) % 3
    return Samples(inputs, labels), Samples(inputs.float() / 255, labels)


def test_bytes_are_the_same_to_a_network_and_its_detectors(both: tuple[Samples, Samples]) -> None:
    scores = []
    for samples in both:
        torch.manual_seed(0)
        model = build_model(ModelConfig(name="small_cnn", width=4), samples, 3).eval()
        features = extract(model, samples, title="test", progress=Progress())
        found = [DETECTORS[name](features, model)(features) for name in ("energy", "odin", "gram")]
        scores.append([features.logits, model(samples.inputs), *found])
    for one, other in zip(*scores, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_shifts_of_bytes_are_those_of_floats(
    both: tuple[Samples, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("noise", "rotate:45", "blur", "contrast", "hflip")
    found = []
    for samples in both:
        monkeypatch.setitem(DATASETS, "mine", lambda samples=samples: Dataset(samples))
        found.append(build_splits(config(id="mine", shift=names, far=["digits", "uniform_noise"])))
    for one, other in zip(found[0].ood, found[1].ood, strict=True):
        torch.testing.assert_close(as_float(one.samples.inputs), as_float(other.samples.inputs),
                                   atol=0, rtol=0)  # fmt: skip
    assert found[0].train.fingerprint != found[1].train.fingerprint
