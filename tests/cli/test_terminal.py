"""What a person at a terminal sees, and what `run.log` keeps of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nervecode.cli import show
from nervecode.cli.log import log, logged
from nervecode.cli.main import run
from nervecode.lab.machine.interrupt import Interrupted
from nervecode.lab.results.table import Table
from tests.command_line import Terminal

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d  \S.*")


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal; a fixture is too early, since pytest sets it anew."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return found


# Names of any bytes


NAME = b"caf\xe9 \x1b[31m\n\xe2\x80\xae.png".decode("utf-8", "surrogateescape")
SHOWN = r"caf\udce9 \x1b[31m"


def test_names_of_any_bytes_do_nothing_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    show.show_table(Table("title", ["id"], [[NAME], ["图片.png"]]))
    with logged(tmp_path, "score"):
        show.say(f"skipped: {NAME}")
    show.complain(NAME)
    shown = capsys.readouterr()
    assert rf"{SHOWN}\n\u202e.png" in shown.out
    assert "图片.png" in shown.out
    assert shown.err == f"skipped: {SHOWN}\n\\u202e.png\nError: {SHOWN}\n\\u202e.png\n"
    assert f"skipped: {SHOWN}\n" in (tmp_path / "run.log").read_text(encoding="utf-8")
    terminal = terminal_of(monkeypatch)
    show.complain(NAME)
    assert SHOWN in terminal.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_a_path_of_any_bytes_can_be_told_on_standard_output(encoding: str, tmp_path: Path) -> None:
    code = (
        "import sys; from nervecode.cli import main; "
        "main.run = lambda _: print(sys.argv[1]) or 0; main.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, b"caf\xe9/\xc3\xa9"],
        env=os.environ | {"PYTHONIOENCODING": encoding}, cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    assert result.stdout.startswith(b"caf\\udce9/")


# The log


def test_the_log_tells_of_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), logged(tmp_path, "nervecode bench"):
        raise Interrupted(15)
    assert (tmp_path / "run.log").read_text().endswith("Error: interrupted by SIGTERM\n")


def test_a_bench_leaves_a_log_of_what_it_did(finished: Path) -> None:
    lines = (finished / "run.log").read_text().splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    said = [line.partition("  ")[2] for line in lines]
    assert said[0].startswith("nervecode")  # and what the process was called with
    assert "train seed 0 …" in said and "plots …" in said
    assert said[-1] == "done: complete"


def test_every_stage_and_every_error_is_added(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    failed = cli("train", "--config", tiny_file, "--outdir", tmp_path,
                 "-o", "train.learning_rate=1e30", "-o", "seeds=[0]")  # fmt: skip
    assert failed.status == 1
    (made,) = tmp_path.iterdir()
    text = (made / "run.log").read_text()
    assert "train seed 0 …" in text
    assert "Error: " in text.splitlines()[-1]
    assert "try a smaller train.learning_rate" in text


def test_a_log_is_no_part_of_what_is_verified(cli: Any, run_copy: Path) -> None:
    before = cli("verify", run_copy)
    with (run_copy / "run.log").open("a") as file:
        file.write("more\n")
    after = cli("verify", run_copy)
    assert (after.status, after.out) == (before.status, before.out) == (0, before.out)


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with logged(tmp_path / "nowhere", "a command"):
        log("a line")
    log("no run is at hand")
    assert list(tmp_path.iterdir()) == []


# Quiet


def test_quiet_leaves_results_and_the_log(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    found = cli("train", "--quiet", "--config", tiny_file, "--outdir", tmp_path,
                "-o", "train.epochs=1", "-o", "seeds=[0]")  # fmt: skip
    (made,) = tmp_path.iterdir()
    assert (found.status, found.err) == (0, "")
    assert found.out.strip() == str(made / "checkpoints/seed_0.safetensors")
    assert "train seed 0 …" in (made / "run.log").read_text()
    assert "Next:" in cli("presets").err  # of one command alone


def test_quiet_does_not_hide_errors(cli: Any, tmp_path: Path) -> None:
    found = cli("presets", "show", "digts", "--quiet")
    assert found.status == 2
    assert "did you mean 'digits'?" in found.err
    assert json.loads(cli("--quiet", "runs", tmp_path, "--json").out)["runs"] == []


# The terminal


def test_an_error_is_one_panel_that_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    assert run(["presets", "show", "digts"]) == 2
    text = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    lines = text.splitlines()
    assert lines[0].startswith("╭─ Error ─") and lines[-1].startswith("╰─")
    assert all(len(line) == 80 for line in lines)
    assert "did you mean 'digits'?" in text
    assert "Next: nervecode presets --help" in text


def test_a_message_that_names_a_command_needs_no_hint(
    monkeypatch: pytest.MonkeyPatch, run_copy: Path
) -> None:
    terminal = terminal_of(monkeypatch)
    (run_copy / "results.json").unlink()
    assert run(["report", str(run_copy)]) == 4
    assert run(["train"]) == 2
    assert "Next: nervecode train --help" in terminal.getvalue()
    assert terminal.getvalue().count("Next:") == 1


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    show.complain("something [with] brackets", "do this")
    text = terminal.getvalue()
    assert "[with]" in text
    assert not re.search(r"\x1b\[[\d;]*3\dm", text)  # weight is no colour


def test_bars_are_logged_as_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal_of(monkeypatch)
    with logged(tmp_path, "a command"), show.progress() as shown:
        assert list(shown.track("work", [1, 2], 2)) == [1, 2]
    said = [line.partition("  ")[2] for line in (tmp_path / "run.log").read_text().splitlines()]
    assert said == ["a command", "work …"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        ("presets", "2>&-", 0),
        ("presets", ">&-", 0),
        ("presets", ">&- 2>&-", 0),
        ("presets show nothing", ">&- 2>&-", 2),
    ],
)
def test_closed_streams_change_no_status(words: str, closed: str, status: int) -> None:
    """As a daemon has them: Python's own streams are None then."""
    command = f"{shlex.quote(sys.executable)} -m nervecode {words} {closed}"
    found = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == status, found.stderr
    assert ("digits" in found.stdout) == (">&-" not in closed.replace("2>&-", ""))
