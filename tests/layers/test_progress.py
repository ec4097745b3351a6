"""Progress of fit and calibrate: one line on standard error, and nothing unless asked for."""

from __future__ import annotations

import io
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import nervecode
from nervecode.layers.passes import progress as module
from nervecode.layers.passes.progress import shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands where its one number says."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_rate_and_time_left(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in shown(range(8), "fit", 8):
        clock[0] += 60.0
    lines = terminal.getvalue().replace("\x1b[K", "").split("\r")[1:]
    assert len(lines) == 9
    assert lines[1] == "fit: 2 of 8 batches, 0.0 a second, 6:00 left"
    assert lines[-1] == "fit: 8 of 8 batches, 0.0 a second, 8:00 in all\n"


def test_a_file_gets_a_line_each_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in shown(range(320), "fit", None):
        clock[0] += 0.25
    assert capsys.readouterr().err.splitlines() == [
        "fit: 120 batches, 4.0 a second, 0:30",
        "fit: 240 batches, 4.0 a second, 1:00",
        "fit: 320 batches, 4.0 a second, 1:20",
    ]


def test_hours_are_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in shown(range(2), "fit", 2):
        clock[0] += 3600.0
    assert "fit: 1 of 2 batches, 0.0 a second, 1:00:00 left" in capsys.readouterr().err


def test_fit_and_calibrate_say_how_far_they_are_if_asked(
    capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    data = TensorDataset(torch.randn(120, 4), torch.arange(120) % 2)
    held_out = TensorDataset(torch.randn(120, 4), torch.arange(120) % 2)
    wrapped = nervecode.wrap(model, "all_linear")
    wrapped.fit(DataLoader(data, 30)).calibrate(DataLoader(held_out, 30))
    assert capsys.readouterr().err == ""
    wrapped.fit(DataLoader(data, 30), progress=True)
    wrapped.calibrate(DataLoader(Stream(held_out), 30), progress=True)
    fit, calibrate = capsys.readouterr().err.splitlines()
    assert fit.startswith("fit: 4 of 4 batches, ")
    assert calibrate.startswith("calibrate: 4 batches, ")


class Stream(IterableDataset):
    """A data set without a length."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __iter__(self):
        return iter(self.data)
