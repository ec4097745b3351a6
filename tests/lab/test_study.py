"""The study: plans, settings that are resumed or fail, and a page that says what the rows say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.lab.oracle import oracle_auroc
from nervecode.lab.progress import Progress
from nervecode.lab.results import page
from nervecode.lab.study import Plan, Setting, Study, attempt, latest, read_plan, run_setting

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
title: Small
seeds: [0, 1]
overrides:
  - bench.detectors=[energy, mahalanobis, knn, msp]
  - bench.limit_eval=30
  - bench.accuracy_gate=0
  - model.width=8
  - train.epochs=1
  - data.far=[uniform_noise]
  - data.shift=[hflip]
settings:
  one: {preset: digits, role: development}
  two: {preset: digits, overrides: ["data.hold_out=[0, 5]"]}
  far: {preset: digits, overrides: ["data.hold_out=[]", "data.near=[]"]}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "small.yaml"
    path.write_text(SMALL)
    return read_plan(path)


@pytest.fixture(scope="module")
def runs(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("study")
    for name in plan.settings:
        run_setting(plan, name, outdir, command="x", progress=Progress())
    return outdir


@pytest.fixture(scope="module")
def study(plan: Plan, runs: Path) -> Study:
    found = []
    for name, cell in plan.settings.items():
        run = latest(runs, name)
        assert run is not None
        found.append(Setting.of(name, cell.role, run))
    return Study(found)


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


def test_a_finished_setting_is_not_run_again(plan: Plan, runs: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*.safetensors")}
    again = run_setting(plan, "one", runs, command="x", progress=Progress())
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*.safetensors")} == before
    assert len([p for p in runs.iterdir() if p.name.startswith("one-")]) == 1
    assert again.root.parent == runs


def test_the_page_says_what_the_rows_say(plan: Plan, study: Study) -> None:
    text = page(plan, study, Study([]), {"lost": "no data"})
    one = study.settings[0]
    line = next(row for row in text.splitlines() if row.startswith("| one |"))
    assert f"{by_hand(one, 'nervecode', ('near', 'far')):.2f}±" in line
    ranked = next(row for row in text.splitlines() if row.startswith("| `knn` |"))
    assert f"| {study.average('knn'):.2f} | {study.average('knn', 'near'):.2f} |" in ranked
    assert "| lost | the whole setting | no data |" in text
    assert "far: without near-OOD" in text
    assert "| development | 1 |" in text
    for claim in study.claims():
        assert claim.text in text
        assert claim.found in text


def test_claims_follow_the_figures(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(nervecode: float) -> list[bool]:
        def mean(self: Setting, method: str, group: str | None = None) -> float:
            return nervecode if method == "nervecode" else 90.0

        monkeypatch.setattr(Setting, "mean", mean)
        return [claim.reached for claim in study.claims()]

    assert verdicts(92.0) == [True, True, True, True, True, False]
    assert verdicts(91.0) == [True, False, True, True, True, False]
    assert verdicts(89.5) == [False, False, False, True, False, True]
    assert verdicts(88.0) == [False, False, False, False, False, True]


def test_a_baseline_that_failed_somewhere_is_no_rival_and_is_shown(
    plan: Plan, study: Study
) -> None:
    one, two, _ = study.settings
    rows = [
        {**r, "status": "failed", "reason": "singular", "auroc": ""}
        if r["method"] == "knn" and r["seed"] == 1 else r
        for r in two.rows
    ]  # fmt: skip
    found = Study([one, Setting("two", two.role, two.run, rows)])
    assert "knn" not in found.baselines
    assert found.missing("knn") == 1
    assert found.average("knn") == pytest.approx(one.mean("knn"))
    assert found.methods[-1] == "knn"
    text = page(plan, found, Study([]), {})
    assert "| two | `knn` | singular |" in text
    assert re.search(r"\| `knn` .*\| 1 of 2 \|", text)


def test_a_failing_setting_does_not_stop_the_others() -> None:
    def work(name: str) -> Setting:
        if name == "bad":
            raise NervecodeError("no such\n thing")
        return name  # type: ignore[return-value]

    assert attempt(["a", "bad", "b"], work) == (["a", "b"], {"bad": "no such thing"})


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


def test_the_script_makes_the_page_from_what_is_finished(
    script: ModuleType, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, side = tmp_path / "plan.yaml", tmp_path / "side.yaml"
    plan.write_text(SMALL + "  lost: digits\n")
    side.write_text("title: none\nsettings: {}\n")
    text = tmp_path / "docs" / "results.md"
    arguments = ["study.py", "--plan", plan, "--ablations", side, "--outdir", runs]
    arguments += ["--report-only", "--page", text]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    assert script.main() == 1  # a setting is missing
    assert "| lost | the whole setting | not run to its end yet;" in text.read_text()
    assert (text.parent / "images/critical_difference.png").stat().st_size > 5000


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
