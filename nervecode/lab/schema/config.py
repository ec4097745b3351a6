"""Config: all sections, and what belongs to none; what a training depends on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from nervecode.lab.schema.bench import BenchConfig
from nervecode.lab.schema.data import DataConfig
from nervecode.lab.schema.model import ModelConfig
from nervecode.lab.schema.section import Section
from nervecode.lab.schema.signals import PRIMARY, SignalConfig
from nervecode.lab.schema.train import TrainConfig
from nervecode.lab.schema.values import Seed

MAX_SEEDS = 1000


class CostConfig(Section):
    """What a run takes on two CPU cores, for the reader; nothing depends on it."""

    minutes: str = "?"
    memory: str = "?"


class Config(Section):
    """Everything that a run depends on."""

    LATER = frozenset({"transfer"})

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    description: str = ""
    cost: CostConfig = CostConfig()
    demo: bool = False
    # Its inputs or its network come from a training elsewhere, which may have met any of the sets.
    transfer: bool = False
    seeds: tuple[Seed, ...] = (0,)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # CPU threads; None leaves PyTorch its own. A small network is fastest on one, by far where
    # cores are shared: OpenMP's threads spin while they wait for each other.
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    # PyTorch's deterministic algorithms alone; on a CPU, results repeat without.
    deterministic: bool = False
    data: DataConfig
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    signals: dict[str, SignalConfig] = Field(default={PRIMARY: SignalConfig()})
    bench: BenchConfig = BenchConfig()

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("found [], allowed: at least one seed")
        if len(seeds) > MAX_SEEDS:
            raise ValueError(f"found {len(seeds):,} seeds, allowed: at most {MAX_SEEDS:,}")
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seed {twice[0]} is given twice")
        return seeds

    @field_validator("signals")
    @classmethod
    def _has_primary(cls, signals: dict[str, SignalConfig]) -> dict[str, SignalConfig]:
        if PRIMARY not in signals:
            raise ValueError(f"one signal must be named {PRIMARY!r}")
        for name in signals:
            if not name.startswith(PRIMARY) or not name.isidentifier():
                raise ValueError(f"signal names begin with {PRIMARY!r}, found {name!r}")
        return signals

    @property
    def transferred(self) -> bool:
        """Whether figures are to be read as those of a transfer."""
        return self.transfer or self.model.weights is not None

    def training_inputs(self) -> dict[str, Any]:
        """The settings that a training depends on, beside its seed.

        Without defaults, so that a key that a later release adds does not repeat the training.
        """
        inputs = self.model_dump(
            mode="json", include={"data", "model", "train"}, exclude_defaults=True
        )
        for group in ("near", "far", "shift"):  # the classifier never sees them
            inputs["data"].pop(group, None)
        learned = {n: s.in_training() for n, s in self.signals.items() if s.recipe == "v0_1_1"}
        inputs["signals"] = learned
        return {**inputs, "deterministic": True} if self.deterministic else inputs
