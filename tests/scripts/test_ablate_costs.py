"""scripts/ablate_costs.py: what it takes turns with, and that a file keeps its other rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nervecode.lab.config.resolve import resolve
from nervecode.lab.schema import Config, SignalConfig
from nervecode.lab.study.costs import Cost, identity, read_costs, write_costs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import ablate_costs

    yield ablate_costs
    sys.modules.pop("ablate_costs", None)


def small(*overrides: str) -> Config:
    return resolve(preset="digits", overrides=["model.width=8", *overrides]).config


def test_every_signal_has_a_cost_and_leaves_the_model_alone(script: ModuleType) -> None:
    config = small("signals.nervecode_by_mean={aggregation: mean}")
    costs = script.measured(config, rounds=1)
    assert {cost.config for cost in costs.values()} == {identity(config)}
    assert list(costs) == ["nervecode", "nervecode_v0_1_1", "nervecode_by_mean"]
    assert [cost.fit is None for cost in costs.values()] == [False, True, False]
    assert all(cost.score > 0.2 for cost in costs.values())
    assert costs["nervecode"].fit > 0.2


def test_a_fit_is_told_what_the_signal_says(script: ModuleType) -> None:
    options = script.fit_options(SignalConfig(rank=16, reduce="max", label_code=False))
    assert options["rank"] == 16
    assert options["reduce"] == "max"
    assert options["label_code"] is False
    assert "layers" not in options


def test_a_ratio_is_that_of_the_medians(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, calls = [0.0], [0, 0]
    monkeypatch.setattr(script.time, "process_time", lambda: now[0])

    def ours() -> None:
        now[0] += [100, 3, 9, 3][calls[0]]  # the first is a warm-up
        calls[0] += 1

    def theirs() -> None:
        now[0] += [100, 2, 2, 50][calls[1]]
        calls[1] += 1

    assert script.ratio(ours, theirs, 3) == 1.5
    assert calls == [4, 4]


def test_other_settings_keep_their_rows(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.csv"
    other, new = Cost("x", 2, 3), Cost("x", 1.5, 1.25)
    write_costs(path, {("ablation_digits", "gone"): other, ("else", "nervecode"): other})
    monkeypatch.setattr(script, "measured", lambda config, rounds: {"nervecode": new})
    call = ["ablate_costs.py", "--only", "ablation_digits", "--costs", str(path)]
    monkeypatch.setattr(sys, "argv", call)
    script.main()
    assert read_costs(path) == {
        ("else", "nervecode"): other,
        ("ablation_digits", "nervecode"): new,
    }
