"""Diagnostics: how the codebooks of a training run are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core import CodingTrace


@dataclass
class _Sums:
    used: Tensor  # (K,) how often each code was the nearest
    values: Tensor  # (3,) sums of entropy, code length, distance


class DiagnosticsCollector:
    """Averages over the batches of an epoch, without a synchronisation until `rows`.

    Per layer: `utilisation`, the fraction of codes that were the nearest to some input; `entropy`
    H and `code_length` L in nats; `distance`, the squared distance to the nearest centre.
    """

    def __init__(self) -> None:
        self._layers: dict[str, _Sums] = {}

    def update(self, traces: Mapping[str, CodingTrace]) -> None:
        """Add one batch."""
        for name, trace in traces.items():
            code = trace.code
            with torch.no_grad():
                # Not bincount, which waits for the device to tell the largest index.
                codes = torch.arange(code.log_probs.shape[1], device=code.best_index.device)
                used = (code.best_index.view(-1, 1) == codes).sum(0).double()
                parts = (code.entropy, code.best_length, code.best_distance)
                values = torch.stack([part.detach().double().sum() for part in parts])
            known = self._layers.get(name)
            if known is not None:
                used, values = known.used + used, known.values + values
            self._layers[name] = _Sums(used, values)

    def used(self, layer: str) -> Tensor:
        """(K,) how often each code of a layer was the nearest so far."""
        return self._layers[layer].used

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, as tensors by name."""
        return {
            f"{key}.{name}": getattr(sums, key)
            for name, sums in self._layers.items()
            for key in ("used", "values")
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        names = [key.removeprefix("used.") for key in state if key.startswith("used.")]
        self._layers = {n: _Sums(state[f"used.{n}"], state[f"values.{n}"]) for n in names}

    def rows(self, **context: object) -> list[dict[str, object]]:
        """One row per layer, opening with `context`; the sums start again from zero."""
        rows = [{**context, "layer": name, **_row(sums)} for name, sums in self._layers.items()]
        self._layers = {}
        return rows


def _row(sums: _Sums) -> dict[str, object]:
    count = float(sums.used.sum())
    entropy, length, distance = (sums.values / count).tolist()
    return {
        "utilisation": float((sums.used > 0).double().mean()),
        "entropy": entropy,
        "code_length": length,
        "distance": distance,
    }
