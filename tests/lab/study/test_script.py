"""The script of the study: rows as cells end, the page from them, what it refuses."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.machine.interrupt import forget
from nervecode.lab.study.records import read_records
from nervecode.lab.sweep.launchers import LAUNCHERS
from tests.lab.study.small import SMALL, here


def test_a_page_without_marks_is_left_alone(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("words\n<!-- study -->\nold\n<!-- /study -->\nmore\n")
    script.fill(page, "new\n")
    assert page.read_text() == "words\n<!-- study -->\nnew\n<!-- /study -->\nmore\n"
    page.write_text("words\n<!-- /study -->\n<!-- study -->\n")
    with pytest.raises(ArtifactError, match="in this order"):
        script.fill(page, "new\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{cwd}/data/a.txt, {cwd}/runs/b/c.json", "data/a.txt, b/c.json"),
        ("{cwd}/of two words/a.txt", "of two words/a.txt"),
        ("| list:/disk/lists/cifar10/train.txt | x |", "| list:cifar10/train.txt | x |"),
        ("(/usr/lib/a.so: lost; see `/disk/a`)", "(lib/a.so: lost; see `disk/a`)"),
        ("data/a/b.txt", "data/a/b.txt"),
        ("https://arxiv.org/abs/2306.09301", "https://arxiv.org/abs/2306.09301"),
        ("50 / 27 / 27, near/far/shift <!-- /study -->", None),
    ],
)
def test_a_page_names_no_folder_of_the_machine(
    text: str, told: str | None, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = (Path("runs"), Path("."), Path("/"))
    assert script.without_folders(text.format(cwd=tmp_path), known) == (told or text)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Arguments that name a plan with one setting that cannot succeed, and two empty ones."""
    plan, side, trained = (tmp_path / f"{name}.yaml" for name in ("plan", "side", "trained"))
    plan.write_text(SMALL + "  lost: {preset: digits, overrides: [bench.accuracy_gate=1]}\n")
    for empty in (side, trained):
        empty.write_text("title: none\nsettings: {}\n")
    page = tmp_path / "docs" / "results.md"
    plans = ["--plan", str(plan), "--ablations", str(side), "--trained", str(trained)]
    return ["study.py", *plans, "--page", str(page)]


