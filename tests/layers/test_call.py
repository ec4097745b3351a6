"""How many inputs a call has, by its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from nervecode.layers.call import batch_of

X = torch.zeros(4, 3)
IMAGES = [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)]


@pytest.mark.parametrize(
    ("args", "kwargs", "sizes"),
    [
        ((X,), {}, (4,)),
        ((), {"input_ids": X}, (4,)),
        (({"input_ids": X, "labels": X[:2]},), {}, (4,)),
        ((torch.tensor(0.5), X), {}, (4,)),
        ((None, "text", 3), {"x": X}, (4,)),
        (((X, X[:, :2]),), {}, (4, 2)),
        ((IMAGES,), {}, (3, 2)),  # as many channels: the layers will tell
        (([torch.zeros(3, 8, 8), torch.zeros(1, 8, 9)],), {}, (2,)),
        ((["one", "two", "three"],), {}, (3,)),
        (([{"image": IMAGES[0]}, {"image": IMAGES[1]}],), {}, (3, 2)),
        ((pack_sequence([X[:3], X[:2]]),), {}, (2,)),
        (({"nothing": None},), {}, ()),
        ((), {}, ()),
    ],
)
def test_the_first_argument_that_tells(args: Any, kwargs: Any, sizes: tuple[int, ...]) -> None:
    assert batch_of(args, kwargs).sizes == sizes


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors() -> None:
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([X[:3], X[:2]], layout=layout)
        assert batch_of((nested,), {}).sizes == (2,)


def test_a_model_with_sequence_first_parts_may_be_so_itself() -> None:
    assert batch_of((torch.zeros(5, 4, 3),), {}, sequence_first=True).sizes == (5, 4)
    assert batch_of((torch.zeros(5),), {}, sequence_first=True).sizes == (5,)
