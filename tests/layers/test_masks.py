"""Padding is not read: the same text with more of it is as surprising."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError

WORDS, WIDTH = 30, 16


class Text(nn.Module):
    """A classifier that is told of padding in one of several ways."""

    def __init__(self, **layer: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        encoder = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True, **layer)
        self.encoder = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3)

    def logits(self, words: Tensor, real: Tensor) -> Tensor:
        x = self.encoder(self.words(words), src_key_padding_mask=~real)
        return self.head((x * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True))


class ByAttentionMask(Text):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.logits(input_ids, attention_mask.bool())


class ByPaddingMask(Text):
    def forward(self, words: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        return self.logits(words, ~src_key_padding_mask)


class ByItself(Text):
    """Padding is word 0; only the encoder within is told."""

    def forward(self, words: Tensor) -> Tensor:
        return self.logits(words, words != 0)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = nn.MultiheadAttention(WIDTH, 2, batch_first=True), mlp()

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, key_padding_mask=padding)[0]
        return x + self.mlp(x)


class ByAttention(ByItself):
    """Blocks of its own around PyTorch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def logits(self, words: Tensor, real: Tensor) -> Tensor:
        x = self.words(words)
        for block in self.blocks:
            x = block(x, ~real)
        return self.head((x * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))


def texts(number: int, length: int, seed: int, padding: int = 0) -> Tensor:
    """(B, length + padding) words of texts of 2 to `length` words; 0 is padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, length + 1, (number, 1), generator=generator)
    words = torch.randint(1, WORDS, (number, length), generator=generator)
    words = words.masked_fill(torch.arange(length) >= lengths, 0)
    return torch.cat([words, words.new_zeros(number, padding)], 1)


TOLD = {
    "attention_mask": (ByAttentionMask, lambda w: {"input_ids": w, "attention_mask": 1 * (w != 0)}),
    "padding_mask": (ByPaddingMask, lambda w: {"words": w, "src_key_padding_mask": w == 0}),
    "within": (ByItself, lambda w: {"words": w}),
    "attention": (ByAttention, lambda w: {"words": w}),
}  # fmt: skip
LAYERS = {"attention": ["blocks.0", "blocks.1", "head"]}


def fitted(name: str, **options: Any) -> tuple[nervecode.WrappedModel, Any]:
    build, told = TOLD[name]
    wrapped = nervecode.wrap(build().eval(), LAYERS.get(name, ["encoder.layers.*", "head"]))
    train = [{**told(texts(40, 8, s)), "labels": torch.arange(40) % 3} for s in range(3)]
    wrapped.fit(train, num_classes=3, **options)
    return wrapped.calibrate([told(texts(40, 8, 9))]), told


@pytest.mark.parametrize("reduce", ["mean_std", "mean", "max", "tokens", "last_token"])
@pytest.mark.parametrize("name", TOLD)
def test_more_padding_changes_nothing(name: str, reduce: str) -> None:
    wrapped, told = fitted(name, reduce=reduce)
    words = texts(20, 8, 11)
    with torch.no_grad():
        _, expected = wrapped.score(**told(words))
        for padding in (1, 24):
            longer = torch.cat([words, words.new_zeros(20, padding)], 1)
            _, found = wrapped.score(**told(longer))
            torch.testing.assert_close(found.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(found.surprise, expected.surprise, rtol=1e-3, atol=1e-3)


def test_a_layer_before_the_padding_is_known_is_read_as_it_is() -> None:
    model = ByItself().eval()
    wrapped = nervecode.wrap(model, ["words", "encoder"]).fit([{"words": texts(40, 8, 0)}])
    with torch.no_grad():
        short, long = (
            wrapped.forward_with_trace(texts(20, 8, 1, padding))[1] for padding in (0, 5)
        )
    torch.testing.assert_close(
        short["encoder"].vector, long["encoder"].vector, rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(short["words"].vector, long["words"].vector)


class Untold(nn.Module):
    """Takes the padding for words; the caller knows better."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.mlp = nn.Embedding(WORDS, WIDTH), mlp()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.mlp(self.words(words)).amax(1))


