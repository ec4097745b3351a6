"""A training that was cut short ends as if it had not been."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nervecode.lab import train
from nervecode.lab.data import build_splits
from nervecode.lab.progress import Progress
from nervecode.lab.run import RunDir
from nervecode.lab.train import train_seed
from tests.lab.test_bench import tiny

CPU = torch.device("cpu")


class Cut(BaseException):
    """What a signal does to a training."""


class Scissors(Progress):
    """Ends the work at its n-th step, and keeps the titles of what began."""

    def __init__(self, steps: int = 10**9) -> None:
        self.left = steps
        self.titles: list[str] = []

    def start(self, title: str, total: int) -> None:
        self.titles.append(title)

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
        train_seed(run, splits, 0, device=CPU, progress=progress)


def outcome(run: RunDir) -> tuple[dict[str, torch.Tensor], list[str], str]:
    rows = [line.rsplit(",", 1)[0] for line in run.metrics(0).read_text().splitlines()]
    return load_file(run.checkpoint(0)), rows, run.diagnostics(0).read_text()


OPTIMIZERS = {
    "sgd": ["signals.nervecode_v0_1_1.detach=false"],
    "adamw": ["train.optimizer=adamw", "train.learning_rate=0.001", "train.augment=crop_flip"],
    "dropout": ["model.name=vit", "model.depth=1", "train.schedule=constant"],
}


@pytest.mark.parametrize("cut", [1, 6, 11, 15])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_ends_in_the_same_bits(
    name: str, cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    whole, parts = (run_of(tmp_path / part, *OPTIMIZERS[name]) for part in ("whole", "parts"))
    train_it(whole, Progress())
    with pytest.raises(Cut):
        train_it(parts, Scissors(cut))
    torch.rand(7)  # whatever the process has drawn since
    again = Scissors()
    train_it(parts, again)
    expected, found = outcome(whole), outcome(parts)
    assert found[1:] == expected[1:]
    assert found[0].keys() == expected[0].keys()
    for key, tensor in expected[0].items():
        assert torch.equal(found[0][key], tensor), key
    steps = -(-len(build_splits(parts.config.data).train) // 256)
    done = cut // steps
    assert again.titles == [f"train seed 0 after epoch {done}" if done else "train seed 0"]
    assert not list(parts.root.glob("resume/*"))


def cut_after_an_epoch(parent: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    run = run_of(parent)
    with pytest.raises(Cut):
        train_it(run, Scissors(9))
    assert run.resume(0).is_file()
    return run


def test_a_damaged_resume_file_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cut_after_an_epoch(tmp_path, monkeypatch)
    content = run.resume(0).read_bytes()
    run.resume(0).write_bytes(content[: len(content) // 2])
    again = Scissors()
    train_it(run, again)
    assert again.titles == ["train seed 0"]


def test_other_settings_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cut_after_an_epoch(tmp_path, monkeypatch)
    other = run.config.train.model_copy(update={"learning_rate": 0.01})
    run.replace_config(run.config.model_copy(update={"train": other}))
    again = Scissors()
    train_it(run, again)
    assert again.titles == ["train seed 0"]


def test_short_epochs_do_not_write_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVE_SECONDS", 1e9)
    run = run_of(tmp_path)
    with pytest.raises(Cut):
        train_it(run, Scissors(9))
    assert not run.resume(0).exists()
