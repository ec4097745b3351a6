"""Parts: an ID set of pictures by path, with a test and a calibration part of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nervecode.errors import InputError
from nervecode.lab.data.by_path.image_lists import read_labelled
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.image_files import ImageFiles, image_names
from nervecode.lab.data.image_sets import class_folders, sub_folders
from nervecode.lab.data.images import IMAGE_SUFFIXES, SIDE
from nervecode.lab.data.partition import stream
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.seen import Seen
from nervecode.lab.schema import DataConfig

# Folders of these names hold the parts of a set, and no classes.
PART_NAMES = ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing")


def load_parts(config: DataConfig) -> Dataset:
    """The ID set that a config gives as folders or lists: of training, of test and calibration.

    Where no other part is cut from the training part, pictures beyond `limit_train` are not even
    decoded.

    Raises:
        InputError: folders or lists that cannot be read, pictures without a class, or fewer than
            two classes.
    """
    kind, _, path = config.id.partition(":")
    given = {"id": path, "test": config.test, "calibration": config.calibration}
    paths = {key: Path(value) for key, value in given.items() if value}
    classes: tuple[str, ...] = ()
    seen = Seen()
    if kind == "list":
        listed = [read_labelled(path) for path in paths.values()]
    else:
        listed, classes = class_folders(list(paths.values()), seen)
        _check_folders(paths, listed, classes)
    files = dict(zip(paths, listed, strict=True))
    if config.calibration or (config.test and config.calibration_from == "test"):
        files["id"] = files["id"].sample(config.limit_train, stream(config, "lists"))

    def load(key: str) -> Samples | None:
        side = config.image_size or SIDE
        return files[key].load(side, resize=config.resize) if key in files else None

    train = load("id")
    assert train is not None
    return Dataset(train, load("test"), load("calibration"), classes=classes, seen=seen)


def _check_folders(
    paths: dict[str, Path], listed: Sequence[ImageFiles], classes: tuple[str, ...]
) -> None:
    """Refuse folders without classes, classes without a picture, and parts in place of classes."""
    for (key, path), files in zip(paths.items(), listed, strict=True):
        numbers = set(files.labels)
        for folder in sub_folders(path):
            if folder.name not in {classes[number] for number in numbers}:
                _check_no_pictures(folder, key)
        count, least = len(numbers), 2 if key == "id" else 1
        if count < least:
            raise InputError(
                f"data.{key}: {path}: found {count} class sub-folders, allowed as ID data: "
                f"{('one', 'two')[least - 1]} or more"
            )
    parts = [name for name in classes if name.lower() in PART_NAMES]
    if len(parts) > 1:
        train = next((name for name in parts if "train" in name.lower()), parts[0])
        other = next(name for name in parts if name != train)
        root = paths["id"]
        raise InputError(
            f"data.id: {root} holds {', '.join(parts)}, which are parts and no classes; allowed: "
            f"data.id=folder:{root / train} with data.test={root / other}"
        )


def _check_no_pictures(folder: Path, key: str) -> None:
    """Refuse a folder whose files are no pictures that are read; an empty one is no class."""
    passed: Counter[str] = Counter()
    image_names(folder, passed)
    if passed:
        raise InputError(
            f"data.{key}: {folder}: holds no picture, found {', '.join(sorted(passed))}; allowed "
            f"in a class: {', '.join(IMAGE_SUFFIXES)}"
        )
