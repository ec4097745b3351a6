"""The splits of a benchmark: ID train, calibration and test, and the OOD sets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import require
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.load import load_dataset, load_outside, number
from nervecode.lab.data.names import set_names
from nervecode.lab.data.registry import OUTLIERS, SHIFTS
from nervecode.lab.data.samples import Samples, as_float
from nervecode.lab.schema import DataConfig


@dataclass(frozen=True)
class OodSet:
    """A set that the classifier was not made for, and its group: near, far or shift."""

    name: str
    group: str
    samples: Samples


@dataclass(frozen=True)
class Splits:
    """Disjoint ID splits, and the sets to tell apart from ID test.

    Attributes:
        train: the classifier, the codebooks and the statistics of every detector.
        calibration: normalisation, thresholds, calibration and combination.
        test: metrics only.
        ood: metrics only.
        classes: the ID classes, by the numbers they have in the set; labels count them from 0.
    """

    train: Samples
    calibration: Samples
    test: Samples
    ood: tuple[OodSet, ...]
    classes: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """How many ID classes there are."""
        return len(self.classes)

    def evaluated(self) -> dict[str, Samples]:
        """What is scored, by file name: ID calibration, ID test, then every OOD set."""
        named = {"id_calibration": self.calibration, "id_test": self.test}
        return named | {f"ood_{ood_set.name}": ood_set.samples for ood_set in self.ood}


def build_splits(config: DataConfig, *, limit_eval: int | None = None) -> Splits:
    """Load the data of a config and split it; the same config gives the same splits.

    Args:
        config: which sets, and how large the splits are.
        limit_eval: at most so many inputs of ID test and of each OOD set.

    Raises:
        InputError: sets that are not on this machine, classes that the set does not have, or
            splits that would be empty.
    """
    require((config.id, *config.near, *config.far))
    dataset = load_dataset(config.id, side=config.image_size)
    held_out = _check_classes(config, dataset)
    kept = [int(c) for c in dataset.train.labels.unique() if int(c) not in held_out]
    train, calibration, test, unknown = _id_splits(config, dataset, kept)
    train = train.head(config.limit_train)
    for name, part in (("train", train), ("calibration", calibration), ("test", test)):
        if len(part) < 2:
            raise InputError(f"data: the {name} split of {config.id!r} holds {len(part)} samples")
    whole, test = test, test.head(limit_eval)
    names, ood = set_names(config), []
    for group in ("near", "far", "shift"):
        for spec in getattr(config, group):
            _no_kept_class(spec, config, kept)
            samples = _ood(spec, config, train, test, unknown, limit_eval).head(limit_eval)
            if group != "shift":
                _differs(spec, samples, whole)
            ood.append(OodSet(names[spec], group, samples))
    return Splits(train, calibration, test, tuple(ood), tuple(kept))


def _no_kept_class(spec: str, config: DataConfig, kept: list[int]) -> None:
    name, _, argument = spec.partition(":")
    inside = set(argument.split(",")) & set(map(str, kept))
    if name == config.id and inside:
        raise InputError(
            f"data: the OOD set {spec!r} holds class {min(inside)} of the ID set; allowed: classes "
            "under hold_out"
        )


def _differs(spec: str, samples: Samples, test: Samples) -> None:
    """Refuse a set that is ID test under another name."""
    count = min(len(samples), len(test))
    outside, inside = samples.inputs[:count], test.inputs[:count]
    if count and outside.dtype == inside.dtype and torch.equal(outside, inside):
        raise InputError(f"data: the OOD set {spec!r} holds the ID test split itself")


def _check_classes(config: DataConfig, dataset: Dataset) -> set[int]:
    classes = set(dataset.train.labels.tolist())
    missing = sorted(set(config.hold_out) - classes)
    if missing:
        raise InputError(f"data.hold_out: {config.id} has no class {missing[0]}; "
                         f"allowed: {', '.join(map(str, sorted(classes)))}")  # fmt: skip
    if len(classes) - len(set(config.hold_out)) < 2:
        raise InputError(f"data.hold_out: fewer than two classes of {config.id} would be left")
    return set(config.hold_out)


def _id_splits(
    config: DataConfig, dataset: Dataset, kept: list[int]
) -> tuple[Samples, Samples, Samples, Samples]:
    """(train, calibration, test, held-out classes); a publisher's test part stays the test."""
    pool, unknown = _take_classes(dataset.train, kept)
    if dataset.test is None and config.calibration_from == "test":
        raise InputError(
            f"data.calibration_from: found 'test', but {config.id!r} has no published test part; "
            "allowed: train"
        )
    if dataset.test is None:
        order = _order(config, len(pool))
        test = round(config.test_fraction * len(pool))
        cut = test + round(config.calibration_fraction * len(pool))
        return pool[order[cut:]], pool[order[test:cut]], pool[order[:test]], unknown
    # Outliers come from the same part as ID test, so that nothing but the class differs.
    test_part, unknown = _take_classes(dataset.test, kept)
    shared = test_part if config.calibration_from == "test" else pool
    order = _order(config, len(shared))
    cut = round(config.calibration_fraction * len(shared))
    calibration, rest = shared[order[:cut]], shared[order[cut:]]
    if config.calibration_from == "test":
        # In a random order, which `limit_train` needs where a publisher sorts by class.
        return pool[_order(config, len(pool))], calibration, rest, unknown
    return rest, calibration, test_part, unknown


def _order(config: DataConfig, count: int) -> Tensor:
    return torch.randperm(count, generator=_generator(config, "split"))


def _take_classes(samples: Samples, kept: list[int]) -> tuple[Samples, Samples]:
    """(the kept classes, renumbered from 0; all others)."""
    known = torch.isin(samples.labels, torch.tensor(kept))
    inside = samples[known]
    renumbered = torch.searchsorted(torch.tensor(kept), inside.labels)
    return Samples(inside.inputs, renumbered), samples[~known]


def _ood(
    spec: str,
    config: DataConfig,
    train: Samples,
    test: Samples,
    unknown: Samples,
    limit: int | None,
) -> Samples:
    name, _, argument = spec.partition(":")
    shape = tuple(test.inputs.shape[1:])
    generator = _generator(config, spec)
    if argument and (name == "held_out" or name in OUTLIERS):
        raise InputError(f"data: the set {spec!r}: found {argument!r}, allowed: no argument")
    if name == "held_out":
        return unknown
    if name in SHIFTS:
        strength = number(spec, argument)
        return Samples(SHIFTS[name](as_float(test.inputs), strength, generator), test.labels)
    try:
        if name in OUTLIERS:
            return Samples.unlabelled(_in_range(OUTLIERS[name](shape, generator), train))
        return load_outside(spec, shape, limit=limit, generator=generator)
    except InputError as error:
        if str(error).startswith("data:"):
            raise
        raise InputError(f"data: the set {spec!r}: {error}") from None


def _in_range(outliers: Tensor, train: Samples) -> Tensor:
    """Outliers in [0, 1] as they are for images; for features, over the range of each in train."""
    if outliers.ndim == 4:
        return outliers
    low, high = train.inputs.amin(0), train.inputs.amax(0)
    return low + outliers * (high - low)


def _generator(config: DataConfig, purpose: str) -> torch.Generator:
    """One stream of random numbers per purpose, so that adding a set changes no other."""
    digest = hashlib.sha256(f"{config.split_seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
