"""How many inputs a call has, by its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from nervecode.core import BatchShape
from nervecode.layers.batch.arguments import Arguments, agreed_size, masked_parts

X = torch.zeros(4, 3)
IMAGES = [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)]


class Takes(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> None: ...


class TakesMask(nn.Module):
    def forward(self, input_ids: Any, attention_mask: Any = None) -> None: ...


TAKES = Arguments(Takes())


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
    assert TAKES.batch(args, kwargs).sizes == sizes


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors() -> None:
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([X[:3], X[:2]], layout=layout)
        assert TAKES.batch((nested,), {}).sizes == (2,)


def test_a_model_with_sequence_first_parts_may_be_so_itself() -> None:
    arguments = Arguments(nn.LSTM(3, 4))
    assert arguments.batch((torch.zeros(5, 4, 3),), {}).sizes == (5, 4)
    assert arguments.batch((torch.zeros(5),), {}).sizes == (5,)
    assert Arguments(nn.LSTM(3, 4, batch_first=True)).batch((X,), {}).sizes == (4,)


MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("model", "args", "kwargs"),
    [
        (TakesMask(), (X, MASK), {}),
        (TakesMask(), (X,), {"attention_mask": MASK.float()}),
        (TakesMask(), (X, (1 - MASK) * -1e9), {}),
        (TakesMask(), (X, MASK.double().log()), {}),
        (Takes(), (X,), {"attention_mask": MASK}),
        (Takes(), ({"input_ids": X, "attention_mask": MASK},), {}),
        (Takes(), (X,), {"src_key_padding_mask": MASK == 0}),
        (Takes(), (X,), {"src_key_padding_mask": (MASK == 0) * torch.tensor(-1e9)}),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1), 1), (X, None, MASK == 0), {}),
    ],
)
def test_the_mask_of_a_call(model: nn.Module, args: Any, kwargs: Any) -> None:
    mask = Arguments(model).batch(args, kwargs).mask
    assert mask is not None
    assert torch.equal(mask, MASK.bool())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_a_mask_that_is_added_to_logits_may_have_no_padding(dtype: torch.dtype) -> None:
    for rows in (0, 2):
        mask = Arguments(TakesMask()).mask((X, torch.zeros(rows, 3, dtype=dtype)), {})
        assert mask is not None
        assert torch.equal(mask, torch.ones(rows, 3, dtype=torch.bool))


def test_parts_that_a_model_may_tell_of_padding() -> None:
    layer = nn.TransformerEncoderLayer(4, 1, batch_first=True)
    model = nn.ModuleDict({"a": nn.TransformerEncoder(layer, 2), "b": nn.MultiheadAttention(4, 1)})
    parts = masked_parts(model)
    assert list(parts) == ["a", "b"]
    assert masked_parts(layer) == {}  # of the model itself the call tells
    x, attention = torch.zeros(2, 3, 4), Arguments(parts["b"])
    mask = attention.mask((x, x, x), {"key_padding_mask": MASK == 0})
    assert mask is not None
    assert torch.equal(mask, MASK.bool())
    assert not attention.attends_elsewhere((x, x, x), {})
    assert attention.attends_elsewhere((x, x + 1, x), {})


def test_no_mask() -> None:
    assert Arguments(TakesMask()).batch((X,), {}).mask is None
    assert Arguments(nn.Linear(3, 4)).batch((X,), {}).mask is None


def test_the_output_or_most_of_the_layers_agree_on_a_size() -> None:
    batch = BatchShape()
    rows = {"a": 7, "b": 7, "c": 3}
    assert agreed_size(rows, batch, None) == 7
    assert agreed_size(rows, batch, torch.zeros(3, 2)) == 3
    assert agreed_size(rows, batch, torch.zeros(5, 2)) == 7
    assert agreed_size(rows, BatchShape((3, 7)), torch.zeros(3, 9, 2)) == 7


def test_answers_and_pieces_of_a_batch_tell_its_size() -> None:
    rows, batch = {"a": 7, "a#2": 7, "a#3": 2, "b": 7}, BatchShape()
    assert agreed_size(rows, batch, torch.zeros(5, 2), 5) == 5
    assert agreed_size(rows, BatchShape((7, 16)), torch.zeros(5, 2), 5) == 7
    assert agreed_size(rows, batch, torch.zeros(16, 2)) == 16
    assert agreed_size(rows, batch, torch.zeros(9, 2)) == 7
