"""A training that was cut short ends as if it had not been."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nervecode.lab.data.splits import build_splits
from nervecode.lab.machine.interrupt import Interrupted, deferred, forget, interrupt
from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages import train
from nervecode.lab.stages.train import train_seed
from nervecode.lab.stages.trial import Trial
from tests.lab.stages.test_bench import tiny

CPU = torch.device("cpu")


class Cut(BaseException):
    """What a signal does to a training."""


class Scissors(Progress):
    """Ends the work at its n-th step, and keeps what it was told."""

    def __init__(self, steps: int = 10**9) -> None:
        self.left = steps
        self.told: list[str] = []

    def tell(self, remark: str) -> None:
        self.told.append(remark)

    def advance(self, steps: int = 1, **shown: float) -> None:
        self.left -= steps
        if self.left < 0:
            raise Cut


def run_of(parent: Path, *overrides: str) -> RunDir:
    config = tiny("train.epochs=4", "train.batch_size=256", *overrides)
    return RunDir.create(config, parent, command="x")


def train_it(run: RunDir, progress: Progress) -> None:
    splits = build_splits(run.config.data, limit_eval=30)
    with run.claimed():
        train_seed(Trial(run, splits, 0, CPU, progress))


Outcome = tuple[dict[str, torch.Tensor], list[str], str]


def outcome(run: RunDir) -> Outcome:
    rows = [line.rsplit(",", 1)[0] for line in run.paths.metrics(0).read_text().splitlines()]
    return load_file(run.paths.checkpoint(0)), rows, run.paths.diagnostics(0).read_text()


OPTIMIZERS = {
    "sgd": ["signals.nervecode_v0_1_1.detach=false", "signals.nervecode_v0_1_1.revive=true"],
    "adamw": ["train.optimizer=adamw", "train.learning_rate=0.001", "train.augment=crop_flip"],
    "frozen": ["train.freeze=2", "train.optimizer=adamw", "train.learning_rate=0.001"],
    "losses": ["train.loss=cider", "train.coding_loss=code_price"],
    "dropout": ["model.name=vit", "model.depth=1", "train.schedule=constant"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """What a training that nothing happens to ends in, by the name of its settings."""

    @functools.cache
    def of(name: str) -> Outcome:
        run = run_of(tmp_path_factory.mktemp("whole"), *OPTIMIZERS[name])
        train_it(run, Progress())
        return outcome(run)

    return of


def assert_same(found: Outcome, expected: Outcome) -> None:
    """The same bits."""
    assert found[1:] == expected[1:]
    assert found[0].keys() == expected[0].keys()
    for key, tensor in expected[0].items():
        assert torch.equal(found[0][key], tensor), key


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 6, 11, 15])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_ends_in_the_same_bits(
    name: str, cut: int, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    run = run_of(tmp_path, *OPTIMIZERS[name])
    with pytest.raises(Cut):
        train_it(run, Scissors(cut))
    torch.rand(7)  # whatever the process has drawn since
    again = Scissors()
    train_it(run, again)
    assert_same(outcome(run), whole(name))
    steps = -(-len(build_splits(run.config.data).train) // 256)
    done = cut // steps
    assert again.told == ([f"seed 0: goes on after epoch {done} of 4"] if done else [])
    assert not list(run.root.glob("resume/*"))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that was cut after an epoch."""
    run = run_of(tmp_path_factory.mktemp("cut"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
        patch.setattr(train, "SAVE_SECONDS", 0.0)
        train_it(run, Scissors(9))
    assert run.paths.resume(0).is_file()
    return run


@pytest.fixture
def cut_copy(cut: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(shutil.copytree(cut.root, tmp_path / cut.root.name))


def flipped(content: bytes, index: int) -> bytes:
    changed = bytearray(content)
    changed[index] ^= 1
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "a figure of the header": lambda content: content.replace(
        rb"\"rate\": 0.0", rb"\"rate\": 0.1", 1
    ),
    "the name of its hash": lambda content: content.replace(rb"\"sha256\"", rb"\"sha257\"", 1),
    "a weight": lambda content: flipped(content, len(content) // 2),
    "the last byte": lambda content: flipped(content, -1),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_resume_file_is_not_used(damage: str, cut_copy: RunDir) -> None:
    run = cut_copy
    content = run.paths.resume(0).read_bytes()
    damaged = DAMAGES[damage](content)
    assert damaged != content
    run.paths.resume(0).write_bytes(damaged)
    again = Scissors()
    train_it(run, again)
    (told,) = again.told
    assert told.startswith("seed 0: starts over: ")
    assert str(run.paths.resume(0)) in told
    assert '"resume_refused"' in (run.root / "log.jsonl").read_text()
    assert not list(run.root.glob("resume/*"))


def test_other_settings_start_over(cut_copy: RunDir) -> None:
    run = cut_copy
    other = run.config.train.model_copy(update={"learning_rate": 0.01})
    run.replace_config(run.config.model_copy(update={"train": other}))
    again = Scissors()
    train_it(run, again)
    assert again.told == [
        f"seed 0: starts over: {run.paths.resume(0)}: belongs to a training of other settings"
    ]


def test_short_epochs_do_not_write_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_SECONDS", 1e9)
    run = run_of(tmp_path)
    with pytest.raises(Cut):
        train_it(run, Scissors(9))
    assert not run.paths.resume(0).exists()


# Signals


@pytest.fixture
def handled() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    forget()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    forget()


class Signals(Scissors):
    """Sends this process signals within its n-th step."""

    def __init__(self, step: int, *numbers: int) -> None:
        super().__init__()
        self.step, self.numbers, self.steps = step, numbers, 0

    def advance(self, steps: int = 1, **shown: float) -> None:
        self.steps += steps
        for number in self.numbers if self.steps == self.step and steps else ():
            os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("name", "step", "number"),
    [("sgd", 1, signal.SIGINT), ("sgd", 4, signal.SIGTERM), ("adamw", 5, signal.SIGINT),
     ("dropout", 6, signal.SIGTERM)],
)  # fmt: skip
def test_a_signal_finishes_the_step_and_saves_it(
    handled: None, step: int, name: str, number: int, whole: Any, tmp_path: Path
) -> None:
    run = run_of(tmp_path, *OPTIMIZERS[name])
    steps = -(-len(build_splits(run.config.data).train) // 256)
    ended = Signals(step, number)
    with pytest.raises(Interrupted) as stop:
        train_it(run, ended)
    assert stop.value.exit_status == 128 + number
    assert ended.steps == step
    epochs, left = divmod(step, steps)
    where = f"after epoch {epochs} of 4" + (f" and step {left}" if left else "")
    assert ended.told == [f"seed 0: saved {where}"]
    torch.rand(7)
    again = Scissors()
    train_it(run, again)
    assert again.told == [f"seed 0: goes on {where}"]
    assert_same(outcome(run), whole(name))


def test_a_second_signal_stops_at_once(handled: None, tmp_path: Path) -> None:
    run = run_of(tmp_path)
    ended = Signals(2, signal.SIGINT, signal.SIGINT)
    with pytest.raises(Interrupted):
        train_it(run, ended)
    assert ended.told == []
    assert not list(run.root.rglob("resume/*"))


def test_outside_of_a_step_a_signal_comes_at_once(handled: None) -> None:
    with pytest.raises(Interrupted), deferred() as stopping:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping()
    reached = False
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert not reached


def test_a_signal_that_a_library_swallowed_is_not_lost(handled: None, tmp_path: Path) -> None:
    def swallow() -> None:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)

    swallow()
    with pytest.raises(Interrupted) as stop, deferred():
        pytest.fail("went on")
    assert stop.value.exit_status == 128 + signal.SIGTERM
    with deferred() as stopping:  # it is told once
        assert not stopping()
    swallow()
    run = run_of(tmp_path)
    with pytest.raises(Interrupted):
        run.stage("score", 0, {}, lambda: pytest.fail("went on"))
