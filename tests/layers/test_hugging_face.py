"""Tiny models of Transformers: batches as mappings, masks, causal models, generate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import nervecode

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
WORDS, LONGEST = 40, 8


def batch(
    number: int, seed: int, *, longest: int = 8, padding: int = 0, left: bool = False
) -> dict:
    """Texts of 2 to 8 words and their mask, with more padding behind or before."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, WORDS, (number, LONGEST), generator=generator)
    lengths = torch.randint(2, LONGEST + 1, (number, 1), generator=generator)
    mask = 1 * (torch.arange(LONGEST) < lengths)
    ids, mask = (torch.nn.functional.pad(t, (0, padding)) for t in (ids * mask, mask))
    if left:
        ids, mask = ids.flip(1), mask.flip(1)
    return {"input_ids": ids, "attention_mask": mask}


def bert() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).eval()


def gpt2() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, n_positions=64, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def test_bert_reads_mappings_and_no_padding() -> None:
    wrapped = nervecode.wrap(bert(), ["bert.encoder.layer.*", "classifier"])
    wrapped.fit([{**batch(40, s), "labels": torch.arange(40) % 3} for s in range(3)])
    wrapped.calibrate([batch(40, s) for s in range(3, 6)])
    with torch.no_grad():
        output, expected = wrapped.score(**batch(10, 9))
        _, found = wrapped.score(**batch(10, 9, padding=20))
    assert torch.equal(output.logits, wrapped.model(**batch(10, 9)).logits)
    assert expected.valid.all()
    torch.testing.assert_close(found.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.p_value, expected.p_value)


def causal() -> nervecode.WrappedModel:
    wrapped = nervecode.wrap(gpt2(), ["transformer.h.*"])
    wrapped.fit([batch(40, s) for s in range(3)], reduce="last_token")
    return wrapped.calibrate([batch(40, s) for s in range(3, 6)])


def test_the_last_token_of_a_causal_model() -> None:
    wrapped = causal()
    x = batch(10, 9)
    with torch.no_grad():
        _, expected = wrapped.score(**x)
        _, found = wrapped.score(**batch(10, 9, padding=20))
        traces = wrapped.forward_with_trace(**x)[1]
        states = wrapped.model.transformer(**x, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(found.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)
    last = states[torch.arange(10), x["attention_mask"].sum(1) - 1]
    directions = torch.nn.functional.cosine_similarity(traces["transformer.h.0"].vector, last)
    torch.testing.assert_close(directions, torch.ones(10))


def generated(model: torch.nn.Module, x: dict[str, Tensor]) -> Tensor:
    return model.generate(**x, max_new_tokens=5, do_sample=False, pad_token_id=0)


def test_generate_is_the_models_own_and_what_it_wrote_is_scored_after() -> None:
    wrapped = causal()
    x = batch(6, 9, left=True)
    with torch.no_grad():
        text = generated(wrapped, x)
        assert torch.equal(text, generated(gpt2(), x))
        with pytest.raises(nervecode.errors.NotReadyError):
            wrapped.surprise()  # of the last step alone, it would be
        added = torch.ones(6, text.shape[1] - x["input_ids"].shape[1], dtype=torch.long)
        mask = torch.cat([x["attention_mask"], added], 1)
        _, surprise = wrapped.score(input_ids=text, attention_mask=mask)
    assert surprise.p_value.shape == (6,)
    assert surprise.valid.all()


def test_tokens_of_a_causal_model_one_by_one() -> None:
    wrapped = nervecode.wrap(gpt2(), ["transformer.h.*"])
    wrapped.fit([batch(40, s) for s in range(3)], by_position=True)
    wrapped.calibrate([batch(40, s) for s in range(3, 6)])
    with torch.no_grad():
        _, surprise = wrapped.score(**batch(5, 9))
    assert surprise.p_value.shape == (5, 8)


@pytest.mark.parametrize("kind", ["Bart", "T5"])
def test_an_encoder_decoder_that_shifts_its_text_reads_no_padding(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {
        "Bart": {
            "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
            "bos_token_id": 1,
        },
        "T5": {"d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2},
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=WORDS, d_model=16, num_labels=3, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=1, **sizes[kind],
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()

    def ended(number: int, seed: int, padding: int = 0) -> dict[str, Tensor]:
        texts = batch(number, seed, padding=padding)
        ids, ends = texts["input_ids"], texts["attention_mask"].sum(1, keepdim=True) - 1
        ids = torch.where(ids == 2, 3, ids)
        return {**texts, "input_ids": ids.scatter(1, ends, 2)}

    wrapped = nervecode.wrap(model)
    wrapped.fit([{**ended(40, s), "labels": torch.arange(40) % 3} for s in range(3)])
    wrapped.calibrate([ended(40, s) for s in range(3, 6)])
    assert any("decoder" in name for name in wrapped.layer_names)
    with torch.no_grad():
        output, expected = wrapped.score(**ended(10, 9))
        padded, found = wrapped.score(**ended(10, 9, padding=10))
    torch.testing.assert_close(padded.logits, output.logits)
    torch.testing.assert_close(found.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.p_value, expected.p_value)


class Own(nn.Module):
    """A module of one's own around an encoder, whose mask has another name there."""

    def __init__(self, language: nn.Module) -> None:
        super().__init__()
        self.language, self.head = language, nn.Linear(16, 3)

    def forward(self, text: Tensor, token_mask: Tensor) -> Tensor:
        states = self.language(input_ids=text, attention_mask=token_mask).last_hidden_state
        return self.head(states[:, 0])


SMALL = {"vocab_size": WORDS, "pad_token_id": 0}
LANGUAGE = {
    "Bert": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    "DistilBert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "MPNet": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    "Llama": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "intermediate_size": 32,
    },
    "T5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2},
    "Bart": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
        "decoder_start_token_id": 1, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", LANGUAGE)
def test_padding_of_an_encoder_within_ones_own_module_is_not_read(kind: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **LANGUAGE[kind])
    build = getattr(transformers, "T5EncoderModel" if kind == "T5" else f"{kind}Model")

    def told(number: int, seed: int, padding: int = 0) -> dict[str, Tensor]:
        ids, mask = batch(number, seed, padding=padding).values()
        return {"text": ids, "token_mask": mask}

    wrapped = nervecode.wrap(Own(build(config)).eval())
    wrapped.fit([{**told(40, s), "labels": torch.arange(40) % 3} for s in range(3)])
    wrapped.calibrate([told(40, s) for s in range(3, 6)])
    with torch.no_grad():
        output, expected = wrapped.score(**told(10, 9))
        padded, found = wrapped.score(**told(10, 9, padding=20))
    torch.testing.assert_close(padded, output)
    assert expected.valid.all()
    torch.testing.assert_close(found.by_layer, expected.by_layer, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.p_value, expected.p_value)
