"""scripts/bench_scoring.py: what its works do, counted in forward passes of the network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nervecode.lab.config.resolve import resolve
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.checkpoint import load_calibrated
from tests.lab.stages.test_bench import bench

ROOT = Path(__file__).resolve().parents[2]
OVERRIDES = (
    "bench.detectors=[msp, energy, mahalanobis, knn, gram]", "bench.limit_eval=20",
    "bench.accuracy_gate=0", "model.width=8", "train.epochs=1", "data.far=[]", "data.shift=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    config = resolve(
        preset="digits", overrides=OVERRIDES, settings={"name": "one", "seeds": [0]}
    ).config
    return bench(config, tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import bench_scoring

    yield bench_scoring
    sys.modules.pop("bench_scoring", None)


@pytest.mark.slow
def test_scoring_is_one_pass_and_one_by_one_is_a_pass_a_method(
    script: ModuleType, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def counted(*args: object, **options: object) -> object:
        trained = load_calibrated(*args, **options)  # type: ignore[arg-type]
        trained.model.register_forward_pre_hook(lambda *_: passes.append(1))
        return trained

    monkeypatch.setattr(script, "load_calibrated", counted)
    works, count, inputs = script.works(run, 0, 40)
    assert (count, inputs) == (4, 40)  # gram runs the network again, and is left out
    found = {}
    for name, work in works.items():
        passes.clear()
        work()
        found[name] = len(passes)
    alone = {"forward": 1, "one pass": 1, "arithmetic": 0}
    assert found == {**alone, "score": 1, "one by one": count}
    assert script.works(run, 0, 10_000)[2] == 289  # as many as there are, and not as asked for


@pytest.mark.slow
def test_it_prints_both_ratios_of_what_it_measured(
    script: ModuleType,
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["bench_scoring.py", str(run.root), "--inputs", "40", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--threads", "1"])
    seconds = {"forward": 2.0, "one pass": 2.5, "arithmetic": 1.0, "score": 3.5, "one by one": 28.0}
    monkeypatch.setattr(script, "medians", lambda works, rounds: seconds)
    script.main()
    out = capsys.readouterr().out
    assert re.search(r"^one, 40 inputs, 4 methods, 1 threads$", out, re.M)
    assert "over a bare one: 1.25 (target: under 1.3)" in out
    assert "one by one over score: 8.0 (target: at least 5)" in out
