"""Eight threads score through one wrapped model: every result is that of one thread alone."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import NotReadyError


def outcome(wrapped: nervecode.WrappedModel, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        logits, traces = wrapped.forward_with_trace(x)
        found = wrapped.aggregate(traces)
    return logits, found.surprise, found.percentile, found.p_value, found.by_layer


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_result_is_that_of_a_single_thread(count: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    data = [(torch.randn(32, 4), torch.randint(3, (32,))) for _ in range(8)]
    wrapped = nervecode.wrap(model.eval(), layers="all_linear").fit(data).calibrate(data)
    batches = [torch.randn(1 + i % 5, 4) for i in range(count)]
    alone = [outcome(wrapped, x) for x in batches]
    # In a thread's first call PyTorch has not yet told the BLAS how many cores it may use, on which
    # the last bit of a product depends.
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(8, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        together = list(pool.map(lambda x: outcome(wrapped, x), batches))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_a_compiled_model_keeps_the_surprise_of_each_thread() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    data = [(torch.randn(60, 4), torch.arange(60) % 3) for _ in range(2)]
    wrapped = nervecode.wrap(model.eval(), layers="all_linear").fit(data).calibrate(data)
    compiled = torch.compile(wrapped, backend="eager", fullgraph=True)
    first, second = torch.randn(5, 4), torch.randn(5, 4)
    with torch.no_grad():
        expected = [wrapped.score(x)[1].score for x in (first, second)]
        with ThreadPoolExecutor(1) as other:
            compiled(first)
            other.submit(torch.no_grad()(compiled), second).result()
            found = [wrapped.surprise().score, other.submit(wrapped.surprise).result().score]
            other.submit(wrapped.unwrap).result()
    for surprise, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(surprise, alone)


@pytest.mark.slow
def test_a_bypass_is_of_its_own_thread() -> None:
    torch.manual_seed(0)
    data = [(torch.randn(60, 4), torch.arange(60) % 3)]
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    wrapped = nervecode.wrap(model.eval(), layers="all_linear").fit(data).calibrate(data)
    compiled = torch.compile(wrapped, backend="eager", fullgraph=True)
    x = torch.randn(5, 4)
    with ThreadPoolExecutor(1) as other, wrapped.bypass():
        assert other.submit(wrapped.score, x).result()[1].valid.all()
        assert not wrapped.score(x)[1].valid.any()
        compiled(x)
        with pytest.raises(NotReadyError), copy.deepcopy(wrapped).bypass():
            wrapped.surprise()
        assert copy.deepcopy(wrapped).score(x)[1].valid.all()
        other.submit(compiled, x).result()
        assert other.submit(wrapped.surprise).result().valid.all()
    compiled(x)
    assert wrapped.surprise().valid.all()
