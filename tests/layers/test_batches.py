"""Batches of any loader: what is read as inputs, what as labels, and what is refused in words."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from nervecode.errors import InputError, NotReadyError
from nervecode.layers.batch.batches import read_batches

X = torch.arange(24.0).reshape(6, 4)
Y = torch.arange(6) % 3


class Echo(nn.Module):
    """Returns what it was given, of whatever dtype; has a parameter of float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


class Text(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        return input_ids, attention_mask


class Images(nn.Module):
    def forward(self, images: list[Tensor], targets: Any = None) -> Any:
        assert targets is None
        return images


class BatchEncoding(UserDict):
    """As the tokenizers of `transformers` give it: a mapping that is no dict."""

    def to(self, device: torch.device) -> BatchEncoding:
        self.data = {key: value.to(device) for key, value in self.data.items()}
        return self


def read(batch: Any, model: nn.Module | None = None, **options: Any) -> tuple[Any, Tensor | None]:
    """What the model returns for a batch, and the batch's labels."""
    [found] = read_batches(iter([batch]), model or Echo(), **options)
    return found.run(), found.labels


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("batch", "args", "kwargs", "labels"),
    [
        (X, (X,), {}, None),
        ((X,), (X,), {}, None),
        ([X], (X,), {}, None),
        ((X, Y), (X,), {}, Y),
        ([X, Y], (X,), {}, Y),
        (Point(X, Y), (X,), {}, Y),
        ((X, None), (X,), {}, None),
        ((X, Y[:, None]), (X,), {}, Y),
        ((X, Y.tolist()), (X,), {}, Y),
        ((X, tuple(Y)), (X,), {}, Y),
        ((X, Y.numpy()), (X,), {}, Y),
        (X.numpy(), (X,), {}, None),
        ((X.double().numpy(), Y.numpy()), (X.double(),), {}, Y),
        (X.numpy().astype(">f8"), (X.double(),), {}, None),
        ({"a": X, "labels": Y}, (), {"a": X}, Y),
        ({"a": X, "label": Y}, (), {"a": X}, Y),
        ([{"a": X, "label": Y}], (), {"a": X}, Y),
        ({"a": X, "b": [X, Y]}, (), {"a": X, "b": [X, Y]}, None),
        (({"a": X.numpy()}, Y), (), {"a": X}, Y),
        (BatchEncoding({"a": X, "labels": Y}), (), {"a": X}, Y),
        ((BatchEncoding({"a": X}), Y), (), {"a": X}, Y),
        (([X, X[:, :2]], Y[:2]), ([X, X[:, :2]],), {}, Y[:2]),
        (((X, X[:, :2]), ({"boxes": X}, {"boxes": Y})), ([X, X[:, :2]],), {}, None),
        ([X, X[:3], X], ([X, X[:3], X],), {}, None),
        (Y, (Y,), {}, None),
    ],
)
def test_what_a_batch_says(batch: Any, args: Any, kwargs: Any, labels: Any) -> None:
    output, found = read(batch)
    assert equal(output, (args, kwargs))
    assert (found is None) == (labels is None)
    assert labels is None or equal(found, labels)


@pytest.mark.parametrize("kind", ["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32"])
def test_labels_of_every_whole_number_type(kind: str) -> None:
    for labels in (Y.to(getattr(torch, kind)), Y.numpy().astype(kind)):
        assert equal(read((X, labels))[1], Y)
    assert equal(read((X, Y > 0))[1], (Y > 0).long())
    assert equal(read((X, (Y > 0).numpy()))[1], (Y > 0).long())


def test_packed_sequences_are_inputs() -> None:
    packed = pack_sequence([X[0], X[1, :2]])
    for batch, labels in ((packed, None), ((packed.to(torch.float64), Y[:2]), Y[:2])):
        (args, _), found = read(batch)
        assert isinstance(args[0], PackedSequence)
        assert equal(args[0].data, (packed if labels is None else batch[0]).data)
        assert labels is None or equal(found, labels)


def test_a_model_that_says_so_takes_a_list_of_two_images() -> None:
    images = [torch.rand(3, 4, 4), torch.rand(3, 5, 5)]
    assert equal(read(images, Images())[0], images)
    assert equal(read((images, [{}, {}]), Images())[0], images)


def test_a_call_and_labels_for_every_other_batch() -> None:
    mask = torch.ones(6, 4)
    output, labels = read(
        (X.double(), mask, Y.double()),
        call=lambda model, batch: model(batch[0], mask=batch[1]),
        labels=lambda batch: batch[2].long(),
    )
    assert equal(output, ((X.double(),), {"mask": mask}))
    assert equal(labels, Y)
    assert read((X, mask, Y), call=lambda model, batch: model(batch[0]))[1] is None
    assert read((X, Y), call=lambda model, batch: model(batch[0]))[1] is None
    assert equal(read((X, Y), call=lambda m, b: m(b[0]), labels=lambda b: b[1])[1], Y)

    encoding = BatchEncoding({"a": X, "label": Y})
    output, labels = read(encoding, call=lambda model, batch: model(batch["a"], batch))
    assert isinstance(output[0][1], BatchEncoding) and output[0][1] is not encoding
    assert equal(labels, Y)


