"""Cells, how they stand, and what starts them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nervecode.errors import ArtifactError, InputError, MissingExtraError, NervecodeError
from nervecode.files import csv_text
from nervecode.lab.config.resolve import resolve
from nervecode.lab.config.stored import config_hash
from nervecode.lab.machine.provenance import cores
from nervecode.lab.run.directory import RunDir
from nervecode.lab.sweep import launchers
from nervecode.lab.sweep.cells import Cell, expand, grid_of, read_sweep, write_sweep
from nervecode.lab.sweep.launchers import Pool, Task
from nervecode.lab.sweep.state import State, config_table, records, state_of


def digits(settings: dict[str, Any]) -> Any:
    return resolve(preset="digits", settings=settings)


def cells(grid: dict[str, list[Any]]) -> list[Cell]:
    return expand([digits], grid)[0]


@pytest.fixture(scope="module")
def four() -> list[Cell]:
    return cells({"seeds": [[0, 1]], "train.epochs": [1, 2]})


# Cells


def test_a_cell_is_a_config_and_a_seed(four: list[Cell]) -> None:
    assert [(c.settings["train.epochs"], c.seed) for c in four] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for cell in four:
        assert cell.config.seeds == (cell.seed,)
        assert cell.config.train.epochs == cell.settings["train.epochs"]
        assert config_hash(cell.config, cell.seed).startswith(cell.id)
    assert len({cell.id for cell in four}) == 4


def test_an_id_does_not_depend_on_its_neighbours_or_on_the_machine(four: list[Cell]) -> None:
    config = digits({"seeds": [1], "train.epochs": 2, "device": "cpu", "threads": 1}).config
    assert Cell.of(config, 1, {}).id == four[3].id
    other = digits({"seeds": [1], "train.epochs": 2, "bench.limit_eval": 9}).config
    assert Cell.of(other, 1, {}).id != four[3].id


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True), max_size=3))
def test_a_grid_is_every_combination(values: list[list[int]]) -> None:
    keys = ["train.epochs", "train.batch_size", "model.width"][: len(values)]
    texts = [f"{k}={','.join(map(str, v))}" for k, v in zip(keys, values, strict=True)]
    grid = grid_of(texts)
    assert grid == dict(zip(keys, values, strict=True))
    found = cells({"seeds": [[0]], **grid})
    wanted = list(itertools.product(*values))
    assert [tuple(cell.settings[key] for key in keys) for cell in found] == wanted


def test_values_of_a_grid_are_yaml() -> None:
    assert grid_of(["a.b=1e-3, true, [1, 2], x"]) == {"a.b": [1e-3, True, [1, 2], "x"]}


def test_equal_cells_are_run_once() -> None:
    found, doubled = expand([digits, digits], {"seeds": [[0, 1]]})
    assert (len(found), doubled) == (2, 2)


@pytest.mark.parametrize("text", ["train.epochs", "=1,2", "train..epochs=1", "train.epochs="])
def test_a_grid_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="allowed: key=value,value"):
        grid_of([text])


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.epochs is given twice"):
        grid_of(["train.epochs=1", "train.epochs=2"])


# The file


def test_a_sweep_is_read_as_it_was_written(four: list[Cell], tmp_path: Path) -> None:
    write_sweep(tmp_path, four)
    before = (tmp_path / "sweep.json").read_bytes()
    assert read_sweep(tmp_path).cells == tuple(four)
    assert write_sweep(tmp_path, four[::-1]).cells == tuple(four)
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_another_sweep_is_refused_by_name(four: list[Cell], tmp_path: Path) -> None:
    write_sweep(tmp_path, four[:3])
    with pytest.raises(InputError, match=r"only here: digits .*train\.epochs=2 seed 1"):
        write_sweep(tmp_path, four)
    with pytest.raises(InputError, match="only there"):
        write_sweep(tmp_path, four[:2])


def test_a_cell_is_found_by_the_beginning_of_its_id(four: list[Cell], tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, four)
    assert sweep.cell(four[2].id[:11]) == four[2]
    for name in ("", "zz", four[2].id + "0"):
        with pytest.raises(InputError, match="found 0 cells"):
            sweep.cell(name)


def test_a_changed_cell_is_damage(four: list[Cell], tmp_path: Path) -> None:
    write_sweep(tmp_path, four)
    path = tmp_path / "sweep.json"
    held = json.loads(path.read_text())
    held["cells"][1]["config"]["train"]["epochs"] = 5
    path.write_text(json.dumps(held))
    with pytest.raises(ArtifactError, match=f"cell {four[1].id} has another config"):
        read_sweep(tmp_path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        read_sweep(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_sweep(tmp_path)


def test_one_process_at_a_time_starts_cells(four: list[Cell], tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, four)
    with sweep.claimed():
        told = f"{tmp_path}: process {os.getpid()} on .* runs this sweep"
        with pytest.raises(NervecodeError, match=told), read_sweep(tmp_path).claimed():
            pass
    with sweep.claimed():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


# How cells stand


def test_a_state_is_what_the_run_says(four: list[Cell], tmp_path: Path) -> None:
    cell = four[0]
    assert state_of(cell, tmp_path).word == "waiting"
    cell.root(tmp_path).mkdir()  # its making was cut short
    assert state_of(cell, tmp_path).word == "waiting"
    run = RunDir.create(cell.config, tmp_path, command="x", name=cell.root(tmp_path).name)
    assert state_of(cell, tmp_path).word == "interrupted"
    with run.claimed():
        run.update(status="running")
        assert state_of(cell, tmp_path).word == "running"
    run.update(status="failed", error="of\n some reason")
    assert state_of(cell, tmp_path) == State("failed", "of some reason")
    run.update(status="gate_failed", gate={**run.meta["gate"], "accuracy": {"0": 0.5}})
    assert state_of(cell, tmp_path).accuracy == 0.5
    assert state_of(cell, tmp_path).word == "gate failed"
    (run.root / "stray").write_text("x")
    assert state_of(cell, tmp_path) == State("damaged", "stray is unexpected")


def test_a_run_of_a_given_name_is_made_once(four: list[Cell], tmp_path: Path) -> None:
    first = RunDir.create(four[0].config, tmp_path, command="x", name="one")
    first.update(status="failed")
    again = RunDir.create(four[0].config, tmp_path, command="y", name="one")
    assert (again.status, again.meta["command"]) == ("failed", "x")


def test_configs_are_averaged_over_the_seeds_that_are_done(four: list[Cell]) -> None:
    states = [
        State("done", accuracy=0.5, figures={"near": 0.25}),
        State("done", accuracy=0.75, figures={"near": 0.75}),
        State("done", accuracy=1.0, figures={"near": 0.5}),
        State("failed", "no memory"),
    ]
    table = config_table(four, states)
    assert table.header == ["config", "seeds", "accuracy", "near"]
    assert [row[1:] for row in table.body] == [
        ["2", "62.50 ± 17.68", "50.00 ± 35.36"],
        ["1", "100.00", "50.00"],
    ]
    rows = records(four, states)
    assert rows[3]["reason"] == "no memory"
    assert rows[3]["near"] is None
    assert csv_text(rows).splitlines()[1].startswith(f"{four[0].id},digits,")


# What starts them


def tasks(folder: Path, *programs: str) -> list[Task]:
    # The last word may be the flag that asks a cell to listen.
    made = [(sys.executable, "-c", program) for program in programs]
    return [Task(str(i), words, folder / "logs" / f"{i}.log") for i, words in enumerate(made)]


def ended(found: Iterator[tuple[Task, int]]) -> dict[str, int]:
    return {task.id: status for task, status in found}


def heard(found: Iterator[tuple[Task, int]]) -> dict[str, tuple[int, str]]:
    return {task.id: (status, task.log.read_text()) for task, status in found}


@pytest.fixture(params=["local", "slurm", "ray"])
def start(request: pytest.FixtureRequest) -> Any:
    """Every launcher, on this machine."""
    options: dict[str, Any] = {}
    if request.param == "slurm":
        pytest.importorskip("submitit")
        options = {"cluster": "local", "timeout_min": 1}
    elif request.param == "ray":
        pytest.importorskip("ray")
    launcher = launchers.launcher(request.param)
    return lambda some, folder: launcher(some, Pool(folder, 2, options))


@pytest.mark.slow
def test_every_task_is_run_and_its_status_told(start: Any, tmp_path: Path) -> None:
    write = "import sys; open({!r}, 'a').write('x'); print('said', file=sys.stderr); sys.exit({})"
    programs = [write.format(str(tmp_path / str(i)), i % 2) for i in range(4)]
    found = heard(start(tasks(tmp_path, *programs), tmp_path))
    assert {name: bool(status) for name, (status, _) in found.items()} == {
        "0": False, "1": True, "2": False, "3": True
    }  # fmt: skip
    assert all("said" in text for _, text in found.values())
    assert [(tmp_path / str(i)).read_text() for i in range(4)] == ["x"] * 4


def test_what_submitit_warns_of_is_no_result(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    code = (
        "import logging; from pathlib import Path;"
        "from nervecode.lab.sweep.launchers import Pool, slurm;"
        f"list(slurm([], Pool(Path({str(tmp_path)!r}), 1, {{'cluster': 'local'}})));"
        "logging.getLogger('submitit').warning('no accounting')"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == ""
    assert "no accounting" in found.stderr


def test_no_more_run_than_may_and_they_share_the_cores(tmp_path: Path) -> None:
    program = (
        f"import os, time; p = {str(tmp_path)!r} + '/run.' + str(os.getpid()); open(p, 'w');"
        f"n = len([f for f in os.listdir({str(tmp_path)!r}) if f.startswith('run.')]);"
        "time.sleep(0.3); os.unlink(p); print(n, os.environ['OMP_NUM_THREADS'])"
    )
    some = tasks(tmp_path, *[program] * 5)
    assert set(ended(launchers.local(some, Pool(tmp_path, 2))).values()) == {0}
    said = [task.log.read_text().split() for task in some]
    assert max(int(count) for count, _ in said) == 2
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // 2)))
    assert {found for _, found in said} == {threads}


def test_closed_it_ends_what_it_started(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as behind nohup or `&`
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(143)))\n"
        "print('begun', flush=True); time.sleep(60)"
    )
    some = tasks(tmp_path, "raise SystemExit(1)", program)
    found = launchers.local(some, Pool(tmp_path, 2))
    assert next(found)[1] == 1
    wait_for(some[1].log, "begun")
    found.close()  # type: ignore[attr-defined]
    assert some[1].log.read_text().split() == ["begun", "saved"]


def test_cells_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    child = "import os, time; print(os.getpid(), flush=True); os.read(0, 1); print('end')"
    parent = (
        "import sys; from pathlib import Path; from nervecode.lab.sweep import launchers as l;"
        f"t = l.Task('0', (sys.executable, '-c', {child!r}), Path({str(tmp_path / 'log')!r}));"
        f"list(l.local([t], l.Pool(Path({str(tmp_path)!r}), 1)))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        wait_for(tmp_path / "log", "\n")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(tmp_path / "log", "end")


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"{path} never said {text!r}"
        time.sleep(0.05)


def test_a_launcher_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, package in (("slurm", "submitit"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        told = rf"needs {package}, which is not installed; pip install -e '\.\[{name}\]' in the"
        with pytest.raises(MissingExtraError, match=told):
            launchers.check_options(name, {})


def test_unknown_launchers_and_options_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'slurm'"):
        launchers.launcher("slrum")
    with pytest.raises(InputError, match="unknown 'nodes' of launcher local"):
        launchers.check_options("local", {"nodes": 2})
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match="no_such_option"):
        launchers.check_options("slurm", {"cluster": "local", "no_such_option": 2})
