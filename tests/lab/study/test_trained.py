"""The plan of trained comparators: ten tasks, each of them trained in six ways and in no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nervecode.lab.schema import Config
from nervecode.lab.study.plan import config_of, read_plan
from nervecode.lab.trainer.registry import LOSSES

PLAN = read_plan(Path(__file__).parents[3] / "configs/study/trained.yaml")


def apart_from_losses(config: Config) -> Any:
    usual = {
        "loss": "cross_entropy",
        "coding_loss": "none",
        "coding_weight": 0.1,
        "loss_options": {},
    }
    train = config.train.model_copy(update=usual)
    return config.data, config.model, train, config.signals, config.bench, config.seeds


def test_the_trainings_of_a_task_differ_in_their_losses_alone() -> None:
    tasks: dict[str, dict[str, Config]] = {}
    for name in PLAN.settings:
        task, _, how = name.partition(".")
        tasks.setdefault(task, {})[how] = config_of(PLAN, name)
    assert len(tasks) == 10
    ways = {"plain", *LOSSES, "mixture_price"} - {"cross_entropy"}
    for trainings in tasks.values():
        assert set(trainings) == ways
        assert all(
            apart_from_losses(config) == apart_from_losses(trainings["plain"])
            for config in trainings.values()
        )
        for how, config in trainings.items():
            assert config.train.loss == (how if how in LOSSES else "cross_entropy")
            priced = how == "mixture_price"
            assert config.train.coding_loss == ("mixture_price" if priced else "none")
            assert config.train.coding_weight == (3.0 if priced else 0.1)


def test_all_of_them_are_development() -> None:
    assert {setting.role for setting in PLAN.settings.values()} == {"trained"}