@pytest.mark.slow
def test_the_script_makes_the_page_from_runs_or_from_their_rows(
    script: ModuleType,
    runs: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Path(files[-1])
    monkeypatch.setattr(sys, "argv", [*files, "--outdir", str(runs), "--report-only"])
    assert script.main() == 1  # a setting is missing
    text = page.read_text()
    assert (
        "| lost | the whole setting | seed 0, 1: waiting; `python scripts/study.py --only lost` "
        "runs it |" in text
    )
    assert (
        "**The matrix is not complete, and no verdict on it is final; not in it, or without" in text
    )
    assert (page.parent / "results/critical_difference.png").stat().st_size > 5000
    rows = page.parent / "results" / "plan"
    assert sorted(path.name for path in rows.iterdir()) == ["far.csv", "one.csv", "two.csv"]
    written = {path: path.stat().st_mtime_ns for path in rows.iterdir()}
    page.unlink()
    monkeypatch.setattr(sys, "argv", [*files, "--outdir", str(tmp_path / "no"), "--report-only"])
    assert script.main() == 1
    assert page.read_text() == text  # from the rows alone, as in a clone
    assert {path: path.stat().st_mtime_ns for path in rows.iterdir()} == written


@pytest.mark.slow
def test_a_cell_with_rows_is_not_run_again(
    script: ModuleType,
    runs: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [*files, "--outdir", str(runs), "--report-only"])
    script.main()
    monkeypatch.setitem(LAUNCHERS, "local", here)
    outdir = tmp_path / "elsewhere"
    monkeypatch.setattr(sys, "argv", [*files, "--outdir", str(outdir)])
    assert script.main() == 1
    assert sorted({path.name.partition("-")[0] for path in outdir.glob("*-*")}) == ["lost"]


@pytest.mark.slow
def test_rows_are_written_as_each_cell_ends(
    script: ModuleType,
    runs: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed after the second cell, a study has left the rows of the first two."""
    rows = Path(files[-1]).parent / "results" / "plan"
    seen: list[list[str]] = []

    def killed(tasks: object, pool: object) -> Iterator[object]:
        for task in here(tasks, pool):  # type: ignore[arg-type]
            seen.append(sorted(path.name for path in rows.glob("*")))
            if len(seen) == 3:
                raise KeyboardInterrupt
            yield task

    monkeypatch.setitem(LAUNCHERS, "local", killed)  # type: ignore[arg-type]
    call = [*files, "--outdir", str(tmp_path / "out"), "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", [*call, "--seeds", "0"])
    with pytest.raises(KeyboardInterrupt):
        script.main()
    assert seen == [[], ["one.csv"], ["one.csv", "two.csv"]]
    assert [record.seed for record in read_records(rows / "one.csv")] == [0]


@pytest.mark.slow
def test_the_script_runs_resumes_and_shows_a_failure(
    script: ModuleType,
    runs: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outdir, page = tmp_path / "out", Path(files[-1])
    call = [*files, "--outdir", str(outdir), "--runs", str(runs), "--seeds", "1"]
    monkeypatch.setitem(LAUNCHERS, "local", here)
    monkeypatch.setattr(sys, "argv", [*call, "--only", "one", "lost", "two"])
    assert script.main() == 1
    text = page.read_text()
    assert capsys.readouterr().out == text
    assert "| one (1 of 2 seeds) | development |" in text
    assert "| one | some seeds | seed 0: waiting |" in text
    assert "| lost | the whole setting | accuracy gate not passed: seed 1: not reported:" in text
    assert "| far | the whole setting | seed 0, 1: waiting;" in text
    assert str(tmp_path) not in text
    made = sorted(outdir.rglob("*.safetensors"))
    assert len([path for path in made if path.parent.name == "checkpoints"]) == 3
    times = {path: path.stat().st_mtime_ns for path in made}
    monkeypatch.setattr(sys, "argv", call)
    assert script.main() == 1  # resumed: `far` is new, the others stand
    assert {path: path.stat().st_mtime_ns for path in made} == times
    assert "## Appendix: far (1 of 2 seeds), without near-OOD" in page.read_text()


@pytest.mark.slow
def test_nobody_meets_confirmation_figures_by_accident(
    script: ModuleType, runs: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Path(files[2])
    plan.write_text(
        SMALL.replace("two: {preset: digits,", "two: {preset: digits, role: development,")
    )
    call = [*files, "--outdir", str(runs), "--report-only"]
    monkeypatch.setattr(sys, "argv", [*call, "--role", "development"])
    assert script.main() == 0
    page = Path(files[-1])
    assert "**Written with `--role development`: of development and conf" in page.read_text()
    assert "no verdict on it is final; not in it, or without some seeds: far.**" in page.read_text()
    assert "| reached |" not in page.read_text()
    assert not re.search(r"\bfar \||\bfar:", page.read_text().replace("| near | far |", ""))
    assert not (page.parent / "results/plan/far.csv").exists()
    monkeypatch.setattr(sys, "argv", call)
    assert script.main() == 0
    assert "## Appendix: far, without near-OOD" in page.read_text()
    assert "Written with `--role" not in page.read_text()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["--role", "development"], "allowed: a page of its own with --role development"),
        (["--plan", "mine.yaml"], "allowed: a page of its own for mine.yaml"),
        (["--ablations", "mine.yaml"], "allowed: a page of its own for mine.yaml"),
        (["--trained", "mine.yaml"], "allowed: a page of its own for mine.yaml"),
        (["--plan", "matrix.yaml"], "allowed: a page of its own for matrix.yaml"),
        (["--plan", "matrix.yaml", "--page", "docs/../docs/results.md"], "allowed: a page of its"),
        (["--plan", "matrix.yaml", "--page", "docs/results.txt"], "allowed: a page of its own"),
        (
            ["--plan", "configs/study/trained.yaml"],
            "allowed: a page of its own for configs/study/trained",
        ),
    ],
)
def test_only_the_plans_of_the_repository_write_its_page(
    call: list[str],
    words: str,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "PAGE", tmp_path / "docs/results.md")
    for name in ("mine", "matrix"):
        Path(f"{name}.yaml").write_text(SMALL)
    (tmp_path / "docs/results").mkdir(parents=True)
    for name in ("README.md", "docs/results.md", "docs/results/one.csv"):
        Path(name).write_text("ours")
    before = contents(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study.py", *call])
    with pytest.raises(InputError, match=f"^--page: found .*results.*, {words}"):
        script.main()
    assert contents(tmp_path) == before


def trained_plan(path: Path, *more: str) -> None:
    """The small plan's first task, with three losses."""
    head = SMALL.partition("settings:")[0]
    losses = {"plain": "cross_entropy", "logit_norm": "logit_norm", "cider": "label_smoothing"}
    lines = [
        f"  one.{name}: {{preset: digits, role: trained, overrides: [train.loss={loss}]}}"
        for name, loss in losses.items()
    ]
    path.write_text("\n".join([head + "settings:", *lines, *more]) + "\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_interrupts_a_study_is_told_how_it_goes_on(
    number: int,
    status: int,
    script: ModuleType,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(tasks: object, pool: object) -> Iterator[object]:
        os.kill(os.getpid(), number)
        time.sleep(60)
        yield from ()

    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setitem(LAUNCHERS, "local", stopped)  # type: ignore[arg-type]
    call = [*files, "--outdir", str(tmp_path / "out"), "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", call)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which background jobs ignore
    try:
        assert script.command_line() == status
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)
        forget()
    again = shlex.join(["python", "scripts/study.py", *call[1:]])
    assert f"Error: interrupted; `{again}` goes on where it stopped" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["--trained", "--ablations"])
def test_a_plan_of_the_side_is_run_alone(
    kind: str,
    script: ModuleType,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = Path(files[files.index(kind) + 1])
    trained_plan(side)
    call = [*files, "--outdir", str(tmp_path / "out")]
    call[2] = str(side.parent / "." / side.name)
    monkeypatch.setitem(LAUNCHERS, "local", here)
    monkeypatch.setattr(sys, "argv", [*call, "--report-only"])
    with pytest.raises(
        ArtifactError, match=r"needs a finished setting; one\.plain: seed 0, 1: wait"
    ):
        script.main()
    monkeypatch.setattr(sys, "argv", [*call, "--seeds", "0"])
    assert script.main() == 1  # a seed is missing
    text = Path(files[-1]).read_text()
    assert ("## Trained against post-hoc" in text) == (kind == "--trained")
    assert ("## Trained: one.plain (1 of 2 seeds)" in text) == (kind == "--ablations")
    row = "one, 3 trainings" if kind == "--trained" else "one.plain (1 of 2 seeds)"
    assert f"| {row} | digits |" in text
    assert "## Ranking over all settings" not in text
    assert "beats the best single baseline" not in text
    assert "critical_difference.png" not in text
    rows = Path(files[-1]).parent / "results" / side.stem
    assert sorted(path.stem for path in rows.iterdir()) == [
        "one.cider",
        "one.logit_norm",
        "one.plain",
    ]


def test_two_settings_of_one_loss_are_refused_before_they_run(
    script: ModuleType, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = "  one.again: {preset: digits, overrides: [train.loss=logit_norm, " + (
        '"train.loss_options={temperature: 0.1}"]}'
    )
    trained_plan(Path(files[files.index("--trained") + 1]), again)
    monkeypatch.setattr(sys, "argv", [*files, "--outdir", str(tmp_path / "out")])
    words = r"task with the loss 'logit_norm': one\.logit_norm and one\.again, allowed: one"
    with pytest.raises(InputError, match=words):
        script.main()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_damaged_file_of_rows_is_named_and_stays(
    script: ModuleType, runs: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = [*files, "--outdir", str(runs), "--report-only"]
    monkeypatch.setattr(sys, "argv", call)
    script.main()
    rows = Path(files[-1]).parent / "results/plan/far.csv"
    rows.write_text(rows.read_text().replace("seed,", "seeds,", 1))
    damaged = rows.read_bytes()
    assert script.main() == 1
    assert "| far | the whole setting | results/plan/far.csv: found 0 columns 'seed'" in (
        Path(files[-1]).read_text()
    )
    assert rows.read_bytes() == damaged


@pytest.mark.slow
def test_the_script_refuses_what_no_plan_has_and_an_empty_folder(
    script: ModuleType, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["study.py", "--only", "digit"])
    with pytest.raises(InputError, match="--only: unknown setting 'digit'; did you mean 'digits'"):
        script.main()
    given = ["study.py", "--role", "development", "--only", "digits_13"]
    monkeypatch.setattr(sys, "argv", [*given, "--page", str(tmp_path / "page.md")])
    with pytest.raises(InputError, match="--only: unknown setting 'digits_13'"):
        script.main()
    monkeypatch.setattr(sys, "argv", [*files, "--seeds", "2"])
    with pytest.raises(InputError, match="--seeds: found 2, allowed: 0, 1"):
        script.main()
    monkeypatch.setattr(sys, "argv", [*files, "--report-only", "--outdir", str(tmp_path)])
    with pytest.raises(ArtifactError, match=r"results\.md: not written; .* near-OOD; one: seed"):
        script.main()
    Path(files[2]).write_text(SMALL.partition("settings:")[0] + "settings:\n  far: digits\n")
    monkeypatch.setattr(sys, "argv", [*files, "--report-only", "--role", "development"])
    with pytest.raises(ArtifactError, match=r"of the matrix with near-OOD$"):
        script.main()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["--jobs", "0"], "--jobs: found 0, allowed: 1 or more"),
        (["--jobs", "-1", "--report-only"], "--jobs: found -1, allowed: 1 or more"),
        (["--report-only", "--only", "one"], "--only: found with --report-only, whose page is of"),
        (["--report-only", "--seeds", "0"], "--seeds: found with --report-only, whose page is of"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    call: list[str],
    words: str,
    script: ModuleType,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [*files, *call])
    assert script.command_line() == 1
    assert f"Error: {words}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "lost"])
def test_one_setting_alone_has_no_page_but_rows(
    name: str,
    script: ModuleType,
    runs: Path,
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LAUNCHERS, "local", here)
    call = [*files, "--outdir", str(tmp_path / "out"), "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", [*call, "--only", name, "--seeds", "0"])
    rows = Path(files[-1]).with_suffix("")
    told = {
        "one": f"near-OOD; finished: one, with rows in {rows}",
        "lost": "near-OOD; lost: accuracy gate not passed: seed 0: ",
    }
    with pytest.raises(ArtifactError, match=rf"{told[name]}"):
        script.main()
    assert (rows / "plan" / f"{name}.csv").exists()
