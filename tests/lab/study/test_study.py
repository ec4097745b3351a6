"""The study: plans, settings that are resumed or fail, and a page that says what the rows say."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.rows import summarise
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.bench import guarded, prepare, run_bench
from nervecode.lab.study.claims import claims
from nervecode.lab.study.oracle import oracle_auroc
from nervecode.lab.study.plan import Plan, cells_of, read_plan
from nervecode.lab.study.results import headline, page, ranking
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study, attempt, finished, run_cells_of
from nervecode.lab.sweep.cells import read_sweep
from nervecode.lab.sweep.launchers import LAUNCHERS, Pool, Task

ROOT = Path(__file__).resolve().parents[3]
SMALL = """
title: Small
seeds: [0, 1]
excluded: {odin: too slow}
overrides:
  - bench.detectors=[energy, mahalanobis, knn, msp]
  - bench.limit_eval=30
  - bench.accuracy_gate=0
  - model.width=8
  - train.epochs=1
  - data.far=[uniform_noise]
  - data.shift=[hflip]
settings:
  one: {preset: digits, role: development, note: the first}
  two: {preset: digits, overrides: ["data.hold_out=[0, 5]"]}
  far: {preset: digits, overrides: ["data.hold_out=[]", "data.near=[]"]}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "small.yaml"
    path.write_text(SMALL)
    return read_plan(path)


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


