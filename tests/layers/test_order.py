"""A layer whose rows are in another order than the inputs is left out of the score, by name."""

from __future__ import annotations

import itertools
import random
import warnings
from collections import Counter, defaultdict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import nervecode
from nervecode.errors import NotReadyError
from nervecode.layers.batch.picking import picked, shapes, shapes_of_one
from nervecode.layers.checks.batch_checks import BatchFindings

WORDS, LONGEST = 30, 9


class Sorted(nn.Module):
    """Sorts its batch by length, as packed sequences were once asked to be, and back."""

    def __init__(self, back: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.back, self.words = back, nn.Embedding(WORDS, 8)
        self.rnn, self.head = nn.GRU(8, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        ordered, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(self.words(ids[order]), ordered.cpu(), batch_first=True)
        states = self.rnn(packed)[1][-1]
        return self.head(states[order.argsort()] if self.back else states)


def texts(number: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LONGEST + 1, (number,), generator=generator)
    ids = torch.randint(1, WORDS, (number, LONGEST), generator=generator)
    return {
        "ids": ids.masked_fill(torch.arange(LONGEST) >= lengths[:, None], 0),
        "lengths": lengths,
    }


def labelled(number: int, seed: int) -> dict[str, Tensor]:
    batch = texts(number, seed)
    return {**batch, "labels": batch["ids"][:, 0] % 4}


def test_layers_within_a_sorted_batch_are_left_out() -> None:
    wrapped = nervecode.wrap(Sorted().eval(), ["words", "rnn", "head"]).fit([labelled(99, 0)])
    with pytest.warns(UserWarning) as caught:
        wrapped.calibrate([texts(60, 1), texts(60, 2)])
    told = [str(w.message) for w in caught if "order" in str(w.message)]
    assert len(told) == 2
    assert "layer 'words' is left out of the score: its rows are in another order" in told[0]
    assert "layer 'rnn'" in told[1]
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["head", "head:label"]
    x = texts(6, 3)
    together = wrapped.score(**x)[1]
    alone = [wrapped.score(*(part[i : i + 1] for part in x.values()))[1] for i in range(6)]
    torch.testing.assert_close(together.p_value, torch.cat([s.p_value for s in alone]))
    wrapped.calibrate([texts(1, 4)], add=True)  # where nothing can be sorted
    assert wrapped.calibration.num_samples == 121


def test_a_model_of_such_layers_alone_is_refused() -> None:
    wrapped = nervecode.wrap(Sorted().eval(), ["rnn"]).fit([texts(99, 0)])
    with (
        pytest.warns(UserWarning, match="layer 'rnn' is left out"),
        pytest.raises(NotReadyError, match="calibrate: no watched layer has its rows in the order"),
    ):
        wrapped.calibrate([texts(60, 1)])


class Plain(nn.Module):
    """Its layers follow the inputs, whatever else it does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head = nn.Linear(8, 12), nn.Linear(12, 4)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.seen: list[int] = []
        self.last: Tensor | None = None
        self.kept = torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(len(x))
        self.last = x
        self.kept += 1
        torch.rand(3)
        return self.head(self.a(x).relu())


class TimeFirst(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x.mean(0)).relu())


class Drawing(Plain):
    """Another answer at each call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x[torch.randperm(len(x))]))


class Fussy(Plain):
    """Takes batches of one order alone."""

    def forward(self, x: Tensor) -> Tensor:
        if x[0, 0] > x[-1, 0]:
            raise RuntimeError("not in order")
        return self.head(self.a(x))


