"""train, calibrate, presets, runs, version, help: what they do and what comes next."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nervecode
from nervecode.cli import main, show
from nervecode.errors import NervecodeError
from nervecode.lab.config.presets import presets
from nervecode.lab.config.stored import load_config
from nervecode.lab.results.table import Table
from tests.command_line import Terminal

ROOT = Path(__file__).parents[2]


def status(run: Path) -> str:
    return str(json.loads((run / "meta.json").read_text())["status"])


def python_m(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nervecode", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


# Stage by stage


def test_train_calibrate_bench_is_bench(
    cli: Any, tiny_file: Path, finished: Path, tmp_path: Path
) -> None:
    trained = cli("train", "--config", tiny_file, "--outdir", tmp_path)
    assert trained.status == 0, trained.err
    (run,) = tmp_path.iterdir()
    assert trained.out.splitlines() == [
        str(run / f"checkpoints/seed_{seed}.safetensors") for seed in (0, 1)
    ]
    assert f"Next: nervecode calibrate {run}" in trained.err
    assert status(run) == "partial"
    assert not (run / "calibration").exists()

    calibrated = cli("calibrate", run)
    assert calibrated.status == 0, calibrated.err
    assert calibrated.out.splitlines() == [
        str(run / f"calibration/seed_{seed}.safetensors") for seed in (0, 1)
    ]
    assert f"Next: nervecode bench {run}" in calibrated.err
    assert cli("score", run, "--input", "uniform_noise").status == 0

    benched = cli("bench", run)
    assert benched.status == 0, benched.err
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    skipped = {e["stage"] for e in events if e["event"] == "skip"}
    assert skipped == {f"{s}/seed_{n}" for s in ("train", "calibrate") for n in (0, 1)}
    assert (run / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    assert status(run) == "complete"


@pytest.mark.parametrize("command", ["train", "bench"])
def test_a_dry_run_writes_nothing(
    command: str, cli: Any, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli(command, "--config", tiny_file, "--dry-run", "-o", "data.limit_train=100")
    assert found.status == 0, found.err
    assert list(tmp_path.iterdir()) == []
    assert "Nothing was written. Next: the same command without --dry-run" in found.err
    assert re.search(r"device +cpu", found.out)
    assert "blocks.0, blocks.1, blocks.2, blocks.3" in found.out
    assert re.search(r"100 +id_train", found.out)
    assert re.search(r"50 +ood_rotate_45", found.out)
    for what in ("training", "memory", "disk"):
        assert re.search(rf"{what} +about \d+", found.out)


def test_a_dry_run_is_of_the_run_that_is_named(cli: Any, finished: Path, tree: Any) -> None:
    before = tree(finished)
    found = cli("bench", finished, "--dry-run", "-o", "threads=1", "-o", "seeds=[0]")
    assert found.status == 0, found.err
    assert re.search(r"50 +ood_rotate_45", found.out)
    assert tree(finished) == before
    for arguments in ((finished, "--preset", "digits"), (finished.parent / "none",)):
        wet, dry = (cli("bench", *arguments, *more) for more in ((), ("--dry-run",)))
        assert dry.status == wet.status == 2
        assert dry.err == wet.err


def test_a_dry_run_takes_the_threads_of_the_config(cli: Any, tiny_file: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert cli("train", "--config", tiny_file, "--dry-run", "-o", "threads=3").status == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_dry_run_tells_what_a_run_tells(cli: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = np.repeat(random.normal(size=(30, 2)), 3, 0)
    np.savez(tmp_path / "my.npz", x=values, y=np.repeat(np.arange(30) % 3, 3))
    found = cli("bench", "--preset", "table", "--dry-run", "-o", f"data.id=array:{tmp_path}/my.npz")
    assert found.status == 0, found.err
    assert "inputs are in ID train too" in found.err


def test_a_home_folder_in_quotes_is_found(
    cli: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(finished)
    np.save(tmp_path / "x.npy", np.zeros((3, 1, 8, 8)))
    for output, source in (("--output=~/a.csv", "~/x.npy"), ("--output=~/b.csv", "array:~/x.npy")):
        found = cli("score", "~/run", "--input", source, output)
        assert found.status == 0, found.err
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize(("command", "option"), [("score", "--input"), ("calibrate", "--add")])
def test_sources_are_given_one_at_a_time(
    command: str, option: str, cli: Any, finished: Path
) -> None:
    found = cli(command, finished, option, "a.npy", option, "b.npy")
    assert found.status == 2
    told = f"{option}: found a.npy, b.npy, allowed: one; a folder or tar files hold many"
    assert told in " ".join(found.err.split())


def test_what_a_network_prints_is_no_result(
    cli: Any, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud_nets.py").write_text(
        "from torch import nn\nprint('import')\n"
        "class Loud(nn.Flatten):\n"
        "    def forward(self, x):\n        print('forward')\n        return super().forward(x)\n"
        "def build(shape, classes):\n    print('build')\n"
        "    return nn.Sequential(Loud(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    network = {"model": {"name": "python:loud_nets:build"}, "seeds": [0]}
    (tmp_path / "loud.json").write_text(json.dumps(tiny | network))
    arguments = ("--config", "loud.json", "--trust-code", "-o", "bench.detectors=[msp]")
    found = cli("bench", *arguments, "--json")
    assert found.status == 0, found.err
    run = json.loads(found.out)["run_dir"]
    assert {"import", "build", "forward"} <= set(found.err.splitlines())
    quiet = cli("--quiet", "score", run, "--input", "digits", "--output", "x.csv", "--trust-code")
    assert (quiet.out, quiet.err) == ("x.csv\n", "")
    assert "build" not in cli("bench", *arguments, "--dry-run").out
    (Path(run) / "results.json").unlink()
    missing = cli("plot", run, "--kind", "matrix").err
    assert f"`nervecode bench {run} --repair --trust-code` makes it" in missing


def test_batch_normalisation_without_running_statistics_is_told(
    cli: Any, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "batch_nets.py").write_text(
        "from torch import nn\ndef build(shape, classes):\n    return nn.Sequential(nn.Flatten(), "
        "nn.Linear(64, 9), nn.BatchNorm1d(9, track_running_stats=False), nn.Linear(9, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    network = {"model": {"name": "python:batch_nets:build"}, "seeds": [0]}
    (tmp_path / "batch.json").write_text(json.dumps(tiny | network))
    found = cli("bench", "--config", "batch.json", "--trust-code", "-o", "bench.detectors=[msp]")
    assert "layer 'net.2' keeps no running statistics" in found.err


def test_a_dry_run_refuses_what_a_run_refuses(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    for wrong in ("train.epochs=-1", "model.name=smal_cnn", "signals.nervecode.layers=[blok]"):
        arguments = ["train", "--config", tiny_file, "--outdir", tmp_path / "runs", "-o", wrong]
        dry, wet = cli(*arguments, "--dry-run"), cli(*arguments)
        assert dry.status == wet.status == 2
        assert not (tmp_path / "runs").exists()


# Presets


def test_presets_are_listed_with_data_and_cost(cli: Any) -> None:
    found = cli("presets")
    assert found.status == 0
    for word in ("preset", "data", "minutes", "memory", "digits", "1 GB", *presets()):
        assert word in found.out
    assert "Next: nervecode bench --preset" in found.err


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_is_shown_as_it_is(cli: Any, name: str) -> None:
    found = cli("presets", "show", name)
    assert found.status == 0
    assert found.out == (ROOT / f"configs/{name}.yaml").read_text()
    assert f"Next: nervecode presets copy {name} my.yaml" in found.err


def test_a_copied_preset_is_a_config_of_ones_own(cli: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    found = cli("presets", "copy", "digits", mine)
    assert found.status == 0
    assert found.out.strip() == str(mine)
    assert f"Next: nervecode bench --config {mine}" in found.err
    assert load_config(mine) == load_config(ROOT / "configs/digits.yaml")
    mine.write_text("mine")
    assert cli("presets", "copy", "digits", mine).status == 2
    assert mine.read_text() == "mine"
    assert cli("presets", "copy", "digits", mine, "--force").status == 0
    assert mine.read_bytes() == (ROOT / "configs/digits.yaml").read_bytes()


# Runs


def test_runs_are_listed_with_status_gate_and_headline(
    cli: Any, run_copy: Path, finished: Path, tiny_file: Path
) -> None:
    folder = run_copy.parent
    diverging = cli("train", "--config", tiny_file, "--outdir", folder,
                    "-o", "train.learning_rate=1e30", "-o", "name=wild")  # fmt: skip
    assert diverging.status == 1
    assert "try a smaller train.learning_rate" in diverging.err
    found = cli("runs", folder, "--json")
    assert found.status == 0
    document = json.loads(found.out)
    assert document["schema_version"] == 1
    rows = {row["run"].partition("-")[0]: row for row in document["runs"]}
    assert set(rows) == {"tiny", "wild"}
    assert (rows["tiny"]["status"], rows["tiny"]["gate"]) == ("complete", "passed")
    with (finished / "results.csv").open(newline="") as file:
        mine = [row for row in csv.DictReader(file) if row["method"] == "nervecode"]
    means = {group: [float(r["auroc"]) for r in mine if r["group"] == group]
             for group in ("near", "far")}  # fmt: skip
    headline = 50 * sum(sum(values) / len(values) for values in means.values())
    assert float(rows["tiny"]["headline"].split()[0]) == pytest.approx(headline, abs=0.006)
    assert (rows["wild"]["status"], rows["wild"]["gate"]) == ("failed", "open")
    assert "training: the loss is" in rows["wild"]["headline"]
    table = cli("runs", folder)
    assert run_copy.name in table.out
    assert "failed" in table.out
    (run_copy / "meta.json").write_text('{"schema')
    listed = json.loads(cli("runs", folder, "--json").out)["runs"]
    (damaged,) = [row for row in listed if row["status"] == "damaged"]
    assert damaged["run"] == run_copy.name
    assert "meta.json: is damaged" in damaged["headline"]


def test_a_folder_without_runs_names_the_first_step(cli: Any, tmp_path: Path) -> None:
    found = cli("runs", tmp_path)
    assert found.status == 0
    assert "Next: nervecode bench --preset digits" in found.err
    assert json.loads(cli("runs", tmp_path, "--json").out) == {"schema_version": 1, "runs": []}
    (tmp_path / "my_runs").mkdir()
    typed = cli("runs", tmp_path / "my_rnus")
    assert typed.status == 2
    assert "my_rnus: no such folder; did you mean 'my_runs'?" in typed.err


# Plots


def test_a_plot_is_drawn_where_asked_for_and_leaves_the_run_alone(
    cli: Any, finished: Path, tree: Any, tmp_path: Path
) -> None:
    before = tree(finished)
    output = tmp_path / "roc.svg"
    found = cli("plot", finished, "--kind", "roc", "--seed", "1", "--ood", "rotate_45",
                "--output", output)  # fmt: skip
    assert found.status == 0, found.err
    assert found.out.strip() == str(output)
    assert b"<svg" in output.read_bytes()[:500]
    assert f"Next: nervecode plot {finished} --kind" in found.err
    assert tree(finished) == before


# The application


def test_the_version_is_the_packages(cli: Any) -> None:
    found = cli("--version")
    assert found.status == 0
    assert found.out == f"nervecode {nervecode.__version__}\n"


def test_python_m_nervecode_is_nervecode(tmp_path: Path) -> None:
    done = python_m("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"nervecode {nervecode.__version__}\n")
    wrong = python_m("presets", "show", "digts", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Error: preset: unknown 'digts'; did you mean 'digits'?")
    assert wrong.stdout == ""


def commands() -> list[tuple[str, ...]]:
    """Every command, and the groups that do something by themselves or not."""
    found: list[tuple[str, ...]] = []
    for name in main.COMMANDS:
        subcommands = getattr(main.built(name), "commands", {})
        found += [(name,), *((name, subcommand) for subcommand in subcommands)]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself(cli: Any, command: tuple[str, ...]) -> None:
    overall, one = cli("--help"), cli(*command, "-h")
    assert overall.status == one.status == 0
    assert command[0] in overall.out
    assert " ".join(command) in one.out.splitlines()[0]
    assert f"Example: nervecode {command[0]}" in one.out


def test_the_list_of_commands_is_not_cut(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = cli("--help").out.partition("Commands:")[2].partition("First steps")[0]
    lines = [line for line in listed.splitlines() if line.strip()]
    assert len(lines) == len({path[0] for path in commands()})
    assert all(len(line) <= 80 and not line.endswith("...") for line in lines)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("nervecode pl", {"plot"}),
        (
            "nervecode bench --preset digits_",
            {"digits_05", "digits_37", "digits_mlp", "digits_vit"},
        ),
        ("nervecode plot RUN --kind c", {"calibration", "codebooks"}),
        ("nervecode plot RUN --o", {"--ood", "--output"}),
        ("nervecode bench --track t", {"tensorboard"}),
    ],
)
def test_a_shell_completes_commands_options_and_names(words: str, offered: set[str]) -> None:
    place = str(len(words.split()) - 1)
    found = subprocess.run(
        [Path(sys.executable).parent / "nervecode"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "_NERVECODE_COMPLETE": "complete_bash",
             "COMP_WORDS": words, "COMP_CWORD": place},
        capture_output=True, text=True,
    )  # fmt: skip
    assert set(found.stdout.split()) == offered


def test_all_commands_are_seen() -> None:
    assert {("bench",), ("presets",), ("presets", "copy"), ("config", "show")} <= set(commands())


def test_debug_shows_the_traceback_anywhere(cli: Any, tmp_path: Path) -> None:
    for arguments in (["--debug", "bench", tmp_path], ["bench", tmp_path, "--debug"]):
        with pytest.raises(NervecodeError):
            cli(*arguments)


def test_what_nobody_expected_is_one_line_and_status_1(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(name: str) -> Path:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("nervecode.lab.config.presets.preset_path", explode)
    found = cli("presets", "show", "digits")
    assert found.status == 1
    assert found.err == (
        "Error: ZeroDivisionError: odd\n(unexpected; --debug shows the traceback)\n"
    )
    with pytest.raises(ZeroDivisionError):
        cli("presets", "show", "digits", "--debug")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_status(
    number: int, status: int, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nervecode.lab.config.presets.preset_path", lambda name: os.kill(os.getpid(), number)
    )
    found = cli("presets", "show", "digits")
    assert found.status == status
    assert found.err == (
        "Error: interrupted; `nervecode presets show digits` does again what was not finished\n"
    )
    assert found.out == ""


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main.run(["--version"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_entry_point_ends_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "run", lambda arguments: 4)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 4


# What is shown


def test_a_wide_table_is_broken_into_parts_that_repeat_the_first_column() -> None:
    header = ["method", *[f"column_{i:02d}" for i in range(20)]]
    table = Table("wide", header, [["one", *["1.00"] * 20], ["two", *["2.00"] * 20]])
    parts = show._parts(table, 100)
    assert len(parts) > 1
    assert all(part[0] == 0 for part in parts)
    assert sorted(c for part in parts for c in part[1:]) == list(range(1, 21))
    widths = [max(len(row[c]) for row in [header, *table.body]) + 2 for c in range(21)]
    assert all(sum(widths[c] for c in part) - 2 <= 100 for part in parts)


def test_an_underlined_figure_is_underlined_and_its_padding_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    body = [["a", "12.50"], ["b", "9.00"]]
    best, second = frozenset({(0, 1)}), frozenset({(1, 1)})
    show.show_table(Table("T", ["method", "a long header"], body, best, second))
    assert "\x1b[1m12.50\x1b[0m" in terminal.getvalue()
    assert "\x1b[4m9.00\x1b[0m" in terminal.getvalue()
