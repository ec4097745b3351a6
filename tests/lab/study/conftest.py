"""The small plan, run once for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nervecode.lab.study.collect import collect
from nervecode.lab.study.plan import Plan, read_plan
from nervecode.lab.study.study import Study
from tests.lab.study.small import SMALL, run_all

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="package")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "small.yaml"
    path.write_text(SMALL)
    return read_plan(path)


@pytest.fixture(scope="package")
def runs(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("study")
    run_all(plan, outdir)
    return outdir


@pytest.fixture(scope="package")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the rows, filled by `study`."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="package")
def study(plan: Plan, runs: Path, rows: Path) -> Study:
    return Study([collect(plan, name, runs, rows, command="x") for name in plan.settings])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import study

    yield study
    sys.modules.pop("study", None)
