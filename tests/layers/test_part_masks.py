"""Parts of a model that are told of padding by `attention_mask`, and by what only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.layers.batch.arguments import masked_parts

WORDS, WIDTH, LENGTH = 30, 16, 8


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))


def texts(number: int, seed: int, filling: int = 0, padding: int = 0) -> tuple[Tensor, Tensor]:
    """(B, T) words and (B, T) which of them are real; the others are `filling`."""
    generator = torch.Generator().manual_seed(seed)
    length = LENGTH + padding
    real = torch.arange(length) < torch.randint(2, LENGTH + 1, (number, 1), generator=generator)
    words = torch.randint(1, WORDS, (number, LENGTH), generator=generator)
    words = nn.functional.pad(words, (0, padding))
    return words.where(real, torch.tensor(filling)), real.long()


class Encoder(nn.Module):
    """Home-made: (B, T) words -> (B, C), by what is real alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mlp = nn.Embedding(WORDS, WIDTH), mlp()

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        real = attention_mask.unsqueeze(2)
        return (self.mlp(self.words(ids)) * real).sum(1) / real.sum(1)


class OfStates(nn.Module):
    """The same of (B, T, C), with what is added to logits, (B, 1, 1, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp()

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask[:, 0, 0].unsqueeze(2).softmax(1)
        return (self.mlp(x) * weights).sum(1)


class StepsFirst(nn.Module):
    """The same of (T, B, C), in a model with parts that are made for it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(WIDTH, WIDTH)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        real = attention_mask.T.unsqueeze(2)
        return (self.gru(x)[0] * real).sum(0) / real.sum(0)


class Attending(Encoder):
    """The same, with PyTorch's attention, which is not told by its own argument."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 1, batch_first=True)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(ids)
        hidden = (attention_mask == 0).unsqueeze(1).expand(-1, ids.shape[1], -1)
        real = attention_mask.unsqueeze(2)
        x = self.mlp(self.attention(x, x, x, attn_mask=hidden)[0])
        return (x * real).sum(1) / real.sum(1)


class Own(nn.Module):
    """One's own module, whose argument for the mask has a name of its own."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        for part in encoder.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        self.states = nn.Embedding(WORDS, WIDTH)
        self.encoder, self.head = encoder, nn.Linear(WIDTH, 3)

    def forward(self, text: Tensor, token_mask: Tensor) -> Tensor:
        if isinstance(self.encoder, OfStates):
            added = (1 - token_mask.float())[:, None, None] * -1e9
            return self.head(self.encoder(self.states(text), attention_mask=added))
        if isinstance(self.encoder, StepsFirst):
            return self.head(self.encoder(self.states(text).transpose(0, 1), token_mask))
        return self.head(self.encoder(text, token_mask))


def told(number: int, seed: int, filling: int = 0, padding: int = 0) -> dict[str, Tensor]:
    return dict(zip(("text", "token_mask"), texts(number, seed, filling, padding), strict=True))


def ready(
    model: nn.Module, layers: Any, data: Callable[[int, int], dict[str, Any]], **options: Any
) -> nervecode.WrappedModel:
    wrapped = nervecode.wrap(model.eval(), layers)
    wrapped.fit([data(40, s) for s in range(3)], labels=lambda batch: None, **options)
    return wrapped.calibrate([data(40, s) for s in range(3, 6)])


ENCODERS = {
    Encoder: ["encoder.words", "encoder.mlp", "encoder.mlp.0", "head"],
    OfStates: ["encoder.mlp", "head"],
    StepsFirst: ["encoder.gru", "head"],
    Attending: ["encoder.attention", "encoder.mlp", "head"],
}


