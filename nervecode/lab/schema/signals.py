"""The section `signals`: codes that are fitted after the training, or learned with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nervecode.lab.schema.section import Section
from nervecode.lab.schema.values import Finite, Positive, Selectors, Size

PRIMARY = "nervecode"

Aggregation = Literal["code_length", "mean", "max", "total", "fisher", "simes", "harmonic"]


# The settings that one recipe alone has.
OF_RECIPE = {
    "bits": ("reduce", "length_power", "rank", "codes_per_class", "label_code"),
    "v0_1_1": (
        "num_codes", "coding_dim", "temperature", "beta_length", "beta_entropy", "beta_distance",
        "detach", "revive",
    ),
}  # fmt: skip


class SignalConfig(Section):
    """One codebook signal. Recipe `bits` is fitted after training, `v0_1_1` is learned with it."""

    recipe: Literal["bits", "v0_1_1"] = "bits"
    layers: Selectors = "all_blocks"
    aggregation: Aggregation | None = None
    # Recipe bits.
    reduce: Literal["mean", "max", "mean_std", "tokens"] = "mean_std"
    length_power: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5
    rank: Annotated[int, Field(strict=True, ge=1, le=1 << 16)] = 128
    codes_per_class: Size = 8
    label_code: bool = True
    # Recipe v0_1_1. Detached, the network trains as if no code were there.
    num_codes: Annotated[int, Field(strict=True, ge=1, le=1 << 16)] = 16
    coding_dim: Size = 8
    temperature: Positive = 1.0
    beta_length: Finite = 1.0
    beta_entropy: Finite = 1.0
    beta_distance: Finite = 1.0
    detach: bool = False
    # After each epoch, codes that no input was nearest to are put on inputs.
    revive: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SignalConfig:
        if self.recipe == "v0_1_1" and self.aggregation == "code_length":
            raise ValueError("aggregation 'code_length' needs recipe 'bits'")
        if self.recipe == "bits" and self.revive:
            raise ValueError("revive needs recipe 'v0_1_1': codes of recipe 'bits' are fitted")
        return self

    def in_training(self) -> dict[str, Any]:
        """The settings that a training depends on, if it learns these codes."""
        after = {"aggregation", *OF_RECIPE["bits"]}
        # A key that came later repeats no training that is without it.
        return self.model_dump(exclude=after if self.revive else {*after, "revive"})
