"""Partition: which rows of the ID set train, calibrate and test, and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.samples import Samples
from nervecode.lab.schema import DataConfig


class Parts(NamedTuple):
    """The kept classes, renumbered from 0, in three parts; and the classes that are held out."""

    train: Samples
    calibration: Samples
    test: Samples
    held_out: Samples


def kept_classes(config: DataConfig, dataset: Dataset) -> list[int]:
    """The numbers of the ID classes: all that are not held out.

    Raises:
        InputError: a class that the set does not have, or fewer than two that are left.
    """
    held_out = dataset.find(config.hold_out, source=f"data.hold_out: {config.id}")
    kept = [number for number in dataset.numbers() if number not in held_out]
    if len(kept) < 2:
        if not config.hold_out:
            raise InputError(f"data.id: {config.id} has {len(kept)} class, allowed: two or more")
        raise InputError(f"data.hold_out: fewer than two classes of {config.id} would be left")
    return kept


def partition(config: DataConfig, dataset: Dataset, kept: list[int]) -> Parts:
    """Cut the ID set; a publisher's test part stays the test, and groups stay together.

    Raises:
        InputError: parts that would be empty, lack a class, or share a group.
    """
    parts = _cut(config, dataset, kept)
    _has_all_classes(config, dataset, kept, parts)
    parts = parts._replace(train=parts.train.head(config.limit_train))
    for name, part in zip(Parts._fields[:3], parts, strict=False):
        if len(part) < 2:
            path = {"calibration": config.calibration, "test": config.test}.get(name)
            what = "samples of kept classes" if config.hold_out else "samples"
            if config.group is not None:
                what += f"; rows of one data.group ({config.group!r}) stay together"
            raise InputError(
                f"data: the {name} split of {path or config.id!r} holds {len(part)} {what}"
            )
    return _apart(config, parts)


def unread_shares(config: DataConfig, dataset: Dataset) -> list[str]:
    """What is to be told of shares that were chosen of parts which the data bring themselves."""
    brought = {"test_fraction": dataset.test}
    if dataset.test is not None:
        brought["calibration_fraction"] = dataset.calibration
    usual = type(config).model_fields
    return [
        f"ID: data.{name} {getattr(config, name)} has no effect, since the data have this part of "
        "their own"
        for name, part in brought.items()
        if part is not None and getattr(config, name) != usual[name].default
    ]


def shared_inputs(config: DataConfig, parts: Parts, digests: Sequence[list[bytes]]) -> list[str]:
    """What is to be told of inputs that two ID splits hold, as a file with duplicates gives them.

    Args:
        config: of the data.
        parts: the splits.
        digests: `digests_of` ID train, calibration and test.

    Raises:
        InputError: all inputs of a test part of its own are in ID train or calibration, of the
            same class.
    """
    train, calibration, test = digests
    labelled = [
        set(zip(own, part.labels.tolist(), strict=True))
        for own, part in zip(digests, parts, strict=False)
    ]
    if config.test and labelled[2] <= labelled[0] | labelled[1]:
        raise InputError(
            f"data.test: all {len(test):,} inputs of {config.test} are in ID train or calibration "
            "as well, allowed: inputs that are in neither"
        )
    too_many = "new inputs raise more false alarms than alpha"
    too_low = "false alarms are counted too low"
    remarks = []
    for name, inputs, others, known, follows in (
        ("calibration", calibration, "train", train, too_many),
        ("test", test, "train", train, too_low),
        ("test", test, "calibration", calibration, too_low),
    ):
        seen = set(known)
        if count := sum(digest in seen for digest in inputs):
            remarks.append(
                f"ID: {count:,} of {len(inputs):,} {name} inputs are in ID {others} too, so that "
                f"{follows}"
            )
    return remarks


def inside_inputs(name: str, samples: Samples, known: set[bytes]) -> list[str]:
    """What is to be told of a set outside of ID that holds inputs of ID, by `digests_of` these."""
    count = sum(digest in known for digest in digests_of(samples)) if known else 0
    remark = (
        f"{name}: {count:,} of {len(samples):,} inputs are in ID train, calibration or test too, "
        "so that its AUROC is too low"
    )
    return [remark] * (count > 0)


def digests_of(samples: Samples) -> list[bytes]:
    """What tells each input again."""
    rows = samples.inputs.numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def stream(config: DataConfig, purpose: str) -> torch.Generator:
    """One stream of random numbers per purpose, so that adding a set changes no other."""
    digest = hashlib.sha256(f"{config.split_seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _cut(config: DataConfig, dataset: Dataset, kept: list[int]) -> Parts:
    pool, held_out = _take_classes(dataset.train, kept)
    if dataset.test is None and config.calibration_from == "test":
        raise InputError(
            f"data.calibration_from: found 'test', but {config.id!r} has no published test part; "
            "allowed: train"
        )
    if dataset.test is None:
        pool = pool[_order(config, pool)]
        test = _boundary(pool, round(config.test_fraction * len(pool)))
        cut = _boundary(pool, test + round(config.calibration_fraction * len(pool)))
        return Parts(pool[cut:], pool[test:cut], pool[:test], held_out)
    # Outliers come from the same part as ID test, so that nothing but the class differs.
    test_part, held_out = _take_classes(dataset.test, kept)
    if dataset.calibration is not None:
        return Parts(pool, _take_classes(dataset.calibration, kept)[0], test_part, held_out)
    shared = test_part if config.calibration_from == "test" else pool
    shared = shared[_order(config, shared)]
    cut = _boundary(shared, round(config.calibration_fraction * len(shared)))
    calibration, rest = shared[:cut], shared[cut:]
    if config.calibration_from == "test":
        # In a random order, which `limit_train` needs where a publisher sorts by class.
        return Parts(pool[_order(config, pool)], calibration, rest, held_out)
    return Parts(rest, calibration, test_part, held_out)


def _take_classes(samples: Samples, kept: list[int]) -> tuple[Samples, Samples]:
    """(the kept classes, renumbered from 0; all others)."""
    known = torch.isin(samples.labels, torch.tensor(kept))
    inside = samples[known]
    renumbered = torch.searchsorted(torch.tensor(kept), inside.labels)
    return Samples(inside.inputs, renumbered, inside.groups), samples[~known]


def _order(config: DataConfig, samples: Samples) -> Tensor:
    """A random order, in which the rows of a group stand side by side."""
    if samples.groups is None:
        return torch.randperm(len(samples), generator=stream(config, "split"))
    names, rows = samples.groups.unique(return_inverse=True)
    places = torch.randperm(len(names), generator=stream(config, "split"))
    return places[rows].argsort(stable=True)


def _boundary(samples: Samples, cut: int) -> int:
    """The place nearest to a cut that parts no group of ordered samples."""
    if samples.groups is None:
        return cut
    changes = 1 + (samples.groups[1:] != samples.groups[:-1]).nonzero().flatten()
    places = torch.cat([torch.tensor([0]), changes, torch.tensor([len(samples)])])
    return int(places[(places - cut).abs().argmin()])


def _has_all_classes(config: DataConfig, dataset: Dataset, kept: list[int], parts: Parts) -> None:
    """Refuse an ID class of one row, or with none in the training part."""
    for label, number in enumerate(kept):
        rows = sum(int((part.labels == label).sum()) for part in parts[:3])
        if rows < 2 or not (parts.train.labels == label).any():
            found = "1 row" if rows == 1 else f"{rows} rows, none of them in the train split"
            raise InputError(
                f"data: class {dataset.name(number)!r} of {config.id!r} has {found}; allowed: two "
                f"or more, one of them in train, or data.hold_out=[{dataset.name(number)}]"
            )


def _apart(config: DataConfig, parts: Parts) -> Parts:
    """Refuse groups that parts share; leave out held-out rows of groups that were trained on."""
    train, calibration, test, held_out = (part.groups for part in parts)
    if train is None or calibration is None or test is None or held_out is None:
        return parts
    before = torch.cat([train, calibration])
    for rows, name, others in ((test, "test", before), (calibration, "calibration", train)):
        shared = int(torch.isin(rows, others).sum())
        if shared:
            raise InputError(
                f"data.group: {shared} rows of the {name} split of {config.id!r} belong to groups "
                "of another split; allowed: each group in one"
            )
    return parts._replace(held_out=parts.held_out[~torch.isin(held_out, before)])
