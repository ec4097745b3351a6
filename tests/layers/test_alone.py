"""Scores that depend on what is beside an input in a batch are told, by the layers' names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

import nervecode
from nervecode.layers import WrappedModel
from nervecode.layers.batch.model_call import ModelCall
from nervecode.layers.batch.padded_ends import padded_ends
from nervecode.layers.checks.recorded_calls import CallRecorder
from nervecode.layers.watched import traced

SIZE, LONGEST = 6, 24
BESIDE = "depends on the others of its batch"
Batch = tuple[Tensor, Tensor]


def sequences(number: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, LONGEST + 1, (number,), generator=generator).tolist()
    return [torch.randn(length, SIZE, generator=generator) for length in lengths]


def with_lengths(some: list[Tensor]) -> Batch:
    return pad_sequence(some, batch_first=True), torch.tensor([len(x) for x in some])


def call(model: nn.Module, batch: Batch) -> Any:
    return model(*batch)


def loader(some: list[Tensor], size: int) -> list[Batch]:
    return [with_lengths(some[i : i + size]) for i in range(0, len(some), size)]


class Packed(nn.Module):
    """Packs its sequences, pads the states again, and pools the real ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(SIZE, 12, batch_first=True)
        self.proj, self.head = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states = self.proj(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])
        real = torch.arange(states.shape[1]) < lengths[:, None]
        return self.head((states * real[..., None]).sum(1) / lengths[:, None])


class Sorting(nn.Module):
    """Sorts its batch by length, and its answer back."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.mlp = nn.GRU(SIZE, 12, batch_first=True), nn.Linear(12, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        lengths, order = lengths.sort(descending=True, stable=True)
        states = self.rnn(pack_padded_sequence(x[order], lengths, batch_first=True))[1][-1]
        return self.head(self.mlp(states)[order.argsort()])


def told(wrapped: WrappedModel, batches: Iterable[Any], **options: Any) -> list[str]:
    """What `calibrate` says."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        wrapped.calibrate(batches, **options)
    return [str(each.message) for each in heard]


def fitted(model: nn.Module, layers: list[str], size: int = 32) -> WrappedModel:
    """Fitted to sequences and their lengths, with labels that tell nothing."""
    return nervecode.wrap(model.eval(), layers).fit(
        loader(sequences(300, 1), size),
        labels=lambda batch: torch.arange(len(batch[1])) % 3,
        num_classes=3,
        call=call,
    )


def p_values(wrapped: WrappedModel, some: list[Tensor], size: int) -> Tensor:
    scores = [wrapped.score(*batch)[1] for batch in loader(some, size)]
    assert all(score.valid.all() for score in scores)
    return torch.cat([score.p_value for score in scores])


def test_layers_that_read_the_padding_of_a_batch_are_left_out() -> None:
    wrapped = fitted(Packed(), ["rnn", "proj", "head"])
    [message] = [w for w in told(wrapped, loader(sequences(300, 2), 32), call=call) if BESIDE in w]
    assert message == (
        "calibrate: layer 'proj' is left out of the score: what is read there of an input depends "
        "on the others of its batch, as where padding is read, while the model's answer does not; "
        "mask= of fit, calibrate and score tells which positions are real"
    )
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["rnn", "head", "head:label"]
    some = sequences(60, 3)
    torch.testing.assert_close(p_values(wrapped, some, 30), p_values(wrapped, some, 1))


def test_a_mask_keeps_them() -> None:
    def mask(batch: Batch) -> Tensor:
        return torch.arange(batch[0].shape[1]) < batch[1][:, None]

    wrapped = nervecode.wrap(Packed().eval(), ["proj", "head"])
    options = {"call": call, "mask": mask}
    wrapped.fit(loader(sequences(300, 1), 32), labels=lambda batch: None, **options)
    assert not [w for w in told(wrapped, loader(sequences(300, 2), 32), **options) if BESIDE in w]
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["proj", "head"]


