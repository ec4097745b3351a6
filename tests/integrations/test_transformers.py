"""SurpriseTrainerCallback in a training by the Trainer of Transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import nervecode
from nervecode.errors import InputError

transformers = pytest.importorskip(
    "transformers", reason="no transformers: the extra `integrations` brings it"
)
from nervecode.integrations.transformers import SurpriseTrainerCallback  # noqa: E402


def texts(n: int, seed: int, low: int = 0) -> list[dict[str, Any]]:
    """Made-up token sequences: each of two classes has words of its own."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(n):
        label = index % 2
        tokens = torch.randint(20, (12,), generator=generator) + 20 * label + low
        rows.append({"input_ids": tokens, "attention_mask": torch.ones(12).long(), "labels": label})
    return rows


def model() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=2,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def loader(rows: list[dict[str, Any]]) -> DataLoader[Any]:
    return DataLoader(rows, 50, collate_fn=transformers.default_data_collator)


def test_codes_are_fitted_told_and_saved(tmp_path: Path) -> None:
    callback = SurpriseTrainerCallback(loader(texts(300, 1)))
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=30, per_device_train_batch_size=32, report_to=[], use_cpu=True,
        learning_rate=5e-3, disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    trainer = transformers.Trainer(
        model(), arguments, train_dataset=texts(600, 0), eval_dataset=texts(100, 2),
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    assert (tmp_path / "nervecode.safetensors").exists()
    wrapped = nervecode.load(tmp_path / "nervecode.safetensors", trainer.model.eval())

    def flagged(rows: list[dict[str, Any]]) -> float:
        (batch,) = DataLoader(rows, len(rows), collate_fn=transformers.default_data_collator)
        batch.pop("labels")
        with torch.no_grad():
            return float(wrapped.score(**batch)[1].flag(0.05).double().mean())

    assert flagged(texts(200, 3)) < 0.15
    assert flagged(texts(200, 3, low=50)) > 0.5


def test_no_loader_to_calibrate_on() -> None:
    with pytest.raises(InputError, match="held_out: found NoneType"):
        SurpriseTrainerCallback(None)  # type: ignore[arg-type]
