"""Claims on accuracy, joint training and the toy, and the tables beside them: hand-made runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nervecode.lab.config.resolve import resolve
from nervecode.lab.study.claims import _accuracy, _joint, _toy, joint_pairs
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.side_tables import ablation, joint
from nervecode.lab.study.study import Study

JOINT = "signals.nervecode_v0_1_1.detach=false"


def made(
    name: str,
    preset: str,
    *overrides: str,
    accuracy: tuple[float, float] = (0.99, 0.98),
    scores: dict[str, tuple[float, float]] | None = None,
) -> Setting:
    """A setting of two seeds with one far set and one near set of equal AUROC."""
    config = resolve(preset=preset, overrides=list(overrides), settings={"name": name}).config
    runs = {
        seed: SimpleNamespace(config=config, meta={"gate": {"accuracy": {str(seed): figure}}})
        for seed, figure in enumerate(accuracy)
    }
    rows = [
        {"seed": seed, "ood": group, "group": group, "method": method, "status": "ok", "auroc": v}
        for method, values in (scores or {"nervecode": (0.9, 0.8)}).items()
        for seed, v in enumerate(values)
        for group in ("near", "far")
    ]
    return Setting(name, "joint", runs, rows)  # type: ignore[arg-type]


PLAIN = made("plain", "digits", scores={"nervecode": (0.90, 0.80), "nervecode_v0_1_1": (0.5, 0.5)})
LIGHT = made(
    "light", "digits", JOINT, accuracy=(0.985, 0.98),
    scores={"nervecode": (0.91, 0.83), "nervecode_v0_1_1": (0.6, 0.6)},
)  # fmt: skip
HEAVY = made("heavy", "digits", JOINT, "train.coding_weight=1.0", accuracy=(0.97, 0.99))


@pytest.mark.parametrize(
    ("settings", "found", "reached"),
    [
        ([PLAIN, LIGHT], "-0.25 points at worst, light", True),
        ([PLAIN, LIGHT, HEAVY], "-0.50 points at worst, heavy", False),
        ([LIGHT], "not run yet", None),
        ([PLAIN], "not run yet", None),
    ],
)
def test_joint_training_is_held_against_the_same_task(
    settings: list[Setting], found: str, reached: bool | None
) -> None:
    (claim,) = _joint(Study(settings))
    assert (claim.found, claim.reached) == (found, reached)


def test_another_task_is_no_partner() -> None:
    other = made("other", "digits", JOINT, "train.epochs=3")
    assert list(joint_pairs(Study([PLAIN, LIGHT, other]))) == [(LIGHT, PLAIN)]


def test_the_joint_table_pairs_the_seeds() -> None:
    rows = joint(Study([PLAIN, LIGHT])).body
    assert rows == [
        ["light", "0.1", "`nervecode`", "98.25", "-0.25", "87.00", "+2.00±1.41"],
        ["light", "0.1", "`nervecode_v0_1_1`", "98.25", "-0.25", "60.00", "+10.00±0.00"],
    ]


def test_the_ablation_table_opens_with_the_default_and_tells_the_options() -> None:
    rows = ablation(PLAIN).body
    assert rows[0] == ["the default", "85.00±7.07", "", "85.00", "85.00", ""]
    assert rows[1][:3] == ["recipe: v0_1_1, detach: True", "50.00±0.00", "-35.00±7.07"]


@pytest.mark.parametrize(
    ("accuracy", "found", "reached"),
    [((0.94, 0.93), "93.50 %, worst seed 93.00 %", True), ((0.94, 0.92), "93.00 %, worst", False)],
)
def test_the_accuracy_on_ten_classes(
    accuracy: tuple[float, float], found: str, reached: bool
) -> None:
    ten = made("ten", "fashion_10", accuracy=accuracy)
    eight = made("eight", "fashion_37", accuracy=(0.5, 0.5))
    (claim,) = _accuracy(Study([eight, ten]))
    assert claim.found.startswith(found)
    assert claim.reached is reached
    assert [one.reached for one in _accuracy(Study([eight]))] == [None]


@pytest.mark.parametrize(("auroc", "reached"), [(0.986, True), (0.984, False)])
def test_the_toy(auroc: float, reached: bool) -> None:
    toy = made("toy", "toy", scores={"nervecode": (auroc, auroc)})
    (claim,) = _toy(Study([PLAIN, toy]))
    assert (claim.found, claim.reached) == (f"{auroc:.3f}", reached)
