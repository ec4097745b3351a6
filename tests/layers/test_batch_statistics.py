"""Batch normalisation without running statistics is told, once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.layers import WrappedModel
from nervecode.layers.checks.batch_statistics import remark_on_statistics

WORDS = "keeps no running statistics and normalises by those of each batch"


def data(seed: int = 0) -> Tensor:
    return torch.randn(120, 6, generator=torch.Generator().manual_seed(seed))


class OnCpu(nn.SyncBatchNorm):
    """SyncBatchNorm, which refuses the CPU before it does this."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is None
        return nn.functional.batch_norm(x, None, None, training=True)


def net(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Sequential(norm), nn.ReLU(), nn.Linear(8, 3)).eval()


def told(wrapped: WrappedModel, *stages: str) -> list[str]:
    """What is said of the norm at each of some stages."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for stage in stages:
            if stage == "fit":
                wrapped.fit([(data(), torch.arange(120) % 3)])
            else:
                wrapped.calibrate([data(1)])
    return [str(each.message) for each in heard if WORDS in str(each.message)]


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, OnCpu])
def test_the_first_such_layer_is_told_once(kind: type[nn.Module]) -> None:
    model = net(kind(8, track_running_stats=False)).append(nn.BatchNorm1d(3, affine=False))
    model.append(nn.BatchNorm1d(3, track_running_stats=False))
    wrapped = nervecode.wrap(model.eval())
    [message] = told(wrapped, "fit", "calibrate", "fit", "calibrate")
    assert message.startswith(f"fit: layer '1.0' {WORDS}: what the model returns for an input, ")
    assert message.endswith(f"; {kind.__name__} with track_running_stats=True does not")
    x = data(2)
    alone, among = wrapped.score(x[:2])[1].p_value, wrapped.score(x)[1].p_value[:2]
    assert alone.isfinite().all() and among.isfinite().all()
    assert not torch.allclose(alone, among)  # as it was told
    assert len(told(nervecode.wrap(model), "calibrate")) == 1  # of learned codes


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(8),
        nn.BatchNorm1d(8, affine=False),
        nn.LazyBatchNorm1d(),
        nn.LayerNorm(8),
        nn.Sequential(nn.Unflatten(1, (2, 4)), nn.InstanceNorm1d(2), nn.Flatten()),
    ],
)
def test_norms_that_do_not_mix_inputs_are_not_told(norm: nn.Module) -> None:
    assert told(nervecode.wrap(net(norm)), "fit", "calibrate") == []


def test_a_model_that_is_such_a_norm_is_told_as_the_model() -> None:
    norm = nn.SyncBatchNorm(8, track_running_stats=False)
    assert remark_on_statistics(norm).startswith(f"the model {WORDS}: ")
    assert remark_on_statistics(nn.SyncBatchNorm(8)) == ""


def test_dynamic_quantisation_is_told() -> None:
    """One range holds for all inputs of a batch."""
    plain = net(nn.LayerNorm(8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own successor
        model = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    assert remark_on_statistics(plain) == ""
    assert remark_on_statistics(model) == (
        "layer '0' is quantised dynamically, in steps of the range of all its batch: what the "
        "model returns for an input, and so its p-value, depends on the others of its batch, above "
        "all beside one that is far from all others; static quantisation does not"
    )
    x = data(3)
    beside = torch.cat([x, 100 * x[:1]])
    assert torch.allclose(plain(x), plain(beside)[:-1])
    assert not torch.allclose(model(x), model(beside)[:-1], atol=0.1)
