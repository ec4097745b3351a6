"""The plan of OpenOOD on lists that the test writes: checkpoints in, published figures beside."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from nervecode.lab.config.presets import preset_values, presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.samples import Samples, as_float
from nervecode.lab.data.splits import build_splits
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.inference.open import open_inputs, open_scorer
from nervecode.lab.models.build import build_model
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import ModelConfig
from nervecode.lab.study.plan import cells_of, config_of, read_plan
from nervecode.lab.sweep.launchers import LAUNCHERS
from tests.command_line import invoke
from tests.lab.models.test_foreign import in_openoods_names
from tests.lab.study.small import here

ROOT = Path(__file__).resolve().parents[3]
PLAN = ROOT / "configs/study/openood.yaml"
NAMES = ("cifar10", "cifar100", "imagenet200", "imagenet")
CLASSES = 4


def listed(data: Path, path: str, count: int, *, labelled: bool, side: tuple[int, int]) -> None:
    """A list of random pictures, where OpenOOD's archives would put both."""
    file = data / path
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    random = np.random.default_rng(list(path.encode()))
    for i in range(count):
        name = f"{file.stem}/{i % CLASSES}/{i}.png"
        picture = data / "images_classic" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (*side, 3)).astype(np.uint8)
        pixels[:, :, i % CLASSES % 3] //= 1 + i % CLASSES
        Image.fromarray(pixels).save(picture)
        lines.append(f"{name} {i % CLASSES if labelled else -1}")
    file.write_text("\n".join(lines) + "\n")


def write_lists(folder: Path, preset: str, side: tuple[int, int] = (32, 32)) -> None:
    """All lists of a preset, with a few pictures each."""
    data = preset_values(preset)["data"]
    specs = [data["id"], data["test"], data["calibration"], *data["near"], *data["far"]]
    for spec in specs:
        labelled = spec in specs[:3]
        path = spec.removeprefix("list:").removeprefix("data/")
        listed(folder / "data", path, 24 if labelled else 8, labelled=labelled, side=side)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_setting_has_lists_for_all_parts_and_published_figures() -> None:
    plan = read_plan(PLAN)
    assert plan.published
    assert [cell.preset for cell in plan.settings.values()] == [f"openood/{n}" for n in NAMES]
    assert [len(cells_of(plan, name)) for name in NAMES] == [3, 3, 3, 1]
    for name in NAMES:
        data, bench = config_of(plan, name).data, config_of(plan, name).bench
        sets = (data.id, *data.near, *data.far)
        assert all(spec.startswith("list:") for spec in sets)
        assert data.test and data.calibration
        assert {*bench.detectors, *plan.excluded} == set(DETECTORS)
        with presets()[f"openood/{name}"].with_suffix(".csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) >= 15
        for row in rows:
            assert row["training"] in ("plain", "for the task")
            assert all(45 < float(row[group]) < 100 for group in ("near", "far"))
            assert not row["here"] or row["here"] in DETECTORS
        assert {"gen", "scale", "knn", "fdbd", "nac"} <= {row["here"] for row in rows}


def test_published_figures_of_cifar10_are_those_of_its_other_preset() -> None:
    def figures(name: str) -> dict[str, list[str]]:
        with presets()[name].with_suffix(".csv").open(newline="") as file:
            return {row["method"]: list(row.values()) for row in csv.DictReader(file)}

    assert figures("openood/cifar10") == figures("openood_cifar10")


def test_pictures_are_resized_before_they_are_cropped(folder: Path) -> None:
    write_lists(folder, "openood/imagenet200", side=(20, 28))
    overrides = ["data.image_size=8", "data.resize=10", "data.limit_train=16"]
    config = resolve(preset="openood/imagenet200", overrides=overrides).config.data
    splits = build_splits(config)
    assert [len(part) for part in (splits.train, splits.calibration, splits.test)] == [16, 24, 24]
    assert splits.num_classes == CLASSES
    path = folder / "data/images_classic/test_imagenet200/0/0.png"
    with Image.open(path) as image:
        small = image.resize((14, 10), Image.Resampling.BILINEAR)
    expected = np.asarray(small)[1:9, 3:11].transpose(2, 0, 1)
    found = splits.test.inputs[0].numpy().astype(int)
    assert np.abs(found - expected).max() <= 1
    names = [ood_set.name for ood_set in splits.ood]
    assert names == ["list_test_ssb_hard", "list_test_ninco", "list_test_inaturalist",
                     "list_test_textures", "list_test_openimage_o"]  # fmt: skip


@pytest.mark.slow
def test_checkpoints_lists_and_the_page_of_published_figures(
    folder: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAUNCHERS, "local", here)
    write_lists(folder, "openood/cifar10", side=(40, 50))
    small = ["model.width=4", "bench.detectors=[energy, mahalanobis++, pnml]",
             "bench.accuracy_gate=0", "data.resize=36"]  # fmt: skip
    (folder / "plan.yaml").write_text(
        "title: Small\npublished: true\nseeds: [0]\n"
        f"overrides: {small}\nsettings: {{cifar10: {{preset: openood/cifar10}}}}\n"
    )
    torch.manual_seed(0)
    train = Samples(torch.rand(8, 3, 32, 32), torch.arange(8) % CLASSES)
    state = build_model(ModelConfig(name="resnet18", width=4), train, CLASSES).state_dict()
    theirs = {in_openoods_names(k): v for k, v in state.items() if k not in ("mean", "std")}
    torch.save(theirs, folder / "best.ckpt")  # noqa: TID251
    overrides = [word for one in small for word in ("-o", one)]
    given = ("--preset", "openood/cifar10", "--seed", "0", *overrides)
    result = invoke("import-checkpoint", "best.ckpt", *given, "--outdir", "runs")
    assert result.status == 0, result.err
    arguments = ["study.py", "--plan", "plan.yaml", "--runs", "runs", "--outdir", "study"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--page", "page.md"])
    assert script.main() == 0
    (cell,) = (folder / "study").glob("*/meta.json")
    assert json.loads(cell.read_text())["imported"]["0"]["file"] == "best.ckpt"
    (metrics,) = (folder / "study").glob("*/metrics/*.csv")
    assert len(metrics.read_text().splitlines()) == 2  # a header, and epoch 0: nothing is trained
    # What is scored later is resized and cropped as the lists were.
    scorer = open_scorer(cell.parent)
    pictures = folder / "data/images_classic/test_tin"
    known = build_splits(RunDir(cell.parent).config.data).ood[1].samples.inputs
    (batch,) = open_inputs(str(pictures), scorer.shape, resize=scorer.resize).read(0)
    assert scorer.resize == 36
    order = [int(Path(name).stem) for name in batch.ids]
    assert torch.equal(batch.inputs, as_float(known[order]))
    text = (folder / "page.md").read_text()
    assert "cifar10 beside the published figures of openood/cifar10" in text
    assert "| cifar10 | list:data/benchmark_imglist/cifar10/train_cifar10.txt |" in text
    assert str(folder) not in text
    row = next(line for line in text.splitlines() if line.startswith("| EBO | plain | 87.58 "))
    assert len([cell for cell in row.split("|")[5:7] if cell.strip()]) == 2
    for method in ("mahalanobis++", "pnml"):  # which nobody has published
        assert re.search(
            rf"^\| {re.escape(method)} \| plain \|  \|  \| \d.* \| \d.* \|$", text, re.M
        )
