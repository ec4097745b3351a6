"""Layers that run more or less often, or in other branches, than they did in calibration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError
from nervecode.layers import WrappedModel


class Loop(nn.Module):
    """A layer that runs once per step of (B, T, 6), and a branch that is taken on request."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.detour, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.takes_detour = False

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x[:, 0])
        for step in x.unbind(1):
            state = torch.tanh(self.cell(step) + state)
        out: Tensor = self.head(self.detour(state) if self.takes_detour else state)
        return out


def batch(steps: int, seed: int = 0, number: int = 60) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(number, steps, 6, generator=random), torch.arange(number) % 3


def calibrated(*steps: int) -> WrappedModel:
    torch.manual_seed(0)
    model = Loop().eval()
    wrapped = nervecode.wrap(model, "all_linear")
    model.takes_detour = True
    wrapped.fit([batch(2, 1), batch(2, 2)])
    model.takes_detour = False
    return wrapped.calibrate([batch(n, 3 + i)[0] for i, n in enumerate(steps)])


DETOUR = "ignore:.* layer '.*detour'|the model has takes_detour=|calibrate. 60 inputs"


@pytest.mark.filterwarnings(DETOUR)
@pytest.mark.parametrize("stored", ["none", "file", "state dict", "compiled"])
def test_more_runs_than_in_calibration_are_not_valid(stored: str, tmp_path: Path) -> None:
    wrapped = calibrated(2, 2)
    if stored == "file":
        wrapped.save(tmp_path / "codes.safetensors")
        wrapped = nervecode.load(tmp_path / "codes.safetensors", wrapped.unwrap())
    if stored == "state dict":
        again = nervecode.wrap(Loop().eval(), "all_linear")
        again.load_state_dict(wrapped.state_dict())
        wrapped = again
    if stored == "compiled":
        torch._dynamo.reset()
        wrapped = nervecode.wrap(torch.compile(wrapped.unwrap(), backend="eager"), "all_linear")
        wrapped.fit([batch(2, 1), batch(2, 2)]).calibrate([batch(2, 3)[0]])
    assert wrapped.score(batch(2)[0])[1].valid.all()
    with pytest.warns(UserWarning, match=r"cell' ran 4 times, and in calibration 2 at most"):
        surprise = wrapped.score(batch(4)[0])[1]
    assert not surprise.valid.any()
    assert surprise.p_value.isnan().all()
    assert surprise.flag(0.05).all()
    with pytest.warns(UserWarning, match="layer '.*cell#2' was calibrated and did not run"):
        assert not wrapped.score(batch(1)[0])[1].valid.any()
    assert wrapped.score(batch(2)[0])[1].valid.all()


@pytest.mark.filterwarnings(
    "ignore:calibrate. layer|the model has takes_detour=|calibrate. [0-9]+ in"
)
def test_runs_of_some_calibration_batches_are_left_out_and_valid() -> None:
    wrapped = calibrated(2, 3)
    assert "cell#3" not in wrapped.calibration.layers
    for steps in (2, 3):
        assert wrapped.score(batch(steps)[0])[1].valid.all()
    with pytest.warns(UserWarning, match="ran 4 times, and in calibration 3 at most"):
        assert not wrapped.score(batch(4)[0])[1].valid.any()
    wrapped.calibrate([batch(4, 9)[0]], add=True)
    assert wrapped.score(batch(4)[0])[1].valid.all()


@pytest.mark.filterwarnings(DETOUR)
def test_a_branch_that_calibration_did_not_take_is_not_valid() -> None:
    wrapped = calibrated(2, 2)
    wrapped.model.takes_detour = True
    told = "layer 'detour' ran, and in no batch of calibration"
    with pytest.warns(UserWarning) as warned:
        assert not wrapped.score(batch(2)[0])[1].valid.any()
    assert any(told in str(one.message) for one in warned)
    _, traces = wrapped.forward_with_trace(batch(2)[0])
    assert not wrapped.aggregate(traces).valid.any()
    del traces["detour"]
    assert wrapped.aggregate(traces).valid.all()


@pytest.mark.filterwarnings(DETOUR)
def test_a_graph_of_more_runs_is_refused(tmp_path: Path) -> None:
    wrapped = calibrated(2, 2)
    wrapped.export(tmp_path / "two.pt2", batch(2)[0])
    with pytest.raises(
        InputError, match=r"export example: .*: layer .cell. ran 4 times, and in calib"
    ):
        wrapped.export(tmp_path / "four.pt2", batch(4)[0])
    assert not (tmp_path / "four.pt2").exists()


def test_a_calibration_of_kept_readings_knows_of_no_runs() -> None:
    with pytest.warns(UserWarning, match="calibrate"):
        wrapped = calibrated(2, 2)
    wrapped.set_calibration(wrapped.calibration.layers)
    assert wrapped.score(batch(4)[0])[1].valid.all()


@pytest.mark.filterwarnings(
    "ignore:calibrate. layer|the model has takes_detour=|calibrate. [0-9]+ in"
)
def test_calibration_under_several_precisions_is_told() -> None:
    wrapped, low = calibrated(2), torch.autocast("cpu", dtype=torch.bfloat16)

    def mixed(model: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(x[0, 0, 0] > 0)):
            out: Tensor = model(x)
        return out

    batches = [batch(2, seed)[0] for seed in range(8)]
    with pytest.warns(UserWarning, match="ran in bfloat16 and in own precision"):
        wrapped.calibrate(batches, call=mixed)
    with low:
        assert wrapped.score(batches[0])[1].valid.all()
