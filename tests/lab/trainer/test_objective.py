"""What a training minimises: which losses see what, and where they are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nervecode.errors import InputError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.schema import ModelConfig, TrainConfig
from nervecode.lab.stages.dry_run import dry_run
from nervecode.lab.trainer.objective import Objective
from nervecode.lab.trainer.registry import CODING_LOSSES, LOSSES
from tests.lab.stages.test_bench import tiny
from tests.lab.trainer.test_trainer import images, trainer


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_lowered_by_its_training(loss: str) -> None:
    one = trainer(images(), loss=loss, epochs=6, learning_rate=0.02)
    rows = [one.epoch(number, Progress()) for number in range(1, 7)]
    assert rows[-1]["task_loss"] < rows[0]["task_loss"]
    assert rows[-1]["coding_loss"] == 0


def test_the_projection_of_cider_is_trained_and_not_kept() -> None:
    one = trainer(images(), loss="cider", epochs=1, learning_rate=0.02)
    before = [p.detach().clone() for p in one.objective.parameters()]
    one.epoch(1, Progress())
    assert [tuple(p.shape) for p in before] == [(128, one.model.head.in_features), (128,)]
    after = list(one.objective.parameters())
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert not any("projection" in key for key in one.model.state_dict())
    task = one.objective.task
    head = task.prototypes @ task.projection.weight / task.temperature
    torch.testing.assert_close(one.model.head.weight, head)


def classes() -> Samples:
    """Images that are as bright as the number of their class."""
    samples = images()
    return Samples(samples.inputs + samples.labels.view(-1, 1, 1, 1), samples.labels)


@pytest.mark.parametrize(
    ("loss", "layers"),
    [
        *[(loss, "features") for loss in CODING_LOSSES],
        ("rate", "all_blocks"),
        ("code_price", ["last_block", "features"]),
    ],
)
def test_every_coding_loss_is_lowered_by_its_training(loss: str, layers: Any) -> None:
    rows = {}
    for weight in (0.0, 3.0):
        one = trainer(
            classes(), coding_loss=loss, coding_layers=layers, coding_weight=weight, epochs=8,
            learning_rate=0.02,
        )  # fmt: skip
        rows[weight] = [one.epoch(number, Progress()) for number in range(1, 9)][-1]
        row = rows[weight]
        assert row["loss"] == pytest.approx(row["task_loss"] + weight * row["coding_loss"])
    assert rows[3.0]["coding_loss"] < rows[0.0]["coding_loss"]


def objective(world: int = 1, **options: Any) -> Objective:
    model = build_model(ModelConfig(name="small_cnn", width=4), images(), 3)
    return Objective(TrainConfig(**options), model, world=world)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "cider"}, "train.loss: cider: found 2 processes, allowed: 1, since the loss"),
        ({"coding_loss": "rate"}, "train.coding_loss: rate: found 2 processes, allowed: 1"),
        ({"coding_loss": "rate", "loss": "cider"}, "train.loss: cider and train.coding_loss: rate"),
    ],
)
def test_a_loss_of_a_whole_batch_is_for_one_process(options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        objective(world=2, **options)
    objective(world=2, loss="t2f_norm")


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="'block' matches no module of SmallCNN; did you mean"):
        objective(coding_loss="rate", coding_layers="block")


@pytest.mark.parametrize("options", [{"loss": "t2f_norm"}, {"coding_loss": "rate"}])
def test_what_reads_layers_is_not_compiled(options: Any) -> None:
    with pytest.raises(
        InputError, match=r"train\.compile: found train\..*, which read layers; all"
    ):
        trainer(images(), compile=True, **options)
    trainer(images(), compile=True, loss="logit_norm", coding_loss="mixture_price")


def test_a_frozen_network_pays_no_coding_loss_of_its_blocks() -> None:
    for layers, pays in (("all_blocks", False), ("features", True)):
        one = trainer(images(), freeze=1, epochs=2, coding_loss="rate", coding_layers=layers)
        rows = [one.epoch(number, Progress()) for number in (1, 2)]
        assert [row["coding_loss"] != 0 for row in rows if row] == [pays, True]


def test_a_training_without_these_keys_is_the_one_that_it_was() -> None:
    plain = resolve(preset="digits").config
    assert not {"loss", "loss_options", "coding_loss", "coding_layers"} & set(
        plain.model_dump()["train"]
    )
    assert set(plain.training_inputs()["train"]) == {"epochs", "batch_size", "learning_rate"}
    other = resolve(preset="digits", overrides=["train.loss=logit_norm"]).config
    assert other.training_inputs()["train"]["loss"] == "logit_norm"


def test_a_dry_run_prices_the_layers() -> None:
    overrides = ("train.coding_loss=code_price", "train.coding_layers=[all_blocks, features]")
    assert dry_run(tiny(*overrides)).train_seconds > 0
