"""Eight threads score through one wrapped model: every result is that of one thread alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import nervecode


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
