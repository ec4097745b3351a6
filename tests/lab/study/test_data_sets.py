"""Settings that share a data set: intervals, leads and words that count data sets, by loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from nervecode.lab.results.statistics import DRAWS, FEWEST, Ranks, over_data_sets
from nervecode.lab.results.table import as_markdown
from nervecode.lab.study.headline import headline
from nervecode.lab.study.method_tables import counted_equally, not_told_apart, parts
from nervecode.lab.study.plan import Plan
from nervecode.lab.study.results import Findings, page, ranking
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study
from nervecode.lab.study.trained import tasks_of
from nervecode.lab.study.trained_tables import training, training_claims
from tests.lab.study.made import made

Pairs = list[tuple[str, float]]
PARTS: Pairs = [
    ("a", 1.0), ("b", -2.0), ("a", 3.0), ("c", 0.5), ("d", 4.0), ("a", 2.5), ("e", -1.0),
    ("e", -3.0), ("f", 0.0),
]  # fmt: skip
PRESETS = {"digits": "digits", "vehicle": "vehicle", "letter": "letter", "vowel": "vowel",
           "wine_1": "wine"}  # fmt: skip


def by_loops(pairs: Sequence[tuple[str, float]], seed: int = 0) -> tuple[float, float]:
    """The ends of an interval: each draw written out as the settings that are in it."""
    names = sorted({name for name, _ in pairs})
    random, means = np.random.default_rng(seed), []
    for draw in random.integers(len(names), size=(DRAWS, len(names))):
        inside = [value for i in draw for name, value in pairs if name == names[i]]
        means.append(sum(inside) / len(inside))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@pytest.mark.parametrize("seed", [0, 3])
def test_a_draw_of_a_data_set_is_of_all_its_settings(seed: int) -> None:
    found = over_data_sets(PARTS, seed=seed)
    assert found.mean == pytest.approx(np.mean([value for _, value in PARTS]))
    assert (found.low, found.high) == pytest.approx(by_loops(PARTS, seed))
    assert over_data_sets(PARTS[::-1], seed=seed).low == pytest.approx(found.low)


def test_with_one_setting_a_data_set_settings_are_drawn() -> None:
    values = np.array([1.0, -2.0, 3.0, 0.5, 4.0, 2.5, -1.0])
    chosen = np.random.default_rng(0).integers(7, size=(DRAWS, 7))
    low, high = np.quantile([values[draw].mean() for draw in chosen], [0.025, 0.975])
    found = over_data_sets(zip("abcdefg", values, strict=True))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_settings_that_repeat_one_another_narrow_no_interval() -> None:
    alone = over_data_sets(PARTS)
    again = over_data_sets(PARTS * 10)
    assert (again.mean, again.low, again.high) == pytest.approx((alone.mean, alone.low, alone.high))
    one = [pair for pair in PARTS if pair[0] == "d"] * 9
    more = over_data_sets(PARTS + one)
    assert more.high - more.low >= alone.high - alone.low


def test_intervals_are_given_from_five_data_sets_however_many_settings() -> None:
    four = [(name, float(i)) for i in range(10) for name in "abcd"]
    assert str(over_data_sets(four)) == "+4.50"
    assert np.isfinite(over_data_sets([*four, ("e", 1.0)]).low)
    assert FEWEST == 5


def setting(name: str, preset: str, role: str = "development", **leads: float) -> Setting:
    """A setting in which the signal is ahead of methods by some points."""
    scores = {method: [0.9 - lead / 100] for method, lead in leads.items()}
    scores["nervecode"] = [0.9]
    return made(name, preset, role=role, accuracy=[99.0], scores=scores)


def study_of(leads: Mapping[str, Sequence[float]], knn: float = 5.0) -> Study:
    """Presets, each with settings in which energy is so many points behind; names say nothing."""
    return Study([
        setting(f"digits_{preset}_{i}", preset, energy=lead, knn=knn, msp=30.0)
        for preset, some in leads.items()
        for i, lead in enumerate(some)
    ])  # fmt: skip


LEADS = {"digits": [1.0, 2.0, 3.0, 2.0], "vehicle": [-1.0], "letter": [6.0, 9.0],
         "vowel": [12.0], "wine_1": [8.0]}  # fmt: skip


def test_the_lead_is_for_data_sets_drawn_anew() -> None:
    found = study_of(LEADS)
    pairs = [(PRESETS[preset], lead) for preset, some in LEADS.items() for lead in some]
    assert found.data_sets == list(PRESETS.values())
    lead = found.ahead("energy")
    assert lead.mean == pytest.approx(np.mean([lead for _, lead in pairs]))
    assert (lead.low, lead.high) == pytest.approx(by_loops(pairs))


def test_every_data_set_can_count_equally() -> None:
    found = study_of(LEADS)
    means = {PRESETS[preset]: float(np.mean(some)) for preset, some in LEADS.items()}
    assert found.by_data_set("energy") == pytest.approx(means)
    lead = found.ahead_equally("energy")
    assert lead.mean == pytest.approx(np.mean(list(means.values())))
    assert (lead.low, lead.high) == pytest.approx(by_loops(list(means.items())))
    crowded = study_of({**LEADS, "digits": LEADS["digits"] * 10})
    again = crowded.ahead_equally("energy")
    assert (again.low, again.high) == pytest.approx((lead.low, lead.high))


def test_the_best_is_that_of_the_same_counting() -> None:
    """Energy is 4.7 points behind over settings and 5.7 over data sets, knn 5 over both."""
    found = study_of(LEADS)
    assert (found.best(), found.best(equally=True)) == ("energy", "knn")
    table = counted_equally(found)
    low, high = by_loops([(PRESETS[preset], x) for preset, some in LEADS.items() for x in some])
    assert table.body == [
        [group, f"+4.67 [{low:+.2f}, {high:+.2f}] to `energy`", "+5.00 [+5.00, +5.00] to `knn`",
         "5 of 5"]
        for group in ("score", "near")
    ]  # fmt: skip
    behind = counted_equally(study_of(LEADS, knn=20.0)).body[0]
    assert behind[-1] == "4 of 5"
    assert behind[2].endswith("to `energy`")


def test_parts_count_their_data_sets() -> None:
    table = parts(study_of(LEADS), "", lambda one: one.kind)
    assert [row[:3] for row in table.body] == [["pictures", "4", "1"], ["tables", "5", "4"]]
    assert [row[4] for row in table.body] == ["+2.00 to `energy`", "+5.00 to `knn`"]
    assert "are given from 5 data sets" in table.caption


def test_what_ranks_do_not_tell_apart_is_said() -> None:
    average = {"a": 1.0, "nervecode": 2.0, "b": 2.75, "c": 3.25}
    alike = not_told_apart(Ranks(average, 1.25, 0.01, 9))
    assert "1.25 (Nemenyi, 95 %), `nervecode` is not told apart from `a`, `b`; settings" in alike
    assert "not independent, so that the test is too sure." in alike
    alone = not_told_apart(Ranks(average, 0.5, 0.01, 9))
    assert "`nervecode` is told apart from every other method;" in alone


def test_the_page_has_both_countings_below_the_ranking(plan: Plan) -> None:
    found = study_of(LEADS)
    none = (plan.model_copy(update={"name": "none", "settings": {}}), Study([]))
    text = page(Findings((plan, found), none, none, {}, {}))
    section = text.split("## Ranking over all settings")[1].split("\n## ")[0]
    assert as_markdown(counted_equally(found)).strip() in section


def test_page_and_readme_say_the_same_of_ranks(plan: Plan) -> None:
    found = study_of(LEADS)
    words = not_told_apart(found.ranks())
    assert ranking(found).caption.endswith(words)
    assert words in headline(plan, found, [])


def test_the_readme_says_on_what_the_default_was_chosen(plan: Plan) -> None:
    found = study_of(LEADS)
    assert "*confirmation*" not in headline(plan, found, [])
    new = [
        setting("new_digits", "digits", "confirmation", energy=1.5, knn=8.0, msp=30.0),
        setting("new_satellite", "satellite", "confirmation", energy=2.5, knn=8.0, msp=30.0),
    ]
    text = headline(plan, Study([*found.settings, *new]), [])
    assert (
        "The form and the weights of the default were chosen by OOD figures of *development* "
        "settings, 9 of the 11. The 2 others, *confirmation*, had no part in that: there its lead "
        "is +2.00 to `energy`; 1 of their 2 data sets are in no development setting." in text
    )
    assert "with each of 6 data sets counted equally, +5.15 [" in text


def test_tasks_of_one_data_set_are_drawn_together() -> None:
    gains = {"digits": [1.0, 2.0, 3.0], "vehicle": [-1.0], "letter": [6.0], "vowel": [0.5],
             "wine_1": [4.0]}  # fmt: skip
    trainings = [
        made(f"{preset}{i}.{loss}", preset, f"train.batch_size={32 + i}", *overrides,
             accuracy=[99.0], ece=[2.0],
             scores={"nervecode": [0.9 + lift / 100], "energy": [0.8], "knn": [0.7]})
        for preset, some in gains.items()
        for i, gain in enumerate(some)
        for loss, lift, overrides in (("plain", 0, ()), ("rate", gain, ["train.coding_loss=rate"]))
    ]  # fmt: skip
    tasks = tasks_of(Study(trainings))
    low, high = by_loops([(PRESETS[preset], x) for preset, some in gains.items() for x in some])
    lead = f"+2.21 [{low:+.2f}, {high:+.2f}]"
    (row,) = (row for row in training(tasks).body if row[:2] == ["`rate`", "`nervecode`"])
    assert row[4] == lead
    assert next(training_claims(tasks)).found == f"{lead} over 7"
    few = [task for task in tasks if task.data_set != "wine"]
    assert next(training_claims(few)).found == "+1.92 over 6"
