"""Trained: tasks that differ in their loss alone, each loss with the detector that suits it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nervecode.errors import InputError
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study
from nervecode.lab.study.trained import TrainedTask, best_detector, joint_losses, losses, tasks_of
from nervecode.lab.study.trained_tables import by_task, training, training_claims
from tests.lab.study.made import made

LOGIT_NORM, RATE = "train.loss=logit_norm", "train.coding_loss=rate"


def trained(
    name: str,
    preset: str,
    *overrides: str,
    near: float = 0.9,
    energy: float = 0.8,
    knn: float = 0.7,
    accuracy: float = 95.0,
    seeds: int = 2,
    ece: float | None = 2.0,
) -> Setting:
    """A setting with our AUROC near (far is 0.9), and that of two detectors on both."""
    scores = {
        "nervecode": {"near": [near] * seeds, "far": [0.9] * seeds},
        "energy": [energy] * seeds, "knn": [knn] * seeds,
    }  # fmt: skip
    return made(name, preset, *overrides, accuracy=[accuracy] * seeds, ece=[ece] * seeds,
                scores=scores)  # fmt: skip


def five(
    preset: str, *more: str, joint: float, rival: float, accuracy: float = 95.0
) -> list[Setting]:
    """Plain, LogitNorm, two others that are worse, and a loss in bits on one task."""
    return [
        trained(f"{preset}.plain", preset, *more),
        *[
            trained(
                f"{preset}.{loss}",
                preset,
                f"train.loss={loss}",
                *more,
                near=0.6,
                energy=0.5,
                knn=knn,
            )
            for loss, knn in (("logit_norm", rival), ("t2f_norm", 0.6), ("cider", 0.7))
        ],
        trained(f"{preset}.rate", preset, RATE, *more, near=joint, accuracy=accuracy),
    ]


@pytest.fixture
def tasks() -> list[TrainedTask]:
    return tasks_of(Study([
        *five("digits", joint=0.93, rival=0.88), *five("vehicle", joint=0.91, rival=0.95),
    ]))  # fmt: skip


def test_settings_that_differ_in_their_loss_alone_are_one_task(tasks: list[TrainedTask]) -> None:
    assert [task.name for task in tasks] == ["digits", "vehicle"]
    assert losses(tasks) == ["cross_entropy", "logit_norm", "t2f_norm", "cider", "rate"]
    assert joint_losses(tasks) == ["rate"]
    other = trained("other", "digits", RATE, "train.epochs=3")
    weighty = trained(
        "weighty", "digits", "train.coding_loss=code_price", "train.coding_weight=1.0"
    )
    (task,) = tasks_of(Study([trained("digits.plain", "digits"), other, weighty]))
    assert list(task.by_loss) == ["cross_entropy", "code_price"]
    assert tasks_of(Study([other])) == []


def test_what_shares_no_seed_with_plain_training_does_not_count() -> None:
    plain, rate = trained("digits.plain", "digits", seeds=1), trained("digits.rate", "digits", RATE)
    later = [record for record in rate.records if record.seed == 1]
    alone = Setting(rate.name, rate.role, rate.config, later)
    (task,) = tasks_of(Study([plain, alone]))
    assert list(task.by_loss) == ["cross_entropy"]
    (task,) = tasks_of(Study([plain, rate]))
    assert task.gain("rate", "nervecode") == 0


def test_each_loss_has_the_detector_that_is_best_after_it(tasks: list[TrainedTask]) -> None:
    assert best_detector(tasks, "cross_entropy") == "energy"
    assert best_detector(tasks, "logit_norm") == "knn"


def test_the_table_tells_what_each_loss_is_worth(tasks: list[TrainedTask]) -> None:
    rows = training(tasks).body
    assert [row[:4] for row in rows] == [
        ["`cross_entropy`", "`nervecode`", "90.00", "90.00"],
        ["`cross_entropy`", "`energy`", "80.00", "80.00"],
        ["`logit_norm`", "`nervecode`", "60.00", "75.00"],
        ["`logit_norm`", "`knn`", "91.50", "91.50"],
        ["`t2f_norm`", "`nervecode`", "60.00", "75.00"],
        ["`t2f_norm`", "`knn`", "60.00", "60.00"],
        ["`cider`", "`nervecode`", "60.00", "75.00"],
        ["`cider`", "`knn`", "70.00", "70.00"],
        ["`rate`", "`nervecode`", "92.00", "91.00"],
        ["`rate`", "`energy`", "80.00", "80.00"],
    ]
    assert rows[0][4:] == ["", "", "2", "95.00", "", "2.00"]
    assert rows[3][4] == "+21.50"
    assert rows[8][4:] == [
        "+2.00", "+1.00", "2", "95.00", "+0.00, worst +0.00", "2.00",
    ]  # fmt: skip
    assert rows[9][6:] == ["", "", "", ""]


def test_absolute_figures_are_of_the_tasks_that_have_every_loss(tasks: list[TrainedTask]) -> None:
    plain, logit_norm, *_ = five("vowel", joint=0.93, rival=0.5)
    weak = replace(plain, records=[replace(r, accuracy=50.0) for r in plain.records])
    more = training([*tasks, *tasks_of(Study([weak, logit_norm]))])
    first = training(tasks).body[0]
    assert more.body[0] == [*first[:6], "3", *first[7:]]
    assert "are over the 2 tasks that have every loss" in more.caption
    (only,) = tasks_of(Study([weak, logit_norm]))
    (other,) = tasks_of(Study([trained("a", "digits"), trained("b", "digits", RATE)]))
    assert training([only, other]).body[0][2:4] == ["", ""]


def test_what_was_chosen_on_the_tasks_is_said(tasks: list[TrainedTask]) -> None:
    assert "**None of these tasks confirms anything:**" in training(tasks).caption
    assert all("chosen on these tasks" in claim.text for claim in list(training_claims(tasks))[:2])
    plain = tasks_of(Study(five("digits", joint=0.9, rival=0.8)[:-1]))
    assert "confirms anything" not in training(plain).caption


def test_each_task_shows_who_is_ahead(tasks: list[TrainedTask]) -> None:
    table = by_task(tasks)
    assert table.header[1:] == [
        "`cross_entropy`, `nervecode`", "`rate`, `nervecode`", "`logit_norm`, `knn`",
        "`t2f_norm`, `knn`", "`cider`, `knn`",
        "`cross_entropy` ahead", "`rate` ahead",
    ]  # fmt: skip
    assert table.body == [
        [
            "digits",
            "90.00, 90.00",
            "93.00, 91.50",
            "88.00, 88.00",
            "60.00, 60.00",
            "70.00, 70.00",
            "+2.00 [+2.00, +2.00]",
            "+3.50 [+3.50, +3.50]",
        ],
        [
            "vehicle",
            "90.00, 90.00",
            "91.00, 90.50",
            "95.00, 95.00",
            "60.00, 60.00",
            "70.00, 70.00",
            "-5.00 [-5.00, -5.00]",
            "-4.50 [-4.50, -4.50]",
        ],
    ]


def test_a_rival_that_is_absent_from_a_task_leaves_it_to_the_others(
    tasks: list[TrainedTask],
) -> None:
    plain, logit_norm, *_ = five("vowel", joint=0.93, rival=0.5)
    more = [*tasks, *tasks_of(Study([plain, logit_norm]))]
    known = ["vowel", "90.00, 90.00", "", "50.00, 50.00", "", ""]
    assert by_task(more).body[2] == [*known, "+40.00 [+40.00, +40.00] (1 of 3)", ""]
    some = "2 of 3, 2 clearly; in 1 beside those of them that passed the gate"
    assert [claim.found for claim in training_claims(more)][2:] == [some, "1 of 2, 1 clearly"]


def seeds_of(setting: Setting, near: dict[int, float]) -> Setting:
    """The setting with other figures near, for some seeds alone."""
    records = [
        replace(record, rows=[
            {**row, "auroc": near[record.seed]} if row["group"] == "near" else row
            for row in record.rows
        ])
        for record in setting.records
        if record.seed in near
    ]  # fmt: skip
    return replace(setting, records=records)


def test_a_lead_is_paired_by_seed() -> None:
    plain = seeds_of(trained("a", "digits", seeds=3), {0: 0.9, 1: 0.7, 2: 0.1})
    rival = trained("b", "digits", LOGIT_NORM, seeds=3, energy=0.8)
    (task,) = tasks_of(Study([plain, seeds_of(rival, {0: 0.85, 1: 0.67})]))
    lead = task.lead("cross_entropy", [("logit_norm", "nervecode")])
    assert lead is not None
    assert lead.points.mean == pytest.approx(2.0)  # of +2.5 and +1.5
    assert lead.points.high - lead.points.mean == pytest.approx(12.7062 * 0.5, rel=1e-4)
    (task,) = tasks_of(Study([plain, seeds_of(rival, {0: 0.85})]))
    lead = task.lead("cross_entropy", [("logit_norm", "nervecode")])
    assert str(lead) == "+2.50 (1 of 3)"
    assert task.lead("cross_entropy", [("logit_norm", "nothing")]) is None


def test_two_settings_of_one_task_and_loss_are_refused() -> None:
    plain, first = trained("a", "digits"), trained("b", "digits", LOGIT_NORM)
    other = trained("c", "digits", LOGIT_NORM, "train.loss_options={temperature: 0.1}")
    words = "two settings of one task with the loss 'logit_norm': b and c, allowed: one"
    with pytest.raises(InputError, match=words):
        tasks_of(Study([plain, first, other]))


@pytest.mark.parametrize(
    ("joint", "rival", "accuracy", "verdicts"),
    [
        (0.93, 0.88, 95.0, [True, True, True, True]),
        (0.91, 0.88, 94.7, [False, False, True, True]),
        (0.93, 0.91, 94.8, [True, True, False, True]),
        (0.93, 0.99, 95.0, [True, True, False, False]),
    ],
)
def test_each_claim_can_be_reached_and_missed(
    joint: float, rival: float, accuracy: float, verdicts: list[bool]
) -> None:
    many = [
        replace(setting, name=f"{i}.{setting.name}")
        for i in range(10)
        for setting in five("digits", f"data.hold_out=[{i}]", joint=joint, rival=rival,
                            accuracy=accuracy)
    ]  # fmt: skip
    tasks = tasks_of(Study(many))
    assert [claim.reached for claim in training_claims(tasks)] == verdicts
    assert [claim.reached for claim in training_claims(tasks[:9])] == [False] * 4
    without = [setting for setting in many if not setting.name.endswith(".cider")]
    last = [claim.reached for claim in training_claims(tasks_of(Study(without)))][2:]
    assert last == [None, None]  # nobody is ahead of what was not run


def test_without_trainings_nothing_is_claimed() -> None:
    claims = list(training_claims([]))
    assert [(claim.found, claim.reached) for claim in claims] == [("not run yet", None)] * 4
    assert not training([]).body
    assert not by_task([]).body