class Ones(Plain):
    """All rows are alike."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(torch.ones_like(x)))


def batches(*shape: int) -> list[Tensor]:
    drawn = [torch.randn(*shape, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    return [x[x[:, 0].argsort()] if x.ndim == 2 else x for x in drawn]


@pytest.mark.parametrize(
    ("build", "shape"),
    [(Plain, (60, 8)), (Drawing, (60, 8)), (Fussy, (60, 8)), (Ones, (60, 8)), (Plain, (1, 8))],
)
def test_nothing_is_said_of_other_models(build: Any, shape: tuple[int, ...]) -> None:
    data = batches(*shape)
    wrapped = nervecode.wrap(build().eval(), ["a", "head"]).fit(data[:2])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*order")
        wrapped.calibrate(data[2:])
    assert wrapped.calibration is not None
    assert list(wrapped.calibration.layers) == ["a", "head"]


class Boxed(Plain):
    """Takes no tensor, and answers the same whatever it is given."""

    def forward(self, box: Any) -> Tensor:
        return 0 * self.head(self.a(box.x))


def test_inputs_that_are_not_turned_round_say_nothing() -> None:
    data = batches(60, 8)

    def call(model: nn.Module, batch: Tensor) -> Any:
        return model(SimpleNamespace(x=batch))

    wrapped = nervecode.wrap(Boxed().eval(), ["a"]).fit(data[:2], call=call)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*order")
        wrapped.calibrate(data[2:], call=call)
    assert wrapped.calibration is not None


def test_the_check_leaves_nothing_behind() -> None:
    """Neither random numbers, nor what the model keeps, nor inputs that count as repeated."""
    model, data = Plain().eval(), batches(60, 8)
    wrapped = nervecode.wrap(model, ["a"]).fit(data[:2])
    before = len(model.seen)
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*repeat")
        wrapped.calibrate(data[2:])
    drawn = torch.rand(3)
    torch.manual_seed(7)
    torch.rand(6)
    assert torch.equal(drawn, torch.rand(3))
    assert model.calls == before + 2
    assert model.kept.tolist() == [before + 2] * 2
    assert model.seen == [60] * (before + 2)
    assert model.last is not None
    assert torch.equal(model.last, data[3])


class Drawn(Plain):
    """Draws from generators of its own and of Python and NumPy, and counts in what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.numpy = torch.Generator().manual_seed(0), np.random.default_rng(0)
        self.others: dict[str, Any] = {"python": [random.Random(0)], "old": np.random.RandomState()}
        self.ema, self.counts = {"n": torch.zeros(())}, {"n": [0]}
        self.queue: deque[int] = deque(maxlen=3)
        self.by_size: defaultdict[int, list[int]] = defaultdict(list)
        self.sizes: Counter[int] = Counter()
        self.meter = SimpleNamespace(total=0, parts=([0],))
        self.array = np.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1, generator=self.own)
        self.numpy.random()
        self.others["python"][0].random()
        self.others["old"].rand()
        random.random()
        np.random.rand()
        self.ema["n"].add_(1)
        self.counts["n"][0] += 1
        self.queue.append(self.counts["n"][0])
        self.by_size[len(x)].append(self.counts["n"][0])
        self.sizes[len(x)] += 1
        self.meter.total += 1
        self.meter.parts[0][0] += 1
        self.array += 1
        return super().forward(x)

    def held(self) -> list[Any]:
        """What the next call depends on, as plain values."""
        return [
            self.own.get_state().tolist(),
            self.numpy.bit_generator.state,
            self.others["python"][0].getstate(),
            self.others["old"].get_state()[1].tolist(),
            self.others["old"].get_state()[2],
            random.getstate(),
            np.random.get_state()[1].tolist(),
            np.random.get_state()[2],
            self.ema["n"].item(),
            self.counts,
            list(self.queue),
            self.by_size,
            self.sizes,
            vars(self.meter),
            self.array.tolist(),
        ]


def test_generators_and_what_is_within_containers_are_as_without_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def held(model: nn.Module) -> Any:
        random.seed(0)
        np.random.seed(0)
        model.others["old"].seed(0)
        data = batches(60, 8)
        nervecode.wrap(model, ["a"]).fit(data[:2]).calibrate(data[2:])
        return model.held()

    checked = held(Drawn().eval())
    monkeypatch.setattr(
        "nervecode.layers.passes.calibrating.check_batches", lambda *_: BatchFindings()
    )
    assert checked == held(Drawn().eval())


def rows_of(model: nn.Module, **options: Any) -> int:
    """How many rows a model is called with as it is calibrated, by its own count."""
    data = batches(60, 8)
    wrapped = nervecode.wrap(model, ["a"]).fit(data[:1])
    calls: list[int] = []
    run = type(model).forward
    model.forward = lambda x: (calls.append(len(x)), run(model, x))[1]
    wrapped.calibrate(data[1:], **options)
    return sum(calls)


def test_neither_call_nor_hooks_of_others_see_the_check() -> None:
    seen: list[int] = []

    def call(model: nn.Module, batch: Tensor) -> Any:
        seen.append(len(batch))
        return model(batch)

    looked_at = 60 + 4 * 2  # a batch backwards, and four inputs of it beside a copy each
    assert rows_of(Plain().eval(), call=call) == 180 + looked_at
    assert sum(seen) == 180
    model, seen = Plain().eval(), []
    model.a.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    assert rows_of(model) == 180
    assert sum(seen) == 240  # one batch of the fit among them
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, args: None)
    assert rows_of(Plain().eval()) == 180
    handle.remove()


@pytest.mark.slow
def test_models_that_hold_what_is_not_put_back_are_not_checked() -> None:
    model = Plain().eval()
    model.numbers = {"next": itertools.count()}
    assert rows_of(model) == 180
    model = Plain().eval()
    model.much = [[] for _ in range(20_000)]
    assert rows_of(model) == 180


def test_lists_of_inputs_and_steps_first_are_turned_round() -> None:
    def backwards(value: Any, size: int) -> Any:
        return picked(value, size, range(size)[::-1])

    images = [torch.zeros(3, 8, n) for n in (4, 5)]
    assert [x.shape[2] for x in backwards(images, 2)] == [5, 4]
    x = torch.arange(6).view(2, 3)
    turned = backwards({"x": x, "time": torch.tensor(0.5), "both": (x, [x])}, 2)
    assert torch.equal(turned["x"], x.flip(0))
    assert torch.equal(turned["both"][1][0], x.flip(0))
    assert torch.equal(backwards(x.T.contiguous(), 2), x.T.flip(1))
    assert turned["time"] == 0.5
    assert backwards(["a", "b", "c"], 3) == ["c", "b", "a"]


def test_the_shapes_of_one_input_are_known_without_a_copy() -> None:
    x, pictures = torch.rand(4, 5, 6), [torch.rand(3, n, 8) for n in range(2, 6)]
    values = (x, {"b": x.transpose(0, 1), "n": torch.arange(4), "c": torch.rand(7, 7)}, [x, 3], "a")
    for value in (values, pictures):
        assert shapes_of_one(value, 4) == shapes(picked(value, 4, [0]))
