"""FittedCoder, recipe `bits`: class and background codes fitted from streamed moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nervecode.core import BatchShape, CodingTrace, GaussianCode, Reducer
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.core.price import Price, price
from nervecode.layers.coder import Coder, Reduced, device_type, without_autocast


class FittedCoder(Coder):
    """Recipe `bits`: the price of a vector under class codes, and against a background code.

    Args:
        codes: the fitted codes, see `nervecode.core.GaussianCode`.
        reducer: how an activation becomes a vector; it must be the one that the moments saw.
    """

    def __init__(self, codes: GaussianCode, *, reducer: Reducer) -> None:
        super().__init__(reducer)
        self.codes = codes

    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors, in bits."""
        return _trace(vector, self.codes(vector))

    def project(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> Reduced:
        """Reduce a batch of activations; `price_together` prices it."""
        with without_autocast(device_type(activation)):
            vector = self.reduce(activation, batch)
        places = tuple(vector.shape[1:-1])
        return Reduced(
            self.codes, self.codes.fitting(vector.flatten(0, -2) if places else vector), places
        )

    def spec(self) -> dict[str, Any]:
        """The sizes of the codes and the reducer, as plain JSON values."""
        codes = self.codes
        sizes = {"num_codes": codes.num_codes, "num_classes": codes.num_classes}
        sizes |= {"dim": len(codes.mean), "rank": codes.rank, "between": codes.saving.shape[1]}
        return {"kind": "fitted", **sizes, "reducer": self.reducer.spec()}


def price_together(layers: Mapping[str, CodingTrace | Reduced]) -> dict[str, CodingTrace]:
    """Layer -> trace, in the same order; layers of equal shape are priced together."""
    alike: dict[tuple[Any, ...], dict[str, Reduced]] = {}
    for name, layer in layers.items():
        if isinstance(layer, Reduced):
            rows, device = layer.vector.shape[0], layer.vector.device
            # While a graph is traced the number of inputs is a symbol, and the same for all.
            sizes = layer.codes.num_codes, layer.codes.num_classes, device
            alike.setdefault((rows if isinstance(rows, int) else None, *sizes), {})[name] = layer
    prices: dict[str, Price] = {}
    for (*_, device), group in alike.items():
        with without_autocast(device.type):
            codes = [layer.codes for layer in group.values()]
            projections = [layer.codes.project(layer.vector) for layer in group.values()]
            prices |= zip(group, price(codes, projections), strict=True)
    return {
        name: _trace(layer.vector, prices[name], layer.places)
        if isinstance(layer, Reduced)
        else layer
        for name, layer in layers.items()
    }


def _trace(vector: Tensor, price: Price, places: tuple[int, ...] = ()) -> CodingTrace:
    return CodingTrace(price.bits, price.code, vector, price.regret, places)