def test_a_mask_from_the_batch_or_by_its_key() -> None:
    data = [{"words": texts(40, 8, s)} for s in range(4)]
    by_function = nervecode.wrap(Untold(), ["words", "mlp"])
    by_function.fit(data[1:], mask=lambda batch: batch["words"] != 0)
    by_function.calibrate(data[:1], mask=lambda batch: batch["words"] != 0)
    keyed = [{**batch, "real": batch["words"] != 0} for batch in data]
    by_key = nervecode.wrap(Untold(), ["words", "mlp"]).fit(keyed[1:], mask="real")
    by_key.calibrate(keyed[:1], mask="real")
    words = texts(20, 8, 5)
    longer = torch.cat([words, words.new_zeros(20, 9)], 1)
    with torch.no_grad():
        results = [
            wrapped.score(given, mask=(given != 0).long())[1].by_layer
            for wrapped in (by_function, by_key)
            for given in (words, longer)
        ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-4)


def test_a_mask_of_another_shape_is_refused_by_name() -> None:
    wrapped = nervecode.wrap(Untold(), ["words"])
    message = r"layer 'words' is not coded: .* shape \(40, 8\), which a mask of shape \(40, 5\)"
    with pytest.warns(UserWarning, match=message), pytest.raises(RuntimeError, match="'words'"):
        wrapped.fit([texts(40, 8, 0)], mask=lambda batch: torch.ones(40, 5))


def test_a_mask_that_is_not_there() -> None:
    wrapped = nervecode.wrap(Untold(), ["words"])
    with pytest.raises(InputError, match=r"mask='real': no such key; did you mean 'rael'\?"):
        wrapped.fit([{"words": texts(4, 8, 0), "rael": 1}], mask="real")
    with pytest.raises(InputError, match=r"mask='real': found .*, allowed: a mapping"):
        wrapped.fit([texts(4, 8, 0)], mask="real")
    with pytest.raises(InputError, match=r"mask: found .*, allowed: \(B, ...\), 1 at real"):
        wrapped.fit([texts(4, 8, 0)], mask=lambda batch: "all")


class HasAMask(Untold):
    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(words) * (2 if mask is None else 3)


def test_an_argument_of_the_model_is_given_to_it() -> None:
    model, words = HasAMask(), texts(20, 8, 0)
    wrapped = nervecode.wrap(model, ["words"]).fit([words]).calibrate([texts(20, 8, 1)])
    output, surprise = wrapped.score(words, mask=torch.ones(1))
    assert torch.equal(output, model(words, mask=torch.ones(1)))
    assert surprise.valid.all()