def test_they_stay_where_no_other_layer_is_there_or_they_were_added_to() -> None:
    batches = loader(sequences(300, 2), 32)
    wrapped = nervecode.wrap(Packed().eval(), ["proj"])
    wrapped.fit(batches, labels=lambda batch: None, call=call)
    [message] = [w for w in told(wrapped, batches, call=call) if BESIDE in w]
    assert message.startswith("calibrate: layer 'proj' is kept in the score, though what is read")
    assert message.endswith("; else p-values hold for batches that are made as those of the "
                            "calibration")  # fmt: skip
    [message] = [w for w in told(wrapped, batches[:3], call=call, add=True) if BESIDE in w]
    assert "is kept in the score" in message


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 32])
def test_a_model_that_sorts_is_seen_where_no_batch_has_several_lengths_at_first(size: int) -> None:
    """Inputs one by one are put together; of a data set sorted by length a later batch is taken."""
    wrapped = fitted(Sorting(), ["mlp", "head"], size)
    some = sorted(sequences(300, 2), key=len)
    same = [x[:3] for x in some[:size]]  # of one length all
    message = told(wrapped, [with_lengths(same), *loader(some, size)], call=call)
    assert any("layer 'mlp' is left out of the score: its rows are in another order" in m
               for m in message)  # fmt: skip
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["head", "head:label"]


def test_batches_of_one_length_each_are_put_together() -> None:
    wrapped = fitted(Sorting(), ["mlp", "head"])
    some = [x for x in sequences(400, 2) if len(x) % 4 == 3]
    by_length = {n: [x for x in some if len(x) == n] for n in {len(x) for x in some}}
    told(wrapped, [with_lengths(part) for part in by_length.values()], call=call)
    assert wrapped.calibration is not None
    assert "mlp" not in wrapped.calibration.layers


class Words(nn.Module):
    """Makes its own mask out of ids, for attention and for its answer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.block, self.head = nn.Embedding(50, 8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, ids: Tensor) -> Tensor:
        real = (ids != 0)[..., None]
        return self.head((self.block(self.words(ids)).relu() * real).sum(1) / real.sum(1))


def texts(number: int, seed: int, places: int | None = None) -> list[Tensor]:
    """In batches of 30, which are padded as far as each needs, or all to as many places."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, LONGEST, (number,), generator=generator).tolist()
    ids = [torch.randint(1, 50, (length,), generator=generator) for length in lengths]
    batches = [pad_sequence(ids[i : i + 30], batch_first=True) for i in range(0, number, 30)]
    if places is None:
        return batches
    return [nn.functional.pad(batch, (0, places - batch.shape[1])) for batch in batches]


def test_padding_that_only_the_model_knows_of_is_told() -> None:
    wrapped = nervecode.wrap(Words().eval(), ["block", "head"]).fit(texts(300, 1))
    [message] = [w for w in told(wrapped, texts(300, 2)) if "padding" in w]
    assert message.startswith("calibrate: layer 'block' is left out of the score: ")
    wrapped = nervecode.wrap(Words().eval(), ["block", "head"]).fit(texts(300, 1, 30))
    [message] = [w for w in told(wrapped, texts(300, 2, 30)) if "padding" in w]
    assert message == (
        "calibrate: at layer 'block' padding is read, which the model's answer does not heed: "
        "p-values hold for inputs that are padded to the same length; mask= of fit, calibrate and "
        "score tells which positions are real"
    )
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["block", "head"]


