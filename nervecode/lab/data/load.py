"""Loading: a set by its spec, as ID data, or as a set in the shape of the ID inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from nervecode.errors import InputError
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.by_path.image_lists import read_list
from nervecode.lab.data.by_path.picture_parts import load_parts
from nervecode.lab.data.by_path.sets import is_own, load_own, outside_inputs
from nervecode.lab.data.dataset import Dataset, ImageDataset
from nervecode.lab.data.images import SIDE, fit_images
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS
from nervecode.lab.data.samples import Samples, Shape, chosen
from nervecode.lab.data.seen import Seen
from nervecode.lab.schema import DataConfig


def load_id(config: DataConfig) -> Dataset:
    """The ID set of a config.

    Raises:
        InputError: a set that cannot be read, or without classes.
    """
    if config.id.partition(":")[0] in ("folder", "list"):
        return load_parts(config)
    if not is_own(config.id):
        return load_dataset(config.id, side=config.image_size, resize=config.resize)
    dataset, side = load_own(config), config.image_size
    return dataset if side is None else _resized(dataset, side)


def load_dataset(spec: str, *, side: int | None = None, resize: int | None = None) -> Dataset:
    """A labelled set, for use as ID data.

    Args:
        spec: its name.
        side: height and width of its images; None keeps those of a set of one size, and takes
            32 for pictures of many.
        resize: what the shorter side of a picture in a file is before the centre is cropped.

    Raises:
        InputError: a set that is damaged, or without classes.
    """
    name, _, argument = spec.partition(":")
    if name in DATASETS:
        dataset = DATASETS[name]()
        return dataset if side is None else _resized(dataset, side)
    files = IMAGE_SETS[name](argument)
    if -1 in files.train.labels:
        raise InputError(f"data.id: {spec} has no classes, allowed as ID data: a set with classes")
    side = side or SIDE
    test = files.test.load(side, resize=resize) if files.test else None
    return Dataset(files.train.load(side, resize=resize), test, classes=files.classes)


def load_outside(
    spec: str,
    shape: Shape,
    *,
    limit: int | None = None,
    resize: int | None = None,
    generator: torch.Generator,
    encoder: TableEncoder | None = None,
    seen: Seen | None = None,
) -> Samples:
    """The test part of a set, or some classes of it, in the shape of the ID inputs.

    Args:
        spec: a name, `NAME:CLASS,CLASS`, or a kind and a path, as in `folder:PATH`.
        shape: of one ID input.
        limit: take at most so many of what is given by path, at random.
        resize: what the shorter side of a picture in a file is before the centre is cropped.
        generator: the source of that choice.
        encoder: of the ID table, where that is one.
        seen: told what the encoder meets.

    Raises:
        InputError: a set that is damaged or does not fit, or classes that it does not have.
    """
    name, _, argument = spec.partition(":")
    seen = seen or Seen()
    if is_own(spec):
        inputs = outside_inputs(spec, encoder, seen)
        samples = Samples.unlabelled(inputs[chosen(len(inputs), limit, generator)])
    elif name in DATASETS:
        samples = _classes(DATASETS[name](), spec, argument)
    else:
        listed = name == "list"
        files = ImageDataset(read_list(Path(argument))) if listed else IMAGE_SETS[name](argument)
        seen.passed += files.seen.passed
        part = files.test or files.train
        wanted = part if name in ("folder", "list") else part.of(_wanted(spec, argument))
        _not_empty(len(wanted), spec)
        # Grey inputs are made from RGB, and others than squares from larger squares.
        side = max(shape[-2:]) if len(shape) == 3 else SIDE
        samples = wanted.sample(limit, generator).load(side, resize=resize)
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

    if dataset.train.inputs.ndim != 4:
        raise InputError(
            f"data.image_size: found {side}, allowed: none, since ID data are no images"
        )
    test, calibration = dataset.test, dataset.calibration
    return replace(
        dataset,
        train=fit(dataset.train),
        test=fit(test) if test else None,
        calibration=fit(calibration) if calibration else None,
    )


def _classes(dataset: Dataset, spec: str, argument: str) -> Samples:
    samples = dataset.test or dataset.train
    if argument and dataset.classes:
        name = spec.partition(":")[0]
        wanted: list[int] | None = dataset.find(argument.split(","), source=f"data: {name}")
    else:
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