class GivenAMask(Untold):
    def forward(self, words: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        x = self.mlp(self.words(words)).masked_fill((mask == 0).unsqueeze(2), -torch.inf)
        return self.head(x.amax(1))


def given(number: int, seed: int, padding: int = 0) -> dict[str, Tensor]:
    words = texts(number, 8, seed, padding)
    return {"words": words, "mask": 1 * (words != 0)}


MASKED_BY: dict[str, Any] = {"key": "mask", "function": lambda batch: batch["words"] != 0}


@pytest.mark.slow
@pytest.mark.parametrize("how", MASKED_BY)
def test_an_argument_that_calibration_read_by_is_read_by(how: str, tmp_path: Path) -> None:
    wrapped = nervecode.wrap(GivenAMask().eval(), ["words", "mlp"])
    wrapped.fit([given(40, s) for s in range(3)], mask=MASKED_BY[how])
    wrapped.calibrate([given(40, s) for s in range(3, 6)], mask=MASKED_BY[how])
    x, longer = given(20, 9), given(20, 9, padding=9)
    with torch.no_grad(), wrapped.recording(mask=x["mask"]) as traces:
        expected = wrapped.model(**x)
    surprise = wrapped.aggregate(traces)
    path = tmp_path / "codes.safetensors"
    wrapped.save(path)
    wrapped.export(path.with_suffix(".pt2"), given(7, 1))
    graph = torch.export.load(path.with_suffix(".pt2")).module()
    exported = graph(**x, alpha=torch.tensor(0.05, dtype=torch.float64))
    assert torch.equal(exported["p_value"], surprise.p_value)
    for again in (wrapped, nervecode.load(path, wrapped.model)):
        for output, found in (
            again.score(**x),
            again.score(x["words"], x["mask"]),
            again.score(longer["words"], mask=longer["mask"]),
        ):
            torch.testing.assert_close(output, expected)
            assert found.valid.all()
            torch.testing.assert_close(found.by_layer, surprise.by_layer, rtol=1e-4, atol=1e-4)
    wrapped.calibrate([given(40, 6)], mask=MASKED_BY[how], add=True)
    assert wrapped.score(**longer)[1].valid.all()


def test_an_argument_that_is_another_mask_than_that_of_calibration_is_not_read_by() -> None:
    wrapped = nervecode.wrap(HasAMask().eval(), ["words", "mlp"])
    data = [{"words": texts(40, 8, s), "mask": torch.ones(40, 8)} for s in range(4)]
    wrapped.fit(data[:2], mask=lambda batch: batch["words"] != 0)
    wrapped.calibrate(data[2:], mask=lambda batch: batch["words"] != 0)
    with pytest.warns(UserWarning, match="came with a mask .* this call with none; give it"):
        assert not wrapped.score(**data[0])[1].valid.any()


def test_an_input_that_is_padding_alone_has_the_smallest_p_value() -> None:
    wrapped = nervecode.wrap(Untold(), ["mlp"])
    wrapped.fit([texts(40, 8, 0)]).calibrate([texts(40, 8, 1)])
    words = texts(3, 8, 2)
    real = words != 0
    real[1] = False
    _, surprise = wrapped.score(words, mask=real)
    assert surprise.surprise.isinf().tolist() == [False, True, False]
    assert float(surprise.p_value[1]) == pytest.approx(1 / 41)


class Translator(nn.Module):
    """An encoder that is told of padding, and a decoder that is told of its own, or of none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.both = nn.Transformer(WIDTH, 2, 1, 1, 32, batch_first=True)

    def forward(
        self, source: Tensor, target: Tensor, src_key_padding_mask: Tensor, own: Tensor | None
    ) -> Tensor:
        return self.both(
            self.words(source), self.words(target), src_key_padding_mask=src_key_padding_mask,
            memory_key_padding_mask=src_key_padding_mask, tgt_key_padding_mask=own,
        )  # fmt: skip


class Decoder(nn.Module):
    """Called as those of Transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(WORDS, WIDTH), mlp()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
    ) -> Tensor:
        assert encoder_hidden_states is not None
        return self.layer(self.words(input_ids)) + encoder_hidden_states.mean(1, keepdim=True)


class Summary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.encoder, self.decoder = nn.Embedding(WORDS, WIDTH), mlp(), Decoder()

    def forward(
        self, source: Tensor, target: Tensor, attention_mask: Tensor, own: Tensor | None
    ) -> Tensor:
        states = self.encoder(self.words(source))
        return self.decoder(target, attention_mask=own, encoder_hidden_states=states)


SEQUENCES = {
    "torch": (Translator, "src_key_padding_mask", "both.encoder.norm", "both.decoder.norm", False),
    "transformers": (Summary, "attention_mask", "encoder", "decoder.layer", True),
}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_decoder_has_the_padding_of_its_own_sequence(kind: str, told: bool) -> None:
    """Also where it is as long as the encoder's."""
    build, name, encoder, decoder, real = SEQUENCES[kind]
    model = build().eval()
    wrapped = nervecode.wrap(model, [encoder, decoder])

    def call(seed: int) -> dict[str, Any]:
        source, target = texts(40, 8, seed), texts(40, 8, seed + 50)
        own = (target != 0) == real if told else None
        return {"source": source, "target": target, name: (source != 0) == real, "own": own}

    wrapped.fit([call(0)], reduce="mean", length_power=1.0)
    given, outputs = call(1), {}
    for layer in (encoder, decoder):
        model.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: outputs.update({layer: output})
        )
    with torch.no_grad():
        traces = wrapped.forward_with_trace(**given)[1]
    padded = {encoder: given["source"] == 0, decoder: (given["target"] == 0) & told}
    for layer, mask in padded.items():
        rows = [row[~hidden].mean(0) for row, hidden in zip(outputs[layer], mask, strict=True)]
        torch.testing.assert_close(traces[layer].vector, torch.stack(rows), rtol=1e-4, atol=1e-5)


