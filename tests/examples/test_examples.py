"""The examples run as they stand and mean what they say; one has a process of its own."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[[str], str]
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

EXPECTED = {
    "guardrail.py", "ood_smoke_test.py", "quickstart.py", "quickstart_cnn.py", "quickstart_mlp.py",
    "texts.py", "three_lines.py",
}  # fmt: skip

# What the quickstart leaves behind, as seen by a reader who goes on from its last line.
PROBE = """
import json, runpy, sys
v = runpy.run_path(sys.argv[1])
wrapped, scores = v["wrapped"], v["scores"]
print(json.dumps({
    "logits": list(v["logits"].shape),
    "same": bool((v["logits"] == v["model"](v["x"])).all()),
    "gradients": [p.grad is not None for p in wrapped.parameters()],
    "scores": scores.tolist(),
    "layers": v["agg"].layers,
    "method": v["state"].aggregation,
    "threshold": v["thr"],
    "flagged": v["calib"].is_ood(scores).float().mean().item(),
}))
"""


def program_in_a_process(*arguments: str, cwd: Path) -> str:
    """What `python ARGUMENTS` prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    """What an example prints that is run here, in an empty folder: torch is loaded already."""
    monkeypatch.chdir(tmp_path)

    def printed(name: str) -> str:
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return printed


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == EXPECTED


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    printed = program_in_a_process("-c", PROBE, str(EXAMPLES / "quickstart.py"), cwd=tmp_path)
    told, last = printed.splitlines()
    found = json.loads(last)
    assert told.startswith(f"a score of more than {found['threshold']:.3f} is unusual, as 3 of 64")
    assert found["logits"] == [64, 2]
    assert found["same"]
    assert all(found["gradients"])  # the coding loss reaches model and codebooks
    assert found["layers"] == ["0", "2"]
    assert found["method"] == "mean"
    assert len(found["scores"]) == 64
    assert found["threshold"] == pytest.approx(sorted(found["scores"])[60], rel=1e-6)
    assert found["flagged"] <= 0.05
    assert list(tmp_path.iterdir()) == []


def test_three_lines(program: Program) -> None:
    lines = program("three_lines.py").splitlines()
    rows = {name: (float(a), float(b)) for name, a, b in map(parse, lines[1:])}
    known = rows.pop("digits 0 to 7, unseen")
    assert 35 < known[0] < 65  # exchangeable with the calibration split
    assert known[1] < 10
    assert set(rows) == {"digits 8 and 9", "digits 0 to 7, mirrored", "noise"}
    for median, flagged in rows.values():
        assert median > 90
        assert flagged > 40


def parse(line: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"(.+?) +\d+ +([\d.]+)% +([\d.]+)%", line)
    assert found, line
    return found[1], found[2], found[3]


@pytest.mark.slow
def test_guardrail(program: Program) -> None:
    *lines, last = program("guardrail.py").splitlines()
    events = [json.loads(line) for line in lines]
    alarms = [event["alarm"] for event in events if "alarm" in event]
    assert len(alarms) == 1
    at, since = (int(found) for found in re.findall(r"input (\d+)", alarms[0]))
    assert 200 < at < 390 and 150 < since < 240
    flagged = [event["flagged"] for event in events if "flagged" in event]
    assert sum(number > 200 for number in flagged) > sum(number <= 200 for number in flagged)
    assert last.startswith("393 requests; layers that changed:")


def shares(printed: str) -> list[float]:
    """The percentages that a program prints."""
    return [float(share) for share in re.findall(r"([\d.]+)%", printed)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart_mlp.py", "quickstart_cnn.py"])
def test_the_quickstarts_flag_what_is_strange(name: str, program: Program) -> None:
    known, strange = shares(program(name))[-2:]
    assert known < 10
    assert strange > 90


def test_the_smoke_test_has_the_shares_of_two_normals(program: Program) -> None:
    known, strange = shares(program("ood_smoke_test.py"))
    assert known == pytest.approx(5, abs=2)
    assert strange == pytest.approx(80.4, abs=6)  # P(N(2.5, 1) > 1.645)
