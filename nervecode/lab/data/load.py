"""Loading: a set by its spec, as ID data, or as a set in the shape of the ID inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from nervecode.errors import InputError
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.images import SIDE, fit_images
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS
from nervecode.lab.data.samples import Samples, Shape


def load_dataset(spec: str, *, side: int | None = None) -> Dataset:
    """A labelled set, for use as ID data.

    Args:
        spec: a name, or `folder:PATH`.
        side: height and width of its images; None keeps those of a set of one size, and takes
            32 for pictures of many.

    Raises:
        InputError: a set that is damaged, or without classes.
    """
    name, _, argument = spec.partition(":")
    if name in DATASETS:
        dataset = DATASETS[name]()
        return dataset if side is None else _resized(dataset, side)
    files = IMAGE_SETS[name](argument)
    classes = set(files.train.labels)
    if len(classes) < 2:
        count = 0 if classes == {-1} else len(classes)
        raise InputError(
            f"data: {spec}: found {count} class sub-folders, allowed as ID data: two or more"
        )
    test = files.test.load(side or SIDE) if files.test else None
    return Dataset(files.train.load(side or SIDE), test)


def load_outside(
    spec: str, shape: Shape, *, limit: int | None = None, generator: torch.Generator
) -> Samples:
    """The test part of a set, or some classes of it, in the shape of the ID inputs.

    Args:
        spec: a name, `NAME:CLASS,CLASS`, or `folder:PATH`.
        shape: of one ID input.
        limit: decode at most so many pictures in files, taken at random.
        generator: the source of that choice.

    Raises:
        InputError: a set that is damaged or does not fit, or classes that it does not have.
    """
    name, _, argument = spec.partition(":")
    if name in DATASETS:
        dataset = DATASETS[name]()
        samples = _classes(dataset.test or dataset.train, spec, argument)
    else:
        files = IMAGE_SETS[name](argument)
        part = files.test or files.train
        wanted = part if name == "folder" else part.of(_wanted(spec, argument))
        _not_empty(len(wanted), spec)
        # Grey inputs are made from RGB, and others than squares from larger squares.
        samples = wanted.sample(limit, generator).load(max(shape[-2:]) if len(shape) == 3 else SIDE)
    return Samples.unlabelled(fit_images(samples.inputs, shape))


def number(spec: str, argument: str) -> float | None:
    """The number after a name, None where there is none."""
    if not argument:
        return None
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"data: the set {spec!r}: found {argument!r}, allowed: numbers")
    return value


def _resized(dataset: Dataset, side: int) -> Dataset:
    def fit(samples: Samples) -> Samples:
        shape = (samples.inputs.shape[1], side, side)
        return replace(samples, inputs=fit_images(samples.inputs, shape))

    return Dataset(fit(dataset.train), fit(dataset.test) if dataset.test else None)


def _classes(samples: Samples, spec: str, argument: str) -> Samples:
    wanted = _wanted(spec, argument)
    if wanted is None:
        return samples
    samples = samples[torch.isin(samples.labels, torch.tensor(wanted))]
    _not_empty(len(samples), spec)
    return samples


def _wanted(spec: str, argument: str) -> list[int] | None:
    return [int(number(spec, part) or 0) for part in argument.split(",")] if argument else None


def _not_empty(count: int, spec: str) -> None:
    if not count:
        raise InputError(f"data: the set {spec!r} is empty: no such class")