class TwoTexts(nn.Module):
    """Reads a question and a document, of as many words, with the same parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.first = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, question: Tensor, document: Tensor) -> Tensor:
        read = [
            self.encoder(self.first(self.words(text)), src_key_padding_mask=padding)
            for text, padding in ((question, None), (document, document == 0), (question, None))
        ]
        return torch.stack([x.mean(1) for x in read]).prod(0)


def test_what_reads_another_text_after_one_has_not_its_padding() -> None:
    """A layer that ran before a part was told of padding reads what that part was not told of."""
    model = TwoTexts().eval()
    wrapped = nervecode.wrap(model, ["first", "encoder"])
    question, document = texts(40, 8, 0), texts(40, 8, 1)
    wrapped.fit([{"question": question, "document": document}], reduce="mean", length_power=1.0)
    outputs: list[Tensor] = []
    for part in (model.first, model.encoder):
        part.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        traces = wrapped.forward_with_trace(question=question, document=document)[1]
    real = (document != 0).unsqueeze(2)
    masked = (outputs[3] * real).sum(1) / real.sum(1)
    expected = [outputs[0].mean(1), outputs[1].mean(1), outputs[2].mean(1), masked]
    expected += [outputs[4].mean(1), outputs[5].mean(1)]
    for (name, trace), vector in zip(traces.items(), expected, strict=True):
        torch.testing.assert_close(trace.vector, vector, rtol=1e-4, atol=1e-5, msg=name)


class Shifting(Summary):
    """Decodes its own text, shifted by one place, unless it is given another: as BART and T5 do."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        states = self.encoder(self.words(input_ids))
        if decoder_input_ids is None:
            text = input_ids if labels is None or labels.ndim == 1 else labels
            decoder_input_ids = text.roll(1, 1).index_fill(1, torch.tensor(0), 1)
        return self.decoder(decoder_input_ids, encoder_hidden_states=states)


@pytest.mark.parametrize("given", ["nothing", "classes", "text", "labels"])
def test_a_decoder_that_reads_the_text_itself_has_its_padding(given: str) -> None:
    model = Shifting().eval()
    wrapped = nervecode.wrap(model, ["decoder.layer"])
    words = texts(40, 8, 0)
    told = {"input_ids": words, "attention_mask": 1 * (words != 0)}
    wrapped.fit([told], reduce="mean", length_power=1.0)
    extra = {
        "classes": {"labels": torch.zeros(40, dtype=torch.long)},
        "text": {"decoder_input_ids": texts(40, 8, 1)},
        "labels": {"labels": texts(40, 8, 1)},
    }
    outputs: list[Tensor] = []
    model.decoder.layer.register_forward_hook(lambda module, args, out: outputs.append(out))
    with torch.no_grad():
        traces = wrapped.forward_with_trace(**told, **extra.get(given, {}))[1]
    real = (words != 0) if given in ("nothing", "classes") else torch.ones_like(words)
    expected = (outputs[0] * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True)
    torch.testing.assert_close(traces["decoder.layer"].vector, expected, rtol=1e-4, atol=1e-5)


def masked() -> nervecode.WrappedModel:
    """Calibrated on batches that all have a mask."""
    wrapped = nervecode.wrap(Untold(), ["words", "mlp"])
    data = [{"words": texts(60, 8, s), "real": texts(60, 8, s) != 0} for s in range(3)]
    return wrapped.fit(data[:1], mask="real").calibrate(data[1:], mask="real")