def here(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """A launcher that starts no process."""
    for task in tasks:
        cell = read_sweep(pool.folder).cell(task.id)
        name = cell.root(pool.folder).name
        run = RunDir.create(cell.config, pool.folder, command="x", name=name)
        with guarded(run):
            run_bench(run, prepare(cell.config), progress=Progress())
        yield task, 0


def run_all(plan: Plan, outdir: Path) -> None:
    cells = [cell for name in plan.settings for cell in cells_of(plan, name)]
    run_cells_of(cells, outdir, command="x", progress=Progress(), launcher=here)


@pytest.fixture(scope="module")
def runs(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("study")
    run_all(plan, outdir)
    return outdir


@pytest.fixture(scope="module")
def study(plan: Plan, runs: Path) -> Study:
    return Study([finished(plan, name, runs, command="x") for name in plan.settings])


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
        found = one.lead("energy")
        assert found.mean == pytest.approx(one.mean("nervecode") - one.mean("energy"), abs=1e-4)
        assert found.low <= found.mean <= found.high


def test_a_finished_cell_is_not_run_again(plan: Plan, runs: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()}
    run_all(plan.model_copy(update={"settings": {"one": plan.settings["one"]}}), runs)
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()} == before


def test_a_seed_that_repeats_another_narrows_no_interval(study: Study) -> None:
    one = study.settings[0]
    paths = SimpleNamespace(scores=lambda seed, split: one.runs[0].paths.scores(0, split))
    again = dict.fromkeys((0, 1), SimpleNamespace(paths=paths, arrays=one.runs[0].arrays))
    first = [row for row in one.rows if row["seed"] == 0]
    twice = [*first, *[{**row, "seed": 1} for row in first]]
    alone, both = (Setting("one", "", again, rows).lead("knn") for rows in (first, twice))  # type: ignore[arg-type]
    assert len(Setting("one", "", again, twice).scores["knn"]) == 2  # type: ignore[arg-type]
    assert both == alone


def test_the_page_says_what_the_results_say(plan: Plan, study: Study) -> None:
    text = page(plan, study, Study([]), {"lost": "no data"})
    one = study.settings[0]
    saved = summarise(one.rows)
    shown = {(r["method"], r["group"]): r for r in saved}
    lines = text.split("## Every method: near")[1].split("## ")[0].splitlines()
    for method in ("nervecode", "energy", "mahalanobis", "knn", "msp"):
        cell = next(line for line in lines if line.startswith(f"| `{method}` |")).split(" | ")[1]
        row = shown[method, "near"]
        assert cell == f"{100 * row['auroc_mean']:.2f}±{100 * row['auroc_std']:.2f}"
    line = next(row for row in text.splitlines() if row.startswith("| one | development |"))
    assert f"{by_hand(one, 'nervecode', ('near', 'far')):.2f}±" in line
    ranked = next(row for row in text.splitlines() if row.startswith("| `knn` |"))
    assert f"| {study.average('knn'):.2f} | {study.average('knn', 'near'):.2f} |" in ranked
    for claim in claims(study, Study([])):
        assert f"| {claim.text} | {claim.found} |" in text


def test_the_headline_is_the_top_of_the_ranking(study: Study) -> None:
    table = headline(study, 3)
    ranked = [row[0] for row in ranking(study).body if row[-2]]
    assert [row[0] for row in table.body] == ranked[:3]
    for row in table.body:
        name = row[0].strip("`")
        assert row[1] == f"{np.mean([one.mean(name) for one in study.near]):.2f}"


def test_the_readme_says_what_the_page_says() -> None:
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/results.md"))
    block = readme.partition("<!-- study -->\n")[2].partition("<!-- /study -->")[0]
    rows = [line.split(" | ")[:5] for line in block.splitlines() if line.startswith("| `")]
    shown = page.split("## Ranking over all settings")[1].splitlines()
    assert rows
    for row in rows:
        assert any(line.startswith(" | ".join(row)) for line in shown), row


def test_a_page_without_marks_is_left_alone(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("words\n<!-- study -->\nold\n<!-- /study -->\nmore\n")
    script.fill(page, "new\n")
    assert page.read_text() == "words\n<!-- study -->\nnew\n<!-- /study -->\nmore\n"
    page.write_text("words\n<!-- /study -->\n<!-- study -->\n")
    with pytest.raises(ArtifactError, match="in this order"):
        script.fill(page, "new\n")


def test_the_page_names_what_is_not_in_the_averages(plan: Plan, study: Study) -> None:
    text = page(plan, study, Study([]), {"lost": "no data"})
    assert "| lost | the whole setting | no data |" in text
    assert "| by plan | `odin` | too slow |" in text
    assert "Nothing near is in far, so it counts in no average and in no rank." in text
    assert "## far: without near-OOD" in text
    assert re.search(r"\| one \| digits \| 8, 9 \| small_cnn.*\| the first \|", text)
    main, _, appendix = text.partition("## Appendix: oracles")
    assert "oracle_" not in main
    assert appendix.count("| `oracle_ood_calibrated_combo_") == 4
    assert "| recipe v0_1_1" in main  # a target that nothing was run for
    assert "not run yet | not known |" in main


def test_the_verdict_on_the_combination_names_the_best_row(plan: Plan, study: Study) -> None:
    text = page(plan, study, Study([]), {})
    names = ["energy", "mahalanobis", "nervecode", "combo_id_zscore_equal"]
    names += [f"combo_id_zscore_equal_{pair}" for pair in ("E+M", "E+N", "M+N")]
    best = max(names, key=study.average)
    member = max(names[:3], key=study.average)
    worse = study.average("combo_id_zscore_equal") < study.average(member)
    verdict = "**worse than**" if worse else "at least as good as"
    said = f"is {verdict} its best member, `{member}`; the best row of this table is `{best}`."
    assert said in text


def test_claims_follow_the_figures(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(nervecode: float) -> list[bool | None]:
        def seeds(self: Setting, method: str, group: str | None = None) -> dict[int, float]:
            return dict.fromkeys((0, 1), nervecode if method == "nervecode" else 90.0)

        monkeypatch.setattr(Setting, "seeds", seeds)
        return [claim.reached for claim in claims(study, Study([]))]

    unknown = [None, None, None]
    assert verdicts(92.0) == [True, True, True, True, True, False, *unknown]
    assert verdicts(91.0) == [True, False, True, True, True, False, *unknown]
    assert verdicts(89.5) == [False, False, False, True, False, True, *unknown]
    assert verdicts(88.0) == [False, False, False, False, False, True, *unknown]


def without(setting: Setting, method: str, seeds: tuple[int, ...]) -> Setting:
    """The setting as it would be, had a method failed for some seeds."""
    rows = [
        {**r, "status": "failed", "reason": "singular", "auroc": ""}
        if r["method"] == method and r["seed"] in seeds else r
        for r in setting.rows
    ]  # fmt: skip
    return Setting(setting.name, setting.role, setting.runs, rows)


def test_a_baseline_that_failed_for_a_seed_is_still_a_rival(study: Study) -> None:
    one = study.settings[0]
    best = one.best()
    found = without(one, best, (1,))
    ours, theirs = one.seeds("nervecode"), one.seeds(best)
    assert found.ahead(best) == pytest.approx(ours[0] - theirs[0])
    assert found.lead(best).mean == pytest.approx(ours[0] - theirs[0], abs=1e-4)
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
    text = page(plan, found, Study([]), {})
    assert f"| {lost.name} | `{best}` | singular |" in text
    assert re.search(rf"\| `{best}` .*\|  \| 1 of 2 \|", text)


def test_a_setting_whose_cells_are_not_done_is_not_read(
    plan: Plan, runs: Path, tmp_path: Path
) -> None:
    longer = plan.model_copy(update={"seeds": (0, 1, 2)})
    with pytest.raises(ArtifactError, match="seed 2 is waiting; `x --only one` runs it"):
        finished(longer, "one", runs, command="x")
    cell = cells_of(plan, "one")[0]
    copy = shutil.copytree(cell.root(runs), cell.root(tmp_path))
    (copy / "tables.md").write_text("changed")
    with pytest.raises(
        ArtifactError, match=r"seed 0 is damaged \(tables.md is changed\); `x --only"
    ):
        finished(plan, "one", tmp_path, command="x")


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


def test_the_oracle_sees_what_no_single_score_shows() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=(600, 1))
    inside = np.hstack([shared, shared]) + random.normal(0, 0.1, size=(600, 2))
    outside = random.permutation(inside) + np.array([0.3, -0.3])
    assert oracle_auroc(inside, outside) > 0.95
    same = oracle_auroc(inside[:300], inside[300:])
    assert abs(same - 0.5) < 0.1  # cross-fitted, it finds nothing where there is nothing


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import study

    yield study
    sys.modules.pop("study", None)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Arguments that name a plan with one setting that cannot succeed, and an empty one."""
    plan, side = tmp_path / "plan.yaml", tmp_path / "side.yaml"
    plan.write_text(SMALL + "  lost: {preset: digits, overrides: [bench.accuracy_gate=1]}\n")
    side.write_text("title: none\nsettings: {}\n")
    page = tmp_path / "docs" / "results.md"
    return ["study.py", "--plan", str(plan), "--ablations", str(side), "--page", str(page)]


def test_the_script_makes_the_page_from_what_is_finished(
    script: ModuleType, runs: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [*files, "--outdir", str(runs), "--report-only"])
    assert script.main() == 1  # a setting is missing
    page = Path(files[-1])
    assert "| lost | the whole setting | seed 0 is waiting;" in page.read_text()
    assert "**The matrix is not complete, and no verdict is final; not in it: lost.**" in (
        page.read_text()
    )
    assert (page.parent / "images/critical_difference.png").stat().st_size > 5000


def test_the_script_runs_resumes_and_shows_a_failure(
    script: ModuleType,
    runs: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outdir = tmp_path / "out"
    call = [*files, "--outdir", str(outdir), "--runs", str(runs), "--seeds", "1"]
    monkeypatch.setitem(LAUNCHERS, "local", here)
    monkeypatch.setattr(sys, "argv", [*call, "--only", "one", "lost", "two"])
    assert script.main() == 1
    text = Path(files[-1]).read_text()
    assert capsys.readouterr().out == text
    assert "a figure the mean over seeds 1 ±" in text
    assert "| lost | the whole setting | accuracy gate not passed:" in text
    assert "| far | the whole setting | seed 1 is waiting;" in text
    assert str(tmp_path) not in text
    made = sorted(outdir.rglob("*.safetensors"))
    assert len([path for path in made if path.parent.name == "checkpoints"]) == 3
    times = {path: path.stat().st_mtime_ns for path in made}
    monkeypatch.setattr(sys, "argv", call)
    assert script.main() == 1  # resumed: `far` is new, the others stand
    assert {path: path.stat().st_mtime_ns for path in made} == times
    assert "## far: without near-OOD" in Path(files[-1]).read_text()


def test_the_script_refuses_an_unknown_setting_and_an_empty_folder(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["study.py", "--only", "digit"])
    with pytest.raises(InputError, match="--only: unknown setting 'digit'; did you mean 'digits'"):
        script.main()
    monkeypatch.setattr(sys, "argv", ["study.py", "--report-only", "--outdir", str(tmp_path)])
    with pytest.raises(ArtifactError, match="fewer than two settings"):
        script.main()


def test_the_plans_of_the_repository_resolve() -> None:
    for name in ("matrix", "ablations"):
        found = read_plan(ROOT / f"configs/study/{name}.yaml")
        assert found.seeds == (0, 1, 2)
        assert found.settings