def convolution() -> nn.Module:
    """Of one place, that reads what zeros become too."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(SIZE, 12, 1), nn.ReLU(), nn.Conv1d(12, 12, 1))


class Pooled(nn.Module):
    """Pools the places of its input (B, T, D) that are not all zeros, wherever they stand."""

    layouts = {  # noqa: RUF012
        "channels last": (lambda x: x, lambda x: x),
        "channels first": (lambda x: x.transpose(1, 2), lambda x: x.transpose(1, 2)),
        "one channel": (lambda x: x[..., 0], lambda x: x[..., None].expand(-1, -1, SIZE)),
    }

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.back, self.block, self.head = self.layouts[layout][1], convolution(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.back(x)
        real = (x != 0).any(2)[:, None]
        return self.head((self.block(x.transpose(1, 2)) * real).sum(2) / real.sum(2))


@pytest.mark.parametrize("layout", Pooled.layouts)
@pytest.mark.parametrize("leads", [False, True])
def test_padding_is_told_at_either_end_and_in_any_layout(layout: str, leads: bool) -> None:
    def batches(seed: int) -> list[Tensor]:
        some = sequences(300, seed)
        both = (pad_sequence(some[i : i + 30], batch_first=True) for i in range(0, 300, 30))
        turn = (lambda x: x.flip(1)) if leads else (lambda x: x)
        return [Pooled.layouts[layout][0](turn(x)) for x in both]

    labels: dict[str, Any] = {"labels": lambda x: torch.arange(len(x)) % 3, "num_classes": 3}
    wrapped = nervecode.wrap(Pooled(layout).eval(), ["block.2", "head"])
    wrapped.fit(batches(1), **labels)
    [message] = [w for w in told(wrapped, batches(2)) if "padding" in w]
    assert message.startswith("calibrate: layer 'block.2' is left out of the score: what is read")
    ids = nervecode.wrap(Words().eval(), ["block", "head"])
    turned = [batch.flip(1) if leads else batch for batch in texts(300, 1)]
    ids.fit(turned, **labels)
    [message] = [w for w in told(ids, turned[::-1]) if "padding" in w]
    assert message.startswith("calibrate: layer 'block' is left out of the score: ")


def test_letters_at_an_end_that_stand_elsewhere_too_are_no_padding() -> None:
    letters = torch.randint(0, 4, (32, 40), generator=torch.Generator().manual_seed(0))
    assert padded_ends(letters, 32) == []
    letters[:16, -5:] = 4
    [end] = padded_ends(letters, 32)
    assert end.counts.tolist() == [5] * 16 + [0] * 16


@pytest.mark.parametrize("leads", [False, True])
def test_an_end_is_cut_from_all_that_has_its_places(leads: bool) -> None:
    x, lengths = with_lengths(sequences(5, 0))  # (B, T, D)
    places = x.shape[1]
    x = x.flip(1) if leads else x
    given = {"x": x.transpose(0, 1), "mask": (x != 0).any(2), "n": lengths, "scale": 2.0}
    [end] = padded_ends(given, 5)
    assert (end.counts.tolist(), end.places) == ((places - lengths).tolist(), places)
    assert (end.leads, end.variety) == (leads, len(lengths.unique()))
    cut = end.cut(given, 5, 3)
    kept = slice(places - 3, places) if leads else slice(3)
    assert torch.equal(cut["x"], x[:, kept].transpose(0, 1))
    assert torch.equal(cut["mask"], given["mask"][:, kept])
    assert torch.equal(cut["n"], lengths) and cut["scale"] == 2.0


class InPlace(nn.Module):
    """Normalises its input where it lies."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block, self.head = nn.Linear(SIZE, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.div_(255).sub_(0.5)
        return self.head(self.block(x).relu())


class Among(InPlace):
    """Attends over a memory that all inputs share."""

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.block(x)
        return self.head((x @ memory.T).softmax(1) @ memory)


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_not_what_the_model_was_given_is_no_input(shared: bool) -> None:
    """Neither what it has written to, nor a memory with as many rows as there are inputs."""
    generator = torch.Generator().manual_seed(0)
    rows = 255 * torch.rand(2, 320, SIZE, generator=generator)
    memory = torch.randn(32, 12, generator=generator)
    model = Among() if shared else InPlace()
    options: dict[str, Any] = {"call": lambda m, x: m(x, memory)} if shared else {}
    wrapped = nervecode.wrap(model.eval(), ["block", "head"])
    labels = {"labels": lambda x: torch.arange(len(x)) % 3, "num_classes": 3}
    wrapped.fit(rows[0].clone().split(32), **labels, **options)
    batches = [*rows[1].clone().split(32)]
    assert not [w for w in told(wrapped, batches, **options) if BESIDE in w]