def test_a_call_without_the_mask_that_calibration_had_is_not_valid(tmp_path: Path) -> None:
    words = texts(20, 8, 5)
    wrapped = masked()
    wrapped.save(tmp_path / "codes.safetensors")
    state = wrapped.state_dict()
    fresh = nervecode.wrap(Untold(), ["words"])
    fresh.load_state_dict(state)
    loaded = nervecode.load(tmp_path / "codes.safetensors", wrapped.unwrap())
    for again in (masked(), loaded, fresh):
        with pytest.warns(UserWarning, match="came with a mask .* this call with none; give it"):
            surprise = again.score(words)[1]
        assert not surprise.valid.any()
        assert surprise.flag(0.05).all()
        assert again.score(words, mask=words != 0)[1].valid.all()
        assert again.score(words, mask=torch.ones_like(words))[1].valid.all()
        traces = again.forward_with_trace(words)[1]
        assert not again.aggregate(traces).valid.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_a_call_that_tells_as_in_calibration_is_valid(name: str) -> None:
    wrapped, told = fitted(name)
    assert wrapped.calibration is not None
    assert wrapped.calibration.calls.masked
    with torch.no_grad():
        assert wrapped.score(**told(texts(20, 8, 5)))[1].valid.all()


class MayBeTold(Untold):
    def forward(self, words: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(words)


def test_a_calibration_of_which_a_batch_had_no_mask_asks_for_none() -> None:
    wrapped = nervecode.wrap(MayBeTold(), ["words"])
    masked, plain = texts(60, 8, 1), texts(60, 8, 2)
    told = {"words": masked, "attention_mask": masked != 0}
    wrapped.fit([told]).calibrate([told, {"words": plain}])
    assert wrapped.score(texts(20, 8, 5))[1].valid.all()


def test_inputs_without_a_mask_are_not_added_to_those_with_one() -> None:
    wrapped = masked()
    before = wrapped.calibration
    with pytest.raises(InputError, match=r"calibrate add, mask: found batches without one, al"):
        wrapped.calibrate([texts(60, 8, 7)], add=True)
    assert wrapped.calibration is before
    more = {"words": texts(60, 8, 7), "real": texts(60, 8, 7) != 0}
    wrapped.calibrate([more], mask="real", add=True)
    assert wrapped.calibration is not None
    assert wrapped.calibration.calls.masked


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float16, torch.float64])
def test_an_input_without_a_real_position_is_so_alone_and_in_a_batch(dtype: torch.dtype) -> None:
    wrapped, words = masked(), texts(5, 8, 5)
    real = (words != 0).to(dtype)
    real[0] = 0
    together, alone = wrapped.score(words, mask=real)[1], wrapped.score(words[:1], mask=real[:1])[1]
    assert together.p_value[0] == alone.p_value[0] == wrapped.calibration.smallest_alpha
    added = torch.zeros(5, 8).masked_fill(words == 0, -torch.inf)  # to logits
    expected = wrapped.score(words, mask=words != 0)[1]
    assert torch.equal(wrapped.score(words, mask=added)[1].p_value, expected.p_value)


@pytest.mark.filterwarnings("ignore:calibrate")
def test_a_mask_of_other_inputs_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    x = torch.randn(60, 6)
    wrapped = nervecode.wrap(model).fit([(x, torch.arange(60) % 3)]).calibrate([torch.randn(60, 6)])
    with pytest.raises(InputError, match=r"mask: found .* of shape \(\), allowed: \(B, ...\)"):
        wrapped.score(x[:5], mask=torch.tensor(1))
    with pytest.raises(InputError, match="mask: found 4 rows, in a call of 5 inputs"):
        wrapped.score(x[:5], mask=torch.ones(4, 6))
    assert wrapped.score(x[:5], mask=torch.ones(5, 6))[1].valid.all()