def test_labels_by_their_key_or_from_the_batch() -> None:
    output, labels = read({"a": X, "target": Y}, labels="target")
    assert equal(output, ((), {"a": X})) and equal(labels, Y)
    output, labels = read((X, X[:, 0]), labels=lambda batch: batch[1] > 8)
    assert equal(output, ((X,), {})) and equal(labels, (X[:, 0] > 8).long())
    assert read((X, X), labels=lambda batch: None)[1] is None
    assert equal(read({"a": X, "labels": X}, labels=lambda batch: Y), (((), {"a": X}), Y))


OTHERS = "for others pass call=lambda model, batch: ... and labels=lambda batch: ..."


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((X, torch.ones(6, 4), Y), "found 3 parts, float32 tensor of shape (6, 4), float32 tens"),
        ((X, torch.ones(6, 4), Y), OTHERS),
        ((X, Y > 0, Y, Y), "found 4 parts, float32 tensor of shape (6, 4), bool tensor of shape"),
        ((X, X), "labels: found float32 tensor of shape (6, 4), allowed: (B,) whole numbers; "),
        ((X, X[:, 0]), "x alone or labels=lambda batch: None gives codes without classes"),
        ((X, torch.zeros(6, 8, 8).long()), "labels: found int64 tensor of shape (6, 8, 8), allo"),
        ((X, X[:, 0].numpy()), "labels: found float32 array of shape (6,), allowed: (B,) whole"),
        ((X, ["a", "b"]), "labels: found <U1 array of shape (2,), allowed: (B,) whole numbers"),
        ((X, [[1], [1, 2]]), "labels: found list (list (int), list (int, int)), allowed: (B,)"),
        (
            (X[0].numpy(), Y[0]),
            "found float32 tensor of shape (4,), allowed: (B, ...); a batch of one",
        ),
        ((X, Y[0]), "found int64 tensor of shape () of a single input: a DataLoader makes batche"),
        ((X, "cat"), "labels: found str, allowed: (B,) whole numbers"),
        (X[0], "found float32 tensor of shape (4,), allowed: (B, ...); a batch of one input is x["),
        ("cat", "found str, allowed: x, (x, labels), a mapping or (mapping, labels); for others"),
        (None, "found NoneType, allowed: x"),
        ((), "found tuple (), allowed: x"),
        ((["cat"], Y), "position 0: found list (str), allowed: x"),
        (({"labels": Y}, Y), "key 'labels' and position 1: found labels in both, allowed: x"),
        ({"label": Y, "labels": Y}, "keys 'labels' and 'label': found both, allowed: one"),
        (np.array(["a"]), "found <U1 array of shape (1,), allowed: an array of numbers"),
    ],
)
def test_what_is_refused_and_in_which_words(batch: Any, words: str) -> None:
    loader = [X, batch]
    with pytest.raises(InputError) as caught:
        [found.run() for found in read_batches(loader, Echo(), stage="calibrate")]
    assert str(caught.value).startswith("calibrate: batch 1: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "options", "words"),
    [
        ({"input_id": Y}, {}, "key 'input_id': no argument of Text.forward; did you mean 'input_i"),
        ({"attention_mask": Y}, {}, "but Text.forward: missing a required argument: 'input_ids'; "),
        ({3: Y}, {}, "key 3: no argument of Text.forward"),
        ({"input_ids": Y}, {"labels": "label"}, "labels='label': no such key; Allowed: input_ids"),
        ((X, Y), {"labels": "label"}, "labels='label': found tuple (float32 tensor of shape (6, "),
        (Y, {"labels": lambda batch: X}, "labels: found float32 tensor of shape (6, 4), allowed"),
    ],
)
def test_keys_are_checked_against_the_model(
    batch: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(batch, Text(), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("batch", [((X, X), Y), [X, X, X]])
def test_a_list_for_a_model_that_takes_none_is_refused(batch: Any) -> None:
    with pytest.raises(
        InputError, match=r"Linear takes no list of tensors .*; for others pass cal"
    ):
        read(batch, nn.Linear(4, 3))


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter([X, X])


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (X, "fit: found float32 tensor of shape (6, 4), allowed: an iterable of batches, such as"),
        (X.numpy(), "fit: found float32 array of shape (6, 4), allowed: an iterable of batches"),
        ((X, Y), "fit: found (x, labels), allowed: an iterable of batches, such as a DataLoader o"),
        ([X, Y.numpy()], "a list: [(x, labels)]"),
        (({"a": X}, Y), "fit: found (x, labels)"),
        ({"a": X}, "fit: found dict, allowed: an iterable of batches"),
        (TensorDataset(X, Y), "fit: found a TensorDataset, allowed: an iterable of batches, such"),
        (3, "fit: found int, allowed: an iterable of batches"),
    ],
)
def test_what_is_no_loader(loader: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        list(read_batches(loader, Echo()))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: [X, X], 2),
        (lambda: (X, X), 2),
        (Stream, 2),
        (lambda: DataLoader(TensorDataset(X, Y), 5), 2),  # the last batch has one input
        (lambda: DataLoader(Stream(), None), 2),
        (lambda: (batch for batch in [X]), 1),
    ],
)
def test_what_is_a_loader(make: Callable[[], Any], count: int) -> None:
    assert len(list(read_batches(make(), Echo()))) == count


def test_an_empty_loader_is_told_and_why_an_iterator_may_be() -> None:
    with pytest.raises(NotReadyError, match=r"calibrate: the loader gave no batch$"):
        list(read_batches([], Echo(), stage="calibrate"))
    used = iter([X])
    list(read_batches(used, Echo()))
    with pytest.raises(NotReadyError, match="no batch; an iterator gives its batches once"):
        list(read_batches(used, Echo()))