@pytest.mark.parametrize("number", [20, LENGTH])
@pytest.mark.parametrize("kind", ENCODERS)
def test_what_is_padding_of_an_encoder_within_changes_nothing(
    kind: type[nn.Module], number: int
) -> None:
    """Whatever it holds, and also where there are as many texts as words."""
    wrapped = ready(Own(kind()), ENCODERS[kind], told)
    assert wrapped.calibration is not None
    assert wrapped.calibration.calls.masked
    with torch.no_grad():
        output, expected = wrapped.score(**told(number, 9))
        same, found = wrapped.score(**told(number, 9, filling=7))
        longer = wrapped.score(**told(number, 9, padding=13))[1]
        alone = [wrapped.score(**cut(told(number, 9), row))[1] for row in range(number)]
    assert torch.equal(same, output)
    assert expected.valid.all()
    assert torch.equal(found.p_value, expected.p_value)
    torch.testing.assert_close(longer.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)
    together = torch.cat([surprise.by_layer for surprise in alone])
    torch.testing.assert_close(together, expected.by_layer, rtol=1e-4, atol=1e-3)


def cut(batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One text without its padding."""
    length = int(batch["token_mask"][row].sum())
    return {name: x[row : row + 1, :length] for name, x in batch.items()}


class Pair(nn.Module):
    """Two texts, one encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = Encoder(), nn.Linear(2 * WIDTH, 3)

    def forward(self, a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return self.head(torch.cat([self.encoder(**a), self.encoder(**b)], 1))


class NamedPair(Pair):
    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, other_ids: Tensor, other_mask: Tensor
    ) -> Tensor:
        return super().forward(
            {"ids": input_ids, "attention_mask": attention_mask},
            {"ids": other_ids, "attention_mask": other_mask},
        )


def pairs(number: int, seed: int, **b: int) -> dict[str, Any]:
    both = [texts(number, seed), texts(number, seed + 50, **b)]
    return {
        name: dict(zip(("ids", "attention_mask"), text, strict=True))
        for name, text in zip("ab", both, strict=True)
    }


def named_pairs(number: int, seed: int, **b: int) -> dict[str, Any]:
    names = ("input_ids", "attention_mask", "other_ids", "other_mask")
    return dict(zip(names, (*texts(number, seed), *texts(number, seed + 50, **b)), strict=True))


@pytest.mark.parametrize(("kind", "data"), [(Pair, pairs), (NamedPair, named_pairs)])
def test_each_of_two_texts_is_read_by_its_own_mask(
    kind: type[nn.Module], data: Callable[..., dict[str, Any]]
) -> None:
    model = kind()
    wrapped = ready(model, ["encoder.mlp"], data, reduce="mean", length_power=1.0)
    outputs: list[Tensor] = []
    model.encoder.mlp.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        logits, expected = wrapped.score(**data(20, 77))
        same, found = wrapped.score(**data(20, 77, filling=7))
        traces = wrapped.forward_with_trace(**data(20, 77))[1]
    assert torch.equal(same, logits)
    assert torch.equal(found.p_value, expected.p_value)
    for output, name, seed in zip(
        outputs[-2:], ("encoder.mlp", "encoder.mlp#2"), (77, 127), strict=True
    ):
        real = texts(20, seed)[1].unsqueeze(2)
        torch.testing.assert_close(traces[name].vector, (output * real).sum(1) / real.sum(1))


class Unheard(nn.Module):
    """A block of a causal model, whose argument for the mask tells nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.conv = mlp(), nn.Conv1d(WIDTH, WIDTH, 2, 2)

    def forward(self, x: Tensor, rule: Tensor) -> Tensor:
        allowed = rule if rule.dtype == torch.bool else rule == 0
        allowed = allowed if allowed.ndim == 2 else allowed[:, 0]
        x = self.mlp(allowed.float() @ x) + x
        return x + self.conv(x.transpose(1, 2)).mean(2).unsqueeze(1)


class Block(Unheard):
    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(x, attention_mask)


class Causal(nn.Module):
    def __init__(self, block: type[nn.Module], rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.rule = nn.Embedding(WORDS, WIDTH), rule
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, text: Tensor) -> Tensor:
        x = self.words(text)
        for block in self.blocks:
            x = block(x, self.rule(text))
        return self.head(x[:, -1])


def lower(text: Tensor) -> Tensor:
    return torch.ones(text.shape[1], text.shape[1], dtype=torch.bool).tril()


RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "allowed": lower,
    "forbidden": lambda text: ~lower(text),
    "added": lambda text: torch.zeros(lower(text).shape).masked_fill(~lower(text), -torch.inf),
    "each": lambda text: (lower(text) & (text != 1).unsqueeze(1)).unsqueeze(1),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("error:layer")
@pytest.mark.parametrize("rule", RULES)
def test_a_causal_mask_is_none_of_padding(rule: str) -> None:
    """Also where it has as many rows as there are texts."""

    def data(number: int, seed: int) -> dict[str, Tensor]:
        return {"text": texts(LENGTH if 0 < seed < 6 else number, seed, filling=2)[0]}

    read = [
        ready(Causal(block, RULES[rule]), ["words", "blocks.*.mlp", "blocks.*.conv"], data)
        for block in (Block, Unheard)
    ]
    assert read[0].calibration is not None
    assert not read[0].calibration.calls.masked
    assert read[0].layer_names == read[1].layer_names
    for number, seed in ((20, 8), (LENGTH, 9)):
        with torch.no_grad():
            found, expected = (wrapped.score(**data(number, seed))[1] for wrapped in read)
        assert found.valid.all()
        torch.testing.assert_close(found.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)


class Chain(nn.Module):
    """An encoder that is told of padding, and a causal block behind it."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.block, self.head = block(), nn.Linear(WIDTH, 3)

    def forward(self, text: Tensor) -> Tensor:
        x = self.encoder(self.words(text), src_key_padding_mask=text == 0)
        return self.head(self.block(x, lower(text)).mean(1))


@pytest.mark.parametrize("number", [20, LENGTH])
def test_behind_a_part_that_is_told_a_causal_mask_changes_nothing(number: int) -> None:
    def data(number: int, seed: int) -> dict[str, Tensor]:
        return {"text": texts(number, seed)[0]}

    read = [ready(Chain(block), ["block.mlp"], data) for block in (Block, Unheard)]
    with torch.no_grad():
        found, expected = (wrapped.score(**data(number, 9))[1] for wrapped in read)
    assert found.valid.all()
    assert torch.equal(found.by_layer, expected.by_layer)


class Sentences(nn.Module):
    """A document (B, N, T) is read sentence by sentence, (B N, T)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = encoder
        self.gru, self.head = nn.GRU(WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, 3)

    def forward(self, document: Tensor) -> Tensor:
        flat = document.flatten(0, 1)
        x = self.encoder(flat, attention_mask=1 * (flat != 0)).unflatten(0, document.shape[:2])
        return self.head(self.gru(x)[0].mean(1))


class OfIds(Encoder):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids, attention_mask)


@pytest.mark.parametrize("kind", [Encoder, OfIds])
def test_masks_of_pieces_of_the_batch_are_not_those_of_its_positions(kind: type[nn.Module]) -> None:
    def data(number: int, seed: int) -> dict[str, Tensor]:
        return {"document": texts(number * 5, seed)[0].unflatten(0, (number, 5))}

    wrapped = ready(Sentences(kind()), ["gru"], data)
    assert wrapped.score(**data(20, 9))[1].valid.all()


class Waves(nn.Module):
    """A wave (B, T) becomes fewer steps, which its mask does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.ahead = nn.Conv1d(1, WIDTH, 4, 4), nn.Conv1d(1, WIDTH, 3, padding=1)

    def forward(self, wave: Tensor, attention_mask: Tensor) -> Tensor:
        wave = (wave * attention_mask).unsqueeze(1)
        return self.ahead(wave).mean(2) + self.conv(wave).mean(2)


def waves(number: int, seed: int, filling: float = 0.0) -> dict[str, Tensor]:
    real = texts(number, seed)[1]
    wave = torch.randn(number, LENGTH, generator=torch.Generator().manual_seed(seed))
    return {"text": wave.where(real.bool(), torch.tensor(filling)), "token_mask": real}


@pytest.mark.filterwarnings("error:layer")
def test_of_numbers_a_mask_counts_where_it_fits() -> None:
    model = Own(Waves())
    wrapped = ready(
        model, ["encoder.conv", "encoder.ahead"], waves, reduce="mean", length_power=1.0
    )
    assert wrapped.score(**waves(20, 9))[1].valid.all()
    outputs: dict[str, Tensor] = {}
    for name in ("conv", "ahead"):
        model.get_submodule(f"encoder.{name}").register_forward_hook(
            lambda module, args, output, name=name: outputs.update({name: output})
        )
    with torch.no_grad():
        traces = wrapped.forward_with_trace(**waves(20, 9))[1]
    real = waves(20, 9)["token_mask"].unsqueeze(1)
    expected = (outputs["ahead"] * real).sum(2) / real.sum(2)
    torch.testing.assert_close(traces["encoder.ahead"].vector, expected)
    torch.testing.assert_close(traces["encoder.conv"].vector, outputs["conv"].mean(2))


class Outer(nn.Module):
    """Reads ids and their mask, and has blocks that mean something else by theirs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.block = nn.Embedding(WORDS, WIDTH), OfStates()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        inverse = (attention_mask == 0).float()[:, None, None]
        return self.head(self.block(self.words(input_ids), inverse))


def test_blocks_of_a_model_that_reads_ids_itself_are_read_by_its_mask() -> None:
    def data(number: int, seed: int) -> dict[str, Tensor]:
        return dict(zip(("input_ids", "attention_mask"), texts(number, seed), strict=True))

    model = Outer()
    wrapped = ready(model, ["block.mlp"], data, reduce="mean", length_power=1.0)
    outputs: list[Tensor] = []
    model.block.mlp.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        trace = wrapped.forward_with_trace(**data(20, 9))[1]["block.mlp"]
    real = data(20, 9)["attention_mask"].unsqueeze(2)
    torch.testing.assert_close(trace.vector, (outputs[0] * real).sum(1) / real.sum(1))


def test_which_parts_are_heard() -> None:
    plain = Own(Unheard())
    assert masked_parts(plain) == {}
    hooks = [part._forward_pre_hooks for part in plain.modules() if part is not plain]
    wrapped = nervecode.wrap(plain)
    assert not any(hooks)
    wrapped.unwrap()
    both = nn.ModuleDict({"own": Own(Attending()), "ids": Own(OfIds())})
    assert list(masked_parts(both)) == [
        "own.encoder", "own.encoder.attention", "ids.encoder",
    ]  # fmt: skip
    nested = Block()
    nested.add_module("inner", Block())
    nested.add_module("ids", OfIds())
    assert list(masked_parts(nn.ModuleList([nested]))) == ["0", "0.ids"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [5, LENGTH])
def test_a_graph_reads_by_the_masks_of_parts(number: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    wrapped = ready(Own(Encoder()), ENCODERS[Encoder], told)
    wrapped.export(path, told(number, 8))
    graph = torch.export.load(path).module()
    for batch in (told(20, 9), told(LENGTH, 9)):
        with torch.no_grad():
            found = graph(**batch, alpha=torch.tensor(0.05, dtype=torch.float64))
            expected = wrapped.score(**batch)[1]
        torch.testing.assert_close(found["p_value"], expected.p_value)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("number", [5, LENGTH])
def test_a_graph_of_a_causal_model(number: int, dynamic: bool, tmp_path: Path) -> None:
    def data(number: int, seed: int) -> dict[str, Tensor]:
        return {"text": texts(number, seed, filling=2)[0]}

    path = tmp_path / "net.pt2"
    wrapped = ready(Causal(Block, lower), ["blocks.*.mlp", "blocks.*.conv"], data)
    wrapped.export(path, data(number, 8), dynamic_batch=dynamic)
    graph = torch.export.load(path).module()
    for batch in (data(20, 9), data(LENGTH, 9)) if dynamic else (data(number, 9),):
        with torch.no_grad():
            found = graph(**batch, alpha=torch.tensor(0.05, dtype=torch.float64))
            expected = wrapped.score(**batch)[1]
        torch.testing.assert_close(found["p_value"], expected.p_value)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_call_reads_by_the_masks_of_parts(dynamic: bool) -> None:
    wrapped = ready(Own(Encoder()), ENCODERS[Encoder], told)
    score = torch.compile(wrapped.score, backend="eager", dynamic=dynamic)
    with torch.no_grad():
        for batch in (told(20, 9), told(LENGTH, 9), told(30, 9)):
            found, expected = score(**batch)[1], wrapped.score(**batch)[1]
            torch.testing.assert_close(found.p_value, expected.p_value)
