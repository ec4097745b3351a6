"""Codes that nothing is nearest to are put on inputs, and stay in use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nervecode import WrappedModel, wrap
from nervecode.errors import InputError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.splits import build_splits
from nervecode.lab.machine.progress import Progress
from nervecode.lab.schema import SignalConfig
from nervecode.lab.trainer.build import build_trainer
from nervecode.lab.trainer.revive import revive
from nervecode.layers.coders.learned import LearnedCoder


def watched() -> tuple[WrappedModel, dict[str, LearnedCoder], Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    wrapped = wrap(model, "all_linear", num_codes=5, coding_dim=2)
    coders = {n: c for n, c in wrapped.coders.items() if isinstance(c, LearnedCoder)}
    return wrapped, coders, torch.randn(7, 4)


def test_dead_codes_are_put_on_inputs_and_the_others_stay() -> None:
    wrapped, coders, x = watched()
    _, traces = wrapped.forward_with_trace(x)
    before = [coder.codebook.centres.detach().clone() for coder in coders.values()]
    used = {name: torch.tensor([3, 0, 1, 0, 9]) for name in traces}
    assert revive(wrapped, traces, used, torch.Generator().manual_seed(0)) == 4
    for coder, was, trace in zip(coders.values(), before, traces.values(), strict=True):
        now = coder.codebook.centres.detach()
        assert torch.equal(now[[0, 2, 4]], was[[0, 2, 4]])
        for centre in now[[1, 3]]:
            assert (trace.vector == centre).all(1).any()


def test_where_every_code_is_used_nothing_moves() -> None:
    wrapped, coders, x = watched()
    _, traces = wrapped.forward_with_trace(x)
    before = [coder.codebook.centres.detach().clone() for coder in coders.values()]
    used = {name: torch.ones(5) for name in traces}
    assert revive(wrapped, traces, used, torch.Generator()) == 0
    for coder, was in zip(coders.values(), before, strict=True):
        assert torch.equal(coder.codebook.centres, was)


def test_a_repeated_layer_counts_all_its_calls() -> None:
    shared = nn.Linear(4, 4)
    wrapped = wrap(nn.Sequential(shared, nn.ReLU(), shared), "all_linear", num_codes=3)
    _, traces = wrapped.forward_with_trace(torch.randn(5, 4))
    assert len(traces) == 2
    first, second = (torch.tensor(counts) for counts in ([2, 0, 0], [0, 4, 0]))
    used = dict(zip(traces, (first, second), strict=True))
    assert revive(wrapped, traces, used, torch.Generator()) == 1


def in_use(*overrides: str) -> list[float]:
    """The share of its codes that each codebook uses in the last of some epochs."""
    config = resolve(preset="toy", overrides=["train.epochs=6", *overrides]).config
    trainer = build_trainer(config, build_splits(config.data), 0, device=torch.device("cpu"))
    for number in range(1, 7):
        trainer.epoch(number, Progress())
    return [float(str(r["utilisation"])) for r in trainer.layer_rows if r["epoch"] == 6]


@pytest.mark.slow
def test_a_training_with_revival_uses_more_codes() -> None:
    without, with_it = in_use(), in_use("signals.nervecode.revive=true")
    assert sum(with_it) > sum(without)
    assert in_use("signals.nervecode.revive=true") == with_it


def test_a_training_without_it_is_the_one_that_it_was() -> None:
    plain = resolve(preset="toy").config.training_inputs()
    assert "revive" not in plain["signals"]["nervecode"]
    revived = resolve(preset="toy", overrides=["signals.nervecode.revive=true"]).config
    assert revived.training_inputs()["signals"]["nervecode"]["revive"] is True


def test_fitted_codes_are_not_revived() -> None:
    with pytest.raises(ValueError, match="revive needs recipe 'v0_1_1'"):
        SignalConfig(revive=True)
    with pytest.raises(InputError, match=r"signals\.nervecode: revive needs recipe 'v0_1_1'"):
        resolve(preset="digits", overrides=["signals.nervecode.revive=true"])