def test_what_is_shared_is_no_shape_of_an_input() -> None:
    """Whether a batch has as many inputs as the shared tensor has rows, or not."""
    memory, recorder, wrapped = torch.randn(32, 12), CallRecorder(), nervecode.wrap(Among().eval())
    for size in (32, 32, 20):
        call, x = ModelCall(), torch.rand(size, SIZE)
        with call.watching(wrapped.model):
            output, traces = traced(wrapped, lambda x=x: wrapped.model(x, memory), None)
        recorder.record(call, None, output, traces)
    assert recorder.shapes == {((1, SIZE),)}
    assert len(recorder.singles) == 1 and recorder.singles[0].given[1] is memory
    assert recorder.batch is not None and recorder.batch.select([0, 0]).given[1] is memory


def real(batch: Tensor) -> Tensor:
    return batch != 0


def test_padding_that_is_known_or_belongs_to_the_input_is_not_told() -> None:
    wrapped = nervecode.wrap(Words().eval(), ["block", "head"]).fit(texts(300, 1), mask=real)
    assert told(wrapped, texts(300, 2), mask=real) == []

    class Counted(Words):
        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.block(self.words(ids)).relu().mean(1))

    wrapped = nervecode.wrap(Counted().eval(), ["block", "head"]).fit(texts(300, 1))
    assert told(wrapped, texts(300, 2)) == []


