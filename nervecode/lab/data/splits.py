"""The splits of a benchmark: ID train, calibration and test, and the OOD sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.by_path.encoded import Category
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.load import load_id, load_outside, number
from nervecode.lab.data.locate import require_sets
from nervecode.lab.data.names import set_names
from nervecode.lab.data.partition import (
    Parts,
    digests_of,
    inside_inputs,
    kept_classes,
    partition,
    shared_inputs,
    stream,
    unread_shares,
)
from nervecode.lab.data.registry import OUTLIERS, SHIFTS
from nervecode.lab.data.samples import Samples, Shape, as_float
from nervecode.lab.data.seen import Seen
from nervecode.lab.schema import PATHS, DataConfig

TURNED = 10  # channels a step, from which on series look like (N, T, C)


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
        classes: the ID classes, by their names or by the numbers they have in the set; labels
            count them from 0.
        encoder: what was fitted to the columns of a table on ID train; None for other sets.
        remarks: what a user should know of the data, such as how many values are missing.
    """

    train: Samples
    calibration: Samples
    test: Samples
    ood: tuple[OodSet, ...]
    classes: tuple[int | str, ...]
    encoder: TableEncoder | None = None
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Of one input."""
        return tuple(self.train.inputs.shape[1:])

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
    kind = config.id.partition(":")[0]
    require_sets([config])
    dataset = load_id(config)
    kept = kept_classes(config, dataset)
    parts, encoder, remarks = _encoded(config, dataset, partition(config, dataset, kept))
    remarks = [*remarks, *unread_shares(config, dataset)]
    by_path = any(s.partition(":")[0] in PATHS for s in (config.id, *config.near, *config.far))
    digests = list(map(digests_of, parts[:3])) if by_path else []
    if kind in PATHS:
        remarks += shared_inputs(config, parts, digests)
    if kind == "series":
        remarks += _turned(*parts.train.inputs.shape[1:])
    whole, parts = parts.test, parts._replace(test=parts.test.head(limit_eval))
    names, ood, known = set_names(config), list[OodSet](), set(chain(*digests))
    for group in ("near", "far", "shift"):
        for spec in getattr(config, group):
            _no_kept_class(spec, config, dataset, kept)
            seen = Seen()
            samples = _ood(spec, config, parts, limit_eval, encoder, seen).head(limit_eval)
            remarks += seen.remarks(names[spec])
            if group != "shift":
                _differs(spec, samples, whole)
                if spec not in OUTLIERS:  # a corner of a narrow range is no leak
                    remarks += inside_inputs(names[spec], samples, known)
            ood.append(OodSet(names[spec], group, samples))
    train, calibration, test, _ = parts
    classes = tuple(dataset.classes[n] if dataset.classes else n for n in kept)
    return Splits(train, calibration, test, tuple(ood), classes, encoder, tuple(remarks))


def _encoded(
    config: DataConfig, dataset: Dataset, parts: Parts
) -> tuple[Parts, TableEncoder | None, list[str]]:
    """The rows of a table as numbers; the columns are fitted to those of ID train."""
    table = dataset.table
    if table is None:
        return parts, None, dataset.seen.remarks("ID")
    seen = Seen()
    try:
        encoder = TableEncoder.fitted(table.iloc[parts.train.inputs.numpy()])
    except InputError as error:
        raise InputError(f"{config.id}: {error}") from None

    def encode(part: Samples) -> Samples:
        encoded = encoder.encode(table.iloc[part.inputs.numpy()], seen)
        if overflow := encoder.overflow(encoded):
            raise InputError(f"{config.id}: {overflow[1]}")
        return replace(part, inputs=encoded)

    texts = [
        f"ID: {remark}"
        for column in encoder.columns
        if isinstance(column, Category) and column.name not in config.categories
        for remark in column.remarks(len(parts.train))
    ]
    remarks = [
        f"ID: column {name!r} numbers the rows; data.drop=[{name}] leaves it out"
        for name in encoder.numbers
        if _numbers_rows(table[name].to_numpy())
    ]
    return Parts(*map(encode, parts)), encoder, [*remarks, *texts, *seen.remarks("ID")]


def _numbers_rows(values: np.ndarray) -> bool:
    """Whether a column ascends or descends by the same step from row to row."""
    steps = np.diff(values)
    return len(steps) > 1 and bool(steps[0] != 0 and (steps == steps[0]).all())


def _turned(channels: int, steps: int) -> list[str]:
    """What is to be told of series that look like (N, T, C)."""
    remark = (
        f"ID: series of {channels:,} channels and {steps:,} steps; where it is the other way "
        "round, x.transpose(0, 2, 1) brings the channels to the front"
    )
    return [remark] * (channels >= TURNED * steps)


def _no_kept_class(spec: str, config: DataConfig, dataset: Dataset, kept: list[int]) -> None:
    name, _, argument = spec.partition(":")
    inside = set(argument.split(",")) & set(map(dataset.name, kept))
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
        if spec in OUTLIERS:
            raise InputError(
                f"data: the set {spec!r} fills the range of ID train, where all inputs are one; "
                "allowed: ID inputs that differ"
            )
        raise InputError(f"data: the OOD set {spec!r} holds the ID test split itself")


def _ood(
    spec: str,
    config: DataConfig,
    parts: Parts,
    limit: int | None,
    encoder: TableEncoder | None,
    seen: Seen,
) -> Samples:
    name, _, argument = spec.partition(":")
    shape = tuple(parts.test.inputs.shape[1:])
    generator = stream(config, spec)
    if argument and (name == "held_out" or name in OUTLIERS):
        raise InputError(f"data: the set {spec!r}: found {argument!r}, allowed: no argument")
    if name == "held_out":
        if not len(parts.held_out):
            raise InputError("data: the set 'held_out' is empty: no row of these classes is left")
        return parts.held_out
    if name in SHIFTS:
        strength = number(spec, argument)
        shifted = SHIFTS[name](as_float(parts.test.inputs), strength, generator)
        return Samples(shifted, parts.test.labels)
    try:
        if name in OUTLIERS:
            return Samples.unlabelled(_in_range(OUTLIERS[name](shape, generator), parts.train))
        return load_outside(
            spec,
            shape,
            limit=limit,
            resize=config.resize,
            generator=generator,
            encoder=encoder,
            seen=seen,
        )
    except InputError as error:
        if str(error).startswith("data:"):
            raise
        raise InputError(f"data: the set {spec!r}: {error}") from None


def _in_range(outliers: Tensor, train: Samples) -> Tensor:
    """Outliers in [0, 1], spread over the range in train of each feature, or channel of series."""
    if outliers.ndim == 4:
        return outliers
    dims = (0,) if outliers.ndim == 2 else (0, 2)
    inputs = as_float(train.inputs)
    low, high = inputs.amin(dims, keepdim=True), inputs.amax(dims, keepdim=True)
    return low + outliers * (high - low)
