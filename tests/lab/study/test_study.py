"""The study: plans, settings that are resumed or fail, and a page that says what the rows say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.results.rows import summarise
from nervecode.lab.study.claims import Target, claims
from nervecode.lab.study.headline import headline
from nervecode.lab.study.method_tables import best_methods
from nervecode.lab.study.oracle import oracle_auroc
from nervecode.lab.study.plan import Plan, cells_of, check_apart, config_of, read_plan, with_role
from nervecode.lab.study.results import Findings, page, ranking
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.side_tables import settings
from nervecode.lab.study.study import Study, attempt
from tests.lab.study.made import made
from tests.lab.study.small import SMALL, run_all

ROOT = Path(__file__).resolve().parents[3]


def test_the_matrix_confirms_on_classes_that_no_choice_has_seen() -> None:
    plan = read_plan(ROOT / "configs/study/matrix.yaml")
    configs = {name: cells_of(plan, name)[0].config for name in plan.settings}
    roles = {name: setting.role for name, setting in plan.settings.items()}
    seen = {
        (config.data.id, frozenset(config.data.hold_out))
        for name, config in configs.items()
        if roles[name] == "development"
    }
    new = [name for name, role in roles.items() if role == "confirmation"]
    assert len(plan.settings) >= 26
    assert len(new) >= 10
    for name in new:
        assert (configs[name].data.id, frozenset(configs[name].data.hold_out)) not in seen
    assert len({configs[name].data.id for name in plan.settings}) >= 11
    for config in configs.values():
        assert {"mahalanobis++", "rmd++", "weiper_kld"} <= set(config.bench.detectors)


def by_hand(setting: Setting, method: str, groups: tuple[str, ...]) -> float:
    """Mean over seeds of the mean over groups of the mean over sets."""
    over_seeds = []
    for seed in (0, 1):
        means = []
        for group in groups:
            rows = [r for r in setting.rows if (r["seed"], r["method"]) == (seed, method)]
            means.append(np.mean([r["auroc"] for r in rows if r["group"] == group]))
        over_seeds.append(np.mean(means))
    return 100 * float(np.mean(over_seeds))


def test_figures_are_those_of_the_rows(study: Study) -> None:
    one, two, far = study.settings
    assert study.near == [one, two]
    for method in ("nervecode", "energy"):
        assert one.mean(method) == pytest.approx(by_hand(one, method, ("near", "far")))
        assert one.mean(method, "shift") == pytest.approx(by_hand(one, method, ("shift",)))
        assert far.mean(method) == pytest.approx(by_hand(far, method, ("far",)))
        both = [by_hand(s, method, ("near", "far")) for s in (one, two)]
        assert study.average(method) == pytest.approx(np.mean(both))
    singles = ["energy", "mahalanobis", "knn", "msp"]
    assert sorted(one.baselines) == sorted(singles)
    assert one.best() == max(singles, key=lambda m: by_hand(one, m, ("near", "far")))


def test_the_lead_is_the_difference_with_an_interval_around_it(study: Study) -> None:
    for one in study.settings:
        lead = one.lead("energy")
        assert lead.mean == pytest.approx(one.mean("nervecode") - one.mean("energy"))
        assert lead.low < lead.mean < lead.high
    assert study.settings[0].lead("energy", "near").mean == pytest.approx(
        study.settings[0].ahead("energy", "near")
    )


def test_a_finished_cell_is_not_run_again(plan: Plan, runs: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()}
    run_all(plan.model_copy(update={"settings": {"one": plan.settings["one"]}}), runs)
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()} == before


def test_a_seed_that_repeats_another_narrows_no_interval(study: Study) -> None:
    one = study.settings[0]
    first = one.records[0]
    again = replace(first, seed=1, rows=[{**row, "seed": 1} for row in first.rows])
    alone, both = (replace(one, records=some) for some in ([first], [first, again]))
    assert len(both.scores["knn"]) == 2
    assert both.lead("knn") == alone.lead("knn")


def findings(plan: Plan, study: Study, failed: Mapping[str, str]) -> Findings:
    """Those of a matrix alone."""
    none = (plan.model_copy(update={"name": "none", "settings": {}}), Study([]))
    return Findings((plan, study), none, none, failed, {})


def test_the_page_says_what_the_results_say(plan: Plan, study: Study) -> None:
    text = page(findings(plan, study, {"lost": "no data"}))
    one = study.settings[0]
    saved = summarise(one.rows)
    shown = {(r["method"], r["group"]): r for r in saved}
    lines = text.split("## Appendix: near in every setting")[1].split("## ")[0].splitlines()
    header, cells = (
        next(line for line in lines if line.startswith(f"| {start} |")).strip("| ").split(" | ")
        for start in ("setting", "one")
    )
    figures = dict(zip(header, cells, strict=True))
    assert header[1] == "`nervecode`"
    for method in ("nervecode", "energy", "mahalanobis", "knn", "msp"):
        row = shown[method, "near"]
        cell = figures[f"`{method}`"].strip("*")
        assert cell == f"{100 * row['auroc_mean']:.2f}±{100 * row['auroc_std']:.2f}"
    assert sum(cell.startswith("**") for cell in cells[1:]) >= 1
    line = next(row for row in text.splitlines() if row.startswith("| one | development |"))
    assert f"{by_hand(one, 'nervecode', ('near', 'far')):.2f}±" in line
    ranked = next(row for row in text.splitlines() if row.startswith("| `knn` |"))
    assert f"| {study.average('knn'):.2f} | {study.average('knn', 'near'):.2f} |" in ranked
    for claim in claims(study):
        assert f"| {claim.text} | {claim.found} |" in text


def test_the_headline_is_the_top_of_the_ranking(plan: Plan, study: Study) -> None:
    lines = headline(plan, study, claims(study), 3).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    ranked = [row[0] for row in ranking(study).body if row[-2]]
    assert [row[0] for row in rows] == ranked[:3]
    for row in rows:
        name = row[0].strip("`")
        assert row[1] == f"{np.mean([one.mean(name) for one in study.near]):.2f}"
    assert any(line.startswith("| pictures | 2 |") for line in lines)


def test_the_headline_tells_the_losses_with_the_wins(plan: Plan) -> None:
    """An error of 0.5 points makes 2 points clear, and half a point not."""
    leads = {"won": 2, "even": 0.5, "lost": -2, "worse": -4}
    some = [
        made(name, "vehicle" if lead < -3 else "digits", role="confirmation",
             accuracy=[99.0] * 3,
             scores={"nervecode": [0.9] * 3, "energy": [0.9 - lead / 100] * 3, "knn": [0.5] * 3})
        for name, lead in leads.items()
    ]  # fmt: skip
    settings = {name: plan.settings["one"] for name in (*leads, "absent")}
    text = headline(plan.model_copy(update={"settings": settings}), Study(some), [
        Target("a", "", True), Target("b", "", False), Target("c", "", None),
    ])  # fmt: skip
    assert "4 of 5 settings have something near, and figures here, 3 of them on `digits`." in text
    assert (
        "clearly ahead in 1 (the 95 % interval over inputs is above 0), clearly behind in 2, "
        in text
    )
    assert "not told apart in 1; its figure is the higher in 2 of 4, of the confirmation " in text
    assert "settings in 2 of 4. Its lead on average is -0.88 points over `energy`" in text
    assert "1 of 3 targets are reached." in text
    assert "each kind: pictures 1 (`lost` -2.00 to `energy`); tables 1 (`worse` -4.00 to " in text


def test_every_section_is_in_the_contents(plan: Plan, study: Study) -> None:
    text = page(findings(plan, study, {}))
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    links = re.findall(r"^\* \[(.*)\]\(#(.*)\)$", text, re.MULTILINE)
    assert [title for title, _ in links] == titles
    assert titles[:2] == ["Targets", "Ranking over all settings"]
    assert ("Appendix: far, without near-OOD", "appendix-far-without-near-ood") in links
    inside = re.findall(r"\(#([^)]*)\)", text)
    assert set(inside) == {anchor for _, anchor in links}


def test_a_table_has_ten_columns_of_figures_at_most(plan: Plan, study: Study) -> None:
    scores = {f"{name}": [0.5 + place / 100] * 2 for place, name in enumerate(DETECTORS)}
    many = [made(name, "digits", scores={**scores, "nervecode": [0.6] * 2}) for name in "abc"]
    table = best_methods(Study(many), None)
    assert len(table.header) == 11
    assert table.header[:3] == ["setting", "`nervecode`", f"`{list(DETECTORS)[-1]}`"]
    assert (0, 2) in table.best
    assert (0, 3) in table.second


def test_the_readme_says_what_the_page_says() -> None:
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/results.md"))
    block = readme.partition("<!-- study -->\n")[2].partition("<!-- /study -->")[0]
    rows = [line.split(" | ")[:5] for line in block.splitlines() if line.startswith("| `")]
    shown = page.split("## Ranking over all settings")[1].splitlines()
    assert rows
    for row in rows:
        assert any(line.startswith(" | ".join(row)) for line in shown), row


def test_the_page_names_what_is_not_in_the_averages(plan: Plan, study: Study) -> None:
    text = page(findings(plan, study, {"lost": "no data"}))
    assert "| lost | the whole setting | no data |" in text
    assert "| by plan | `odin` | too slow |" in text
    assert "Nothing near is in far, so it counts in no average and in no rank." in text
    assert "## Appendix: far, without near-OOD" in text
    assert re.search(r"\| one \| digits \| 8, 9 \| small_cnn.*\| the first \|", text)
    main, _, appendix = text.partition("## Appendix: oracles")
    assert "oracle_" not in main
    assert appendix.count("| `oracle_ood_calibrated_combo_") == 4
    assert "| on tables, that is at least 1.5 points | not run yet | not known |" in main


def test_the_verdict_on_the_combination_names_the_best_row(plan: Plan, study: Study) -> None:
    text = page(findings(plan, study, {}))
    names = ["energy", "mahalanobis", "nervecode", "combo_id_zscore_equal"]
    names += [f"combo_id_zscore_equal_{pair}" for pair in ("E+M", "E+N", "M+N")]
    best = max(names, key=study.average)
    member = max(names[:3], key=study.average)
    worse = study.average("combo_id_zscore_equal") < study.average(member)
    verdict = "**worse than**" if worse else "at least as good as"
    lead = study.average("combo_id_zscore_equal") - study.average(member)
    said = f"is {verdict} its best member, `{member}`: {lead:+.2f}; the best row of this table is "
    said += f"`{best}`."
    assert said in text


def without(setting: Setting, method: str, seeds: tuple[int, ...]) -> Setting:
    """The setting as it would be, had a method failed for some seeds."""
    records = [
        replace(record, rows=[
            {**r, "status": "failed", "reason": "singular", "auroc": ""}
            if r["method"] == method and r["seed"] in seeds else r
            for r in record.rows
        ])
        for record in setting.records
    ]  # fmt: skip
    return replace(setting, records=records)


def test_a_baseline_that_failed_for_a_seed_is_still_a_rival(study: Study) -> None:
    one = study.settings[0]
    best = one.best()
    found = without(one, best, (1,))
    ours, theirs = one.seeds("nervecode"), one.seeds(best)
    assert found.ahead(best) == pytest.approx(ours[0] - theirs[0])
    assert found.lead(best).mean == pytest.approx(ours[0] - theirs[0])
    assert best in found.baselines
    assert best not in without(one, best, (0, 1)).baselines


def test_the_absence_of_a_baseline_never_helps(plan: Plan, study: Study) -> None:
    one, two, _ = study.settings
    best = study.best()
    kept, lost = sorted((one, two), key=lambda setting: setting.ahead(best))
    found = Study([kept, without(lost, best, (0, 1))])  # it failed where it was the weaker
    assert found.missing(best) == 1
    assert best not in found.complete
    assert best not in found.ranks().average
    assert best in found.rivals
    assert found.ahead(best).mean == pytest.approx(kept.ahead(best))
    assert found.ahead(found.best()).mean <= study.ahead(best).mean
    assert found.methods[-1] == best
    text = page(findings(plan, found, {}))
    assert f"| {lost.name} | `{best}` | singular |" in text
    assert re.search(rf"\| `{best}` .*\|  \| 1 of 2 \|", text)


def test_a_failing_setting_does_not_stop_the_others() -> None:
    def work(name: str) -> str:
        if name == "bad":
            raise NervecodeError("no such\n thing")
        return name.upper()

    assert attempt(["a", "bad", "b"], work) == ({"a": "A", "b": "B"}, {"bad": "no such thing"})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("preset: digits, role", "preset: digit, role", "settings.one: unknown preset 'digit'"),
        ("title: Small", "titel: Small", "title: Field required"),
        ("seeds: [0, 1]", "seeds: many", "seeds: Input should be"),
    ],
)
def test_a_bad_plan_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_plans_share_no_name_and_no_setting(plan: Plan) -> None:
    check_apart([plan, plan.model_copy(update={"name": "other", "settings": {}})])
    with pytest.raises(InputError, match="found two plans named 'small', allowed: one"):
        check_apart([plan, plan.model_copy(update={"settings": {}})])
    with pytest.raises(InputError, match=r"found a setting '(one|two|far)' in small and other"):
        check_apart([plan, plan.model_copy(update={"name": "other"})])


def test_a_role_leaves_the_other_out_and_side_plans_whole(plan: Plan) -> None:
    assert list(with_role(plan, "development").settings) == ["one"]
    assert list(with_role(plan, "confirmation").settings) == ["two", "far"]
    assert with_role(plan, None) == plan
    side = read_plan(ROOT / "configs/study/ablations.yaml")
    assert with_role(side, "development") == side


@pytest.mark.parametrize(
    ("detectors", "options", "note", "words"),
    [
        ("energy, knn", "{}", "", ""),
        ("energy, knn", "{}", "small", "small"),
        ("energy, knn", "{knn: {k: 5}, weiper_kld: {distance: 2.4}}", "", "`knn` with k = 5"),
        ("weiper_kld, knn", "{knn: {k: 5, normalise: true}, weiper_kld: {distance: 2.4}}", "small",
         "`knn` with k = 5, normalise = True; `weiper_kld` with distance = 2.4; small"),
    ],
)  # fmt: skip
def test_the_page_tells_hyperparameters_that_are_not_the_usual_ones(
    detectors: str, options: str, note: str, words: str
) -> None:
    given = ["bench.detectors=[energy, knn, weiper_kld]", f"bench.options={options}"]
    config = made("a", "digits", *given).config
    bench = config.bench.model_copy(update={"detectors": tuple(detectors.split(", "))})
    config = config.model_copy(update={"bench": bench})  # as of a file for more detectors
    setting = replace(made("a", "digits"), config=config, note=note)
    assert setting.remarks == words
    assert settings([setting]).body[0][-1] == words


def test_settings_that_have_another_signal_say_so() -> None:
    signal = "signals.nervecode={rank: 384, reduce: max}"
    options = "bench.options={knn: {k: 5}}"
    setting = replace(made("a", "digits", signal, options, "bench.detectors=[knn]"), note="small")
    told = "`nervecode` with reduce = max, rank = 384; `knn` with k = 5; small"
    assert setting.remarks == told
    plan = read_plan(ROOT / "configs/study/matrix.yaml")
    remarks = {n: Setting(n, "x", config_of(plan, n), ()).remarks for n in plan.settings}
    others = {name: words for name, words in remarks.items() if "`nervecode`" in words}
    assert others == {"transfer_fortunes": "`nervecode` with rank = 384"}


def test_the_page_counts_cells_whose_code_no_commit_holds() -> None:
    one, two = made("a", "digits"), made("b", "digits_mlp")
    assert "0 of 4 cells are of code with changes that no" in settings([one, two]).caption
    commits = ["0123456789-dirty", ""]
    changed = [replace(r, commit=c) for r, c in zip(two.records, commits, strict=True)]
    table = settings([one, replace(two, records=changed)])
    assert "2 of 4 cells are of code with changes that no" in table.caption
    assert [row[-2] for row in table.body] == ["0123456789", "0123456789-dirty, -"]
    assert (
        "this page: `0123456789` 2 cells, `0123456789-dirty` 1 cells, `-` 1 cells." in table.caption
    )
    late = [
        replace(r, commit="0000000000", finished="2026-02-03T10:00:00+01:00") for r in one.records
    ]
    caption = settings([replace(one, records=late), two]).caption
    assert "The last cell was scored at 2026-02-03T10:00 with `0000000000`;" in caption


def test_trainings_of_one_task_share_a_row() -> None:
    plain, other = (
        made(f"digits.{name}", "digits", f"train.loss={loss}", accuracy=[accuracy])
        for name, loss, accuracy in (
            ("plain", "cross_entropy", 98.0),
            ("smooth", "label_smoothing", 97.0),
        )
    )
    rows = settings([plain], [plain, other]).body
    assert [row[0] for row in rows] == ["digits.plain", "digits, 2 trainings"]
    assert rows[1][4] == "97.00 to 98.00 (gate 97)"


def test_the_oracle_sees_what_no_single_score_shows() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=(600, 1))
    inside = np.hstack([shared, shared]) + random.normal(0, 0.1, size=(600, 2))
    outside = random.permutation(inside) + np.array([0.3, -0.3])
    assert oracle_auroc(inside, outside) > 0.95
    same = oracle_auroc(inside[:300], inside[300:])
    assert abs(same - 0.5) < 0.1  # cross-fitted, it finds nothing where there is nothing


def test_the_plans_of_the_repository_resolve() -> None:
    for name in ("matrix", "ablations"):
        found = read_plan(ROOT / f"configs/study/{name}.yaml")
        assert found.seeds == (0, 1, 2)
        assert found.settings
