"""Sketches of inputs: what was seen is known again however it was batched, and nothing else is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from nervecode.layers.batch import sketch
from nervecode.layers.batch.sketch import InputSketch, _mixed, input_hashes


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(x: torch.Tensor, batch: int) -> InputSketch:
    found = InputSketch()
    for part in x.split(batch):
        found.add(input_hashes([(part,), {}]))
    return found


def test_order_and_batches_leave_no_trace() -> None:
    x = rows(200, 3, 8, 8)
    expected = seen(x, 32).hashes
    assert len(expected) == 200
    assert torch.equal(seen(x[torch.randperm(200)], 7).hashes, expected)
    assert torch.equal(seen(torch.cat([x, x]), 50).hashes, expected)
    halves = InputSketch(seen(x[:120], 9).hashes)
    halves.add(seen(x[80:], 9).hashes)
    assert torch.equal(halves.hashes, expected)


@pytest.mark.parametrize("size", [1 << 14, 128])
def test_the_share_that_was_seen(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "SIZE", size)
    x = rows(5000, 6)
    found = seen(x[:4000], 100)
    assert len(found.hashes) == min(size, 4000)
    assert found.share_of(input_hashes(x[4000:])) == 0
    assert found.share_of(input_hashes(x[:1000])) == 1
    assert found.share_of(input_hashes(x[3500:4500])) == pytest.approx(
        0.5, abs=0.36
    )  # 4 deviations
    assert found.share_of(torch.empty(0, dtype=torch.int64)) == 0
    assert InputSketch().share_of(input_hashes(x)) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "SIZE", 64)
    found, whole = InputSketch(), []
    for seed in range(40):
        whole.append(input_hashes(rows(100, 3, seed=seed)))
        found.add(whole[-1])
        assert sum(map(len, found._parts)) <= 8 * 64 + 64
    assert torch.equal(found.hashes, torch.cat(whole).unique()[:64])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 1e-6,
        lambda x: x.flip(1),
        lambda x: x.roll(1, 0)[:, [1, 0, 2]],
        lambda x: torch.where(torch.arange(3) == 1, 7.0, x),
    ],
)
def test_other_values_have_other_hashes(change: object) -> None:
    x = rows(100, 3)
    other = change(x)  # type: ignore[operator]
    assert not torch.isin(input_hashes(x), input_hashes(other)).any()


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "bfloat16", "complex64", "int64", "uint8", "bool"]
)
def test_inputs_of_any_type(dtype: str) -> None:
    x = (100 * rows(64, 40)).abs().to(getattr(torch, dtype))
    if dtype == "bool":
        x = rows(64, 40) > 0
    assert len(input_hashes(x).unique()) == 64
    assert torch.equal(input_hashes(x)[3:4], input_hashes(x[3:4]))


def test_padding_with_zeros_and_the_sign_of_zero_leave_no_trace() -> None:
    ids, mask = torch.randint(1, 99, (5, 7)), torch.ones(5, 7, dtype=torch.bool)
    padded = [nn.functional.pad(t, (0, 3)) for t in (ids, mask)]
    short = input_hashes([(), {"input_ids": ids, "mask": mask}])
    assert torch.equal(short, input_hashes([(), {"input_ids": padded[0], "mask": padded[1]}]))
    zero = torch.tensor([[0.0, 1.0]])
    assert torch.equal(input_hashes(zero), input_hashes(zero * torch.tensor([-1.0, 1.0])))


def test_all_arguments_count() -> None:
    x, y = rows(5, 4), rows(5, 2, seed=1)
    both = input_hashes([(x,), {"y": y}])
    assert not torch.isin(both, input_hashes([(x,), {"y": y + 1}])).any()
    assert not torch.isin(both, input_hashes([(y,), {"y": x}])).any()
    assert torch.equal(input_hashes([(x, torch.tensor(3), 2, None), {}]), input_hashes(x))
    images = [rows(3, 4, 4), rows(3, 5, 6)]
    assert torch.equal(input_hashes([(images,), {}]).flip(0), input_hashes([(images[::-1],), {}]))
    assert len(input_hashes(pack_sequence([x[0]]))) == len(input_hashes(x.to_sparse())) == 0


@pytest.mark.slow
@pytest.mark.parametrize("value", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_every_value_of_wide_and_sparse_inputs_counts(dtype: torch.dtype, value: float) -> None:
    """Any of the 50,000 words of a bag tells it apart, whatever the blocks."""
    words = torch.randperm(50_000, generator=torch.Generator().manual_seed(0))[:600]
    bags = torch.zeros(600, 50_000, dtype=dtype).scatter_(1, words[:, None], value)
    assert len(input_hashes(bags).unique()) == 600
    assert torch.equal(input_hashes(bags[:3]), input_hashes(bags)[:3])


def test_hashes_of_blocks_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(3, 50)
    words, factors = x.view(torch.int32), _mixed(torch.arange(1, 51)) | 1
    sums = [sum(int(w) * int(f) for w, f in zip(row, factors, strict=True)) for row in words]
    signed = torch.tensor([(total + 2**63) % 2**64 - 2**63 for total in sums])
    for block in (1, 7, 1 << 19):
        monkeypatch.setattr(sketch, "BLOCK", block)
        assert torch.equal(input_hashes(x), _mixed(signed + 1))


def test_a_sketch_watches_the_calls_of_a_model() -> None:
    model, x = nn.Linear(4, 2), rows(6, 4)
    found = InputSketch()
    with found.watching(model):
        model(x)
    model(x + 1)
    assert torch.equal(found.hashes, input_hashes(x).unique())
    assert not model._forward_pre_hooks and not model._forward_pre_hooks_with_kwargs


@pytest.mark.parametrize(("size", "error"), [(1 << 14, 0), (1024, 0.12)])
def test_different_inputs_are_counted(
    size: int, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketch, "SIZE", size)
    x = rows(5000, 6)
    twice = seen(torch.cat([x, x[:2000]]), 100)
    assert twice.added == 7000
    assert abs(twice.distinct - 5000) <= error * 5000  # four deviations of 1 / sqrt(1024)
    assert InputSketch().distinct == 0
