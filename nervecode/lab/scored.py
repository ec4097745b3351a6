"""Scored: percentile, p-value, flag and surprise per layer of new inputs, and how to write them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.features import EVAL_BATCH
from nervecode.lab.files import write_npz, write_text
from nervecode.lab.inputs import Inputs
from nervecode.lab.progress import Progress
from nervecode.layers import WrappedModel

OUTPUT_SUFFIXES = (".csv", ".jsonl", ".npz")


@dataclass(frozen=True)
class Scored:
    """N scored inputs; `by_layer` is (N, L) in bits, the other arrays are (N,)."""

    ids: list[str]
    surprise: np.ndarray
    percentile: np.ndarray
    p_value: np.ndarray
    flag: np.ndarray
    prediction: np.ndarray
    by_layer: np.ndarray
    layers: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The column of each layer in a table: `bits:NAME`."""
        return [f"bits:{name}" for name in self.layers]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain row per input."""
        for i, name in enumerate(self.ids):
            yield {
                "id": name,
                "surprise": float(self.surprise[i]),
                "percentile": float(self.percentile[i]),
                "p_value": float(self.p_value[i]),
                "flag": bool(self.flag[i]),
                "prediction": int(self.prediction[i]),
                **{
                    f"bits:{n}": float(b)
                    for n, b in zip(self.layers, self.by_layer[i], strict=True)
                },
            }


def score_inputs(
    wrapped: WrappedModel, inputs: Inputs, *, alpha: float, progress: Progress
) -> Scored:
    """Score inputs with a calibrated model; a p-value of at most alpha raises the flag.

    Raises:
        InputError: an alpha outside (0, 1).
    """
    check_alpha(alpha)
    device = next(wrapped.model.parameters()).device
    parts: list[tuple[Tensor, ...]] = []
    layers: tuple[str, ...] = ()
    batches = inputs.inputs.split(EVAL_BATCH)
    with torch.no_grad():
        for x in progress.track("score", batches, len(batches)):
            logits, traces = wrapped.forward_with_trace(x.to(device))
            found = wrapped.aggregate(traces)
            layers = found.layers
            columns = (found.surprise, found.percentile, found.p_value, logits.argmax(1))
            parts.append((*columns, found.by_layer))
    joined = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    surprise, percentile, p_value, prediction, by_layer = joined
    return Scored(
        inputs.ids, surprise, percentile, p_value, p_value <= alpha, prediction, by_layer, layers
    )


def check_alpha(alpha: float) -> None:
    """Refuse an alpha outside (0, 1)."""
    if not 0 < alpha < 1:
        raise InputError(f"--alpha: found {alpha}, allowed: between 0 and 1")


def check_output(path: Path, *, force: bool = False) -> None:
    """Refuse an output that cannot or must not be written, before any work is done."""
    if path.suffix not in OUTPUT_SUFFIXES:
        allowed = ", ".join(OUTPUT_SUFFIXES)
        raise InputError(f"--output {path}: unknown suffix {path.suffix!r}, allowed: {allowed}")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: no such folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--output {path}: cannot be written")
    if path.exists() and not force:
        raise InputError(f"--output {path}: exists; --force replaces it")


def write_scored(scored: Scored, path: Path, *, force: bool = False) -> None:
    """Write `.csv`, `.jsonl` or `.npz`, by the suffix of the path; an existing file with force."""
    check_output(path, force=force)
    if path.suffix == ".npz":
        write_npz(path, _arrays(scored))
        return
    text = io.StringIO()
    rows = scored.rows()
    if path.suffix == ".jsonl":
        for row in rows:
            text.write(json.dumps(row) + "\n")
    else:
        columns = ["id", "surprise", "percentile", "p_value", "flag", "prediction"]
        columns += scored.columns
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, text.getvalue())


def _arrays(scored: Scored) -> dict[str, np.ndarray]:
    return {
        "sample_ids": np.array(scored.ids),
        "layer_names": np.array(scored.layers),
        "surprise": scored.by_layer.astype(np.float32),
        "score": scored.surprise,
        "percentile": scored.percentile,
        "p_value": scored.p_value,
        "flag": scored.flag,
        "predictions": scored.prediction,
    }
