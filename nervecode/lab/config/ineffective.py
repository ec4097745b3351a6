"""Settings that cannot act, whatever their value, beside the others of a config."""

from __future__ import annotations

from collections.abc import Iterator

from nervecode.lab.models.registry import unread_sizes
from nervecode.lab.schema import Config
from nervecode.lab.schema.signals import OF_RECIPE
from nervecode.lab.schema.train import NO_LOSS


def ineffective(config: Config) -> Iterator[tuple[str, str]]:
    """Dotted keys of settings that nothing reads in a config, and what would read them."""
    for name, signal in config.signals.items():
        for recipe, keys in OF_RECIPE.items():
            if recipe != signal.recipe:
                for key in keys:
                    yield f"signals.{name}.{key}", f"with signals.{name}.recipe {recipe}"
    if config.train.optimizer != "sgd":
        yield "train.momentum", "with train.optimizer sgd"
    if config.train.coding_loss == NO_LOSS:
        yield "train.coding_layers", "with a train.coding_loss"
        if all(signal.recipe != "v0_1_1" for signal in config.signals.values()):
            yield "train.coding_weight", "with a train.coding_loss or a signal of recipe v0_1_1"
    if config.data.id.partition(":")[0] in ("table", "series"):
        yield "data.resize", "with a data.id that is of pictures"
    for key, reader in unread_sizes(config.model.name).items():
        yield f"model.{key}", f"with {reader}"
    for name in config.bench.options.keys() - {*config.bench.detectors}:
        for option in config.bench.options[name]:
            yield f"bench.options.{name}.{option}", f"with {name} among bench.detectors"