class OfBatch(nn.Module):
    """Its second layer is given what depends on the batch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.a, self.b, self.head = nn.Linear(8, 16), nn.Linear(17, 16), nn.Linear(16, 3)
        self.attention = nn.TransformerEncoderLayer(16, 2, 16)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x).relu()
        if self.kind == "attention":
            z = self.attention(z.unflatten(1, (4, 4)).repeat(1, 1, 4)).mean(1)
        if self.kind == "standardised":
            z = (z - z.mean(0)) / (z.std(0, correction=0) + 0.01)
        deviation = z.std(0, correction=0).mean() if self.kind == "deviation" else z.new_zeros(())
        return self.head(self.b(torch.cat([z, deviation.expand(len(z), 1)], 1)).relu())


def vectors(number: int, seed: int) -> list[Tensor]:
    drawn = torch.randn(number, 8, generator=torch.Generator().manual_seed(seed))
    return list(drawn.split(50))


@pytest.mark.parametrize("kind", ["attention", "standardised", "deviation"])
def test_a_model_whose_answer_depends_on_its_batch_is_told(kind: str) -> None:
    wrapped = nervecode.wrap(OfBatch(kind).eval(), ["a", "b"]).fit(vectors(300, 1))
    [message] = [w for w in told(wrapped, vectors(300, 2)) if BESIDE in w]
    assert message.startswith(
        f"calibrate: what is read at layer 'b' of an input {BESIDE}, and so does the model's answer"
    )
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["a", "b"]
    moved = wrapped.score(vectors(300, 2)[0])[1].p_value[:1]
    assert not torch.allclose(moved, wrapped.score(vectors(300, 2)[0][:1])[1].p_value)
    wrapped = nervecode.wrap(OfBatch(kind).eval(), ["a", "b"]).fit(vectors(300, 1))
    one_by_one = [x[None] for batch in vectors(120, 2) for x in batch]
    assert len([w for w in told(wrapped, one_by_one) if BESIDE in w]) == 1


def test_a_model_that_does_not_depend_on_it_is_not_told() -> None:
    wrapped = nervecode.wrap(OfBatch("none").eval(), ["a", "b"]).fit(vectors(300, 1))
    assert told(wrapped, vectors(300, 2)) == []
    assert told(wrapped, [x[None] for batch in vectors(300, 3) for x in batch]) == []


class Restless(OfBatch):
    """Adds noise, of each input or of the batch."""

    def __init__(self, rows: bool) -> None:
        super().__init__("none")
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn(len(x) if self.rows else 1, 8))


@pytest.mark.parametrize("rows", [True, False])
def test_noise_is_not_taken_for_it(rows: bool) -> None:
    wrapped = nervecode.wrap(Restless(rows).eval(), ["a", "b"]).fit(vectors(300, 1))
    assert told(wrapped, vectors(300, 2)) == []


class Rounding(nn.Module):
    """Activations that hardly differ, which another kernel rounds otherwise in small batches."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.step = nn.Linear(8, 16), 2e-3 if dtype is torch.float32 else 2e-2
        nn.init.normal_(self.a.weight, std=1e-3 if dtype is torch.float32 else 1e-2)
        nn.init.constant_(self.a.bias, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if len(x) > 4 else (1 + self.step) * self.a(x)


class Rounded(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.a = Rounding(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_not_taken_for_it(dtype: torch.dtype) -> None:
    model = Rounded(dtype).eval().to(dtype)
    wrapped = nervecode.wrap(model, ["a"]).fit([x.to(dtype) for x in vectors(300, 1)])
    assert not [w for w in told(wrapped, [x.to(dtype) for x in vectors(300, 2)]) if BESIDE in w]


def test_inputs_that_cannot_be_put_together_are_told() -> None:
    """Of different lengths, which the answer heeds."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(SIZE, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x).relu().mean(1)

    some = [torch.randn(1, 3 + n, SIZE) for n in range(120)]
    wrapped = nervecode.wrap(Mean().eval(), ["a"]).fit(some)
    assert told(wrapped, some[1:]) == [
        "calibrate: all batches were of one input, and no other could be made of them to see "
        "whether what is read of an input depends on others beside it: score one by one, too",
        *[w for w in told(wrapped, some[1:]) if "fitted to" in w],
    ]


class Listed(nn.Module):
    """Takes a list of pictures, of which it makes a batch, and gives as many mappings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bias = nn.Parameter(torch.ones(4))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        sizes = torch.tensor([image.shape[1:] for image in images]).amax(0).tolist()
        batch = images[0].new_zeros(len(images), 1, *sizes)
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image
        found = (self.conv(batch) + self.bias[:, None, None]).mean((2, 3))
        return [{"boxes": each[None]} for each in found]


def pictures(number: int, seed: int, same: bool) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(6, 20, (number, 2), generator=generator).tolist()
    images = [torch.rand(1, *((9, 9) if same else s), generator=generator) for s in sizes]
    return [images[i : i + 5] for i in range(0, number, 5)]


@pytest.mark.parametrize("same", [True, False])
def test_lists_of_pictures_are_looked_at_too(same: bool) -> None:
    wrapped = nervecode.wrap(Listed().eval(), ["conv"]).fit(pictures(150, 1, same))
    messages = [w for w in told(wrapped, pictures(150, 2, same)) if BESIDE in w]
    assert len(messages) == (0 if same else 1)


def test_precision_of_the_call_is_kept() -> None:
    """Where `call` switches autocast on, other calls are made within it too."""
    seen = []

    class Seeing(OfBatch):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    def cast(model: nn.Module, batch: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(batch)

    wrapped = nervecode.wrap(Seeing("none").eval(), ["a", "b"]).fit(vectors(300, 1), call=cast)
    assert told(wrapped, vectors(300, 2), call=cast) == []
    assert all(seen)
    assert len(seen) == 6 + 6 + 1 + 4
