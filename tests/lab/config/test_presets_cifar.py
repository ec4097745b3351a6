"""The presets of the CIFAR laboratory, and the figures that others have published."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nervecode.lab.config.presets import presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.schema import PRIMARY, Config

ROOT = Path(__file__).parents[3]


def preset(name: str) -> Config:
    return resolve(preset=name).config


@pytest.mark.parametrize(
    ("name", "id_set", "gate", "epochs"),
    [
        ("full_cifar10_resnet18", "cifar10", 0.93, 200),
        ("full_cifar100_resnet18", "cifar100", 0.74, 200),
        ("openood_cifar10", "cifar10", 0.93, 100),
        ("full_fashion_resnet18", "fashion_mnist", 0.94, 200),
    ],
)
def test_full_presets_train_to_a_claim(name: str, id_set: str, gate: float, epochs: int) -> None:
    config = preset(name)
    assert (config.data.id, config.bench.accuracy_gate) == (id_set, gate)
    assert (config.model.name, config.model.width, config.train.epochs) == ("resnet18", 64, epochs)
    assert (config.train.optimizer, config.train.schedule) == ("sgd", "cosine")
    assert config.train.augment == "crop_flip"
    assert not config.demo
    assert config.bench.limit_eval is None
    assert config.data.limit_train is None
    assert len(config.seeds) >= 3
    assert {signal.recipe for signal in config.signals.values()} == {"bits", "v0_1_1"}
    assert {"odin", "energy", "mahalanobis", "knn"} <= set(config.bench.detectors)


def test_openood_is_split_as_published() -> None:
    data = preset("openood_cifar10").data
    assert (data.calibration_from, data.calibration_fraction) == ("test", 0.1)
    assert data.near == ("cifar100", "tiny_imagenet")
    assert data.far == ("mnist", "svhn", "dtd", "places365")


def test_the_demo_is_labelled_and_small() -> None:
    config = preset("demo")
    assert config.demo
    assert config.train.epochs == 1
    assert config.bench.limit_eval == 512
    assert config.bench.accuracy_gate == 0.0
    assert (config.data.near, config.data.far) == (("cifar100",), ("svhn", "dtd"))


@pytest.mark.parametrize("name", [name for name in presets() if name.startswith("v0_1_1/")])
def test_the_settings_of_0_1_1(name: str) -> None:
    config = preset(name)
    assert resolve(file=ROOT / f"configs/{name}.yaml").config == config
    signal = config.signals[PRIMARY]
    assert list(config.signals) == [PRIMARY]
    assert config.seeds == (123,)
    assert config.train.batch_size == (64 if name.endswith("smoke") else 128)
    assert config.train.coding_weight == 0.1
    assert (signal.recipe, signal.layers, signal.detach) == ("v0_1_1", "last_block", False)
    assert (signal.num_codes, signal.coding_dim) == (16, 8)
    suite = name.endswith("cpu_cnn_suite")
    assert signal.aggregation == ("mean" if suite else "max")
    assert signal.temperature == (1.5 if suite else 1.0)
    betas = (signal.beta_length, signal.beta_entropy, signal.beta_distance)
    assert betas == (1.0, 0.2 if suite else 1.0, 1.0)
    options = config.bench.options
    assert options["gen"] == {"gamma": 0.1}
    assert options["mahalanobis"] == {"shrinkage": 0.01}
    assert options["knn"] == {"k": 50, "normalise": True}
    assert options["residual"] == {"axes": 100}
    assert options["odin"] == {"temperature": 1000.0, "step": 0.0014}


def test_the_sizes_of_0_1_1() -> None:
    names = ("smoke", "cpu_cnn_suite", "cifar_resnet18_demo", "cifar_resnet18_full",
             "combo_ablation")  # fmt: skip
    found = {name: preset(f"v0_1_1/{name}") for name in names}
    assert [one.train.epochs for one in found.values()] == [1, 5, 1, 200, 200]
    assert [one.bench.limit_eval for one in found.values()] == [256, 2000, 512, None, None]
    assert [one.demo for one in found.values()] == [True, True, True, False, False]
    assert found["cpu_cnn_suite"].data.limit_train == 2000
    assert found["cifar_resnet18_full"].bench.accuracy_gate == 0.93
    assert "odin" in found["cifar_resnet18_full"].bench.detectors
    assert found["combo_ablation"].bench.detectors == ("energy", "mahalanobis")


def test_published_figures_stand_in_the_documentation_as_in_the_file() -> None:
    with (ROOT / "configs/openood_cifar10.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    text = (ROOT / "docs/benchmarks.md").read_text()
    assert len(rows) >= 20
    for row in rows:
        line = f"| {row['method']} | {row['training']} | {row['near']} | {row['far']} |"
        assert line in text
