"""Claims, ablations and joint training: what is said of made-up settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nervecode.errors import ArtifactError
from nervecode.lab.study.claims import claims
from nervecode.lab.study.costs import Cost, identity, read_costs, write_costs
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.side_tables import ablation, joint, joint_pairs
from nervecode.lab.study.study import Study
from tests.lab.study.made import made

NEW = "confirmation"
JOINT = "signals.nervecode_v0_1_1.detach=false"


PLAIN = made("plain", "digits", scores={"nervecode": (0.90, 0.80), "nervecode_v0_1_1": (0.5, 0.5)})
LIGHT = made(
    "light", "digits", JOINT, accuracy=(98.5, 98.0),
    scores={"nervecode": (0.91, 0.83), "nervecode_v0_1_1": (0.6, 0.6)},
)  # fmt: skip
HEAVY = made("heavy", "digits", JOINT, "train.coding_weight=1.0", accuracy=(97.0, 99.0))


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
    rows = ablation(PLAIN, {}).body
    assert rows[0][:6] == ["the default", "85.00±7.07", "", "85.00", "85.00", ""]
    assert rows[1][:3] == ["recipe: v0_1_1, detach: True", "50.00±0.00", "-35.00±7.07"]
    header = ablation(PLAIN, {}).header
    assert header[-1] == "shift"  # no column of what was not measured
    assert [len(row) for row in rows] == [len(header)] * 2
    assert "a bare forward pass" not in ablation(PLAIN, {}).caption


def test_the_ablation_table_says_what_each_point_costs() -> None:
    names = ("nervecode", "nervecode_max", "nervecode_last", "nervecode_by_mean", "nervecode_dear")
    overrides = [f"signals.{name}={{}}" for name in names]
    scores = dict(zip(names, ([0.9], [0.88], [0.91], [0.8], [0.85]), strict=True))
    one = made("a", "digits", *overrides, accuracy=[99.0], scores=scores)
    here = identity(one.config)
    costs = {
        ("a", "nervecode"): Cost(here, 1.5, 1.3), ("a", "nervecode_max"): Cost(here, 1.25, 1.2),
        ("a", "nervecode_last"): Cost(here, 1.1, 1.1),
        ("a", "nervecode_dear"): Cost(here, None, 1.4),
        ("a", "nervecode_by_mean"): Cost("other", 9, 9),
    }  # fmt: skip
    assert [row[-3:] for row in ablation(one, costs).body] == [
        ["1.50", "1.30", ""],
        ["1.10", "1.10", ""],  # cheaper and better than the default
        ["1.25", "1.20", "5.0"],  # ten percent for two points
        ["", "1.40", ""],  # dearer and worse
        ["", "", ""],  # measured on another config
    ]


def test_a_point_within_the_deviation_has_no_price() -> None:
    names = ("nervecode", "nervecode_max")
    for worse, price in (([0.88, 0.88], "5.0"), ([0.9, 0.86], "")):
        scores = dict(zip(names, ([0.9, 0.9], worse), strict=True))
        one = made("a", "digits", *[f"signals.{n}={{}}" for n in names], scores=scores)
        costs = {("a", n): Cost(identity(one.config), 1.5, 1.3 - 0.1 * i)
                 for i, n in enumerate(names)}  # fmt: skip
        assert ablation(one, costs).body[1][-1] == price


def test_costs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    costs = {
        ("a", "nervecode"): Cost("x", 1.5, 1.25),
        ("a", "nervecode_v0_1_1"): Cost("x", None, 1.125),
    }
    assert read_costs(path) == {}
    write_costs(path, costs)
    assert read_costs(path) == costs
    path.write_text("\ufeff" + path.read_text() + "\n", encoding="utf-8")
    assert read_costs(path) == costs
    for old, new in (("1.500", "much"), ("signal", "singal"), ("1.125\n", "")):
        write_costs(path, costs)
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ArtifactError, match=r"costs\.csv: is damaged .*ablate_costs.py writes"):
            read_costs(path)


def setting(
    name: str,
    *leads: float,
    near: float | None = None,
    preset: str = "digits",
    role: str = "development",
    planned: int = 0,
    seeds: int = 3,
) -> Setting:
    """A setting in which the signal is ahead of energy by some points, and of knn by one more.

    Args:
        name: of the setting.
        leads: in far; and in shift, or else the same.
        near: the lead there, or else as in far.
        preset: whose config it has.
        role: of the setting.
        planned: how many seeds there should be.
        seeds: how many there are.
    """
    by_group = {"near": leads[0] if near is None else near, "far": leads[0], "shift": leads[-1]}
    scores = {
        method: {group: [0.9 - (lead + more) / 100] * seeds for group, lead in by_group.items()}
        for method, more in (("energy", 0), ("knn", 1))
    }
    scores["nervecode"] = {group: [0.9] * seeds for group in by_group}
    accuracy = [99.0] * seeds
    return made(name, preset, role=role, accuracy=accuracy, scores=scores, planned=planned or seeds)


def verdicts(*settings: Setting) -> list[tuple[str, bool | None]]:
    return [(claim.found, claim.reached) for claim in claims(Study(settings))]


TABLES = ("letter", "satellite", "shuttle", "vehicle", "vowel")
MANY = [setting(f"s{i}", 3.0) for i in range(16)] + [
    setting(f"t{i}", 3.0, preset=TABLES[i % 5], role=NEW) for i in range(10)
]


def test_all_that_is_asked_can_be_reached() -> None:
    assert verdicts(*MANY) == [
        ("100 %, 26 of 26", True),
        ("100 %, 10 of 10", True),
        ("+3.00 [+3.00, +3.00] to `energy`", True),
        ("+3.00 [+3.00, +3.00] to `energy`", True),
        ("0 %, 0 of 26", True),
        ("+3.00 on s0; 0 of 26", True),
        ("+3.00 [+3.00, +3.00] to `energy`", True),
        ("not run yet", None),
        ("in 26 of 26 settings that have figures", True),
    ]
    assert verdicts(*MANY[1:])[0] == ("100 %, 25 of 25", False)
    assert verdicts(*MANY[:-1])[1] == ("100 %, 9 of 9", False)
    assert verdicts(*MANY[1:])[4:6] == [("0 %, 0 of 25", False), ("+3.00 on s1; 0 of 25", False)]


def unbacked(where: str) -> Setting:
    """A setting in which a method lacks a seed, or the error of an interval."""
    one = setting("b", 1.0)
    first, *others = one.records
    if where == "seed":
        rows = [
            {**row, "status": "failed"} if row["method"] == "knn" else row for row in first.rows
        ]
        return replace(one, records=[replace(first, rows=rows), *others])
    errors = {**first.errors, "knn": {"score": 0.5}}
    return replace(one, records=[replace(first, errors=errors), *others])


@pytest.mark.parametrize(
    ("place", "settings", "found", "reached"),
    [
        (1, [setting("a", 1.0)], "not run yet", None),
        (1, [setting("a", 1.0, role=NEW)] * 8 + [setting("b", -1.0, role=NEW)] * 2,
         "80 %, 8 of 10", True),
        (1, [setting("a", 1.0, role=NEW)] * 7 + [setting("b", 0.0, role=NEW)] * 3,
         "70 %, 7 of 10", False),
        (2, [setting("a", 2.4)], "+2.40 to `energy`", False),
        (3, [setting("a", 1.4)], "not run yet", None),
        (3, [setting("a", 1.4, preset="letter")], "+1.40 to `energy`", False),
        (4, [setting("a", 1.0)] * 27 + [setting("b", 9.0, near=-1.1)] * 3, "10 %, 3 of 30", True),
        (4, [setting("a", 1.0)] * 26 + [setting("b", 9.0, near=-1.1)] * 3, "10 %, 3 of 29", False),
        (4, [setting("a", 1.0)] * 26 + [setting("b", 9.0, near=-0.9)], "0 %, 0 of 27", True),
        (5, [*MANY, setting("b", 9.0, near=-4.1)], "-4.10 on b; 1 of 27", False),
        (5, [*MANY, setting("b", 9.0, near=-3.9)], "-3.90 on b; 0 of 27", True),
        (6, [setting("a", 9.0, 1.9)], "+1.90 to `energy`", False),
        (8, [setting("a", 1.0), setting("b", 1.0, seeds=2)],
         "in 1 of 2 settings that have figures", False),
        (8, [setting("a", 1.0), setting("b", 1.0, planned=5)],
         "in 1 of 2 settings that have figures", False),
        (8, [setting("a", 1.0), unbacked("seed")], "in 1 of 2 settings that have figures", False),
        (8, [setting("a", 1.0), unbacked("error")], "in 1 of 2 settings that have figures", False),
    ],
)  # fmt: skip
def test_each_claim_can_be_missed(
    place: int, settings: list[Setting], found: str, reached: bool | None
) -> None:
    assert verdicts(*settings)[place] == (found, reached)


@pytest.mark.parametrize(("combination", "reached"), [(0.95, True), (0.89, False)])
def test_the_combination_is_held_against_its_best_member(combination: float, reached: bool) -> None:
    scores = {"nervecode": [0.9], "energy": [0.8], "mahalanobis": [0.7]}
    some = [
        made(preset, preset, accuracy=[99.0],
             scores={**scores, "combo_id_zscore_equal": [combination]})
        for preset in TABLES
    ]  # fmt: skip
    found = f"{100 * combination - 90:+.2f}"
    assert verdicts(some[0])[7] == (f"{found} to `nervecode`", reached)
    assert verdicts(*some)[7] == (f"{found} [{found}, {found}] to `nervecode`", reached)
