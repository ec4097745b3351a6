"""Rehearsals: archives in the formats of CIFAR, SVHN and others, filled with other pictures.

They stand in for the real ones where those can't be had, to try a whole benchmark. What comes of
them is no result: `run` gives every run directory a name that says so.

    python -m tests.rehearsal make FOLDER [TRAIN TEST [SET...]]
    python -m tests.rehearsal run FOLDER bench --preset demo
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle  # noqa: TID251 (CIFAR's own format, written here and read by torchvision alone)
import sys
import tarfile
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_sample_images
from torchvision import datasets

from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.locate import VARIABLE, pictures_folder

Set = tuple[np.ndarray, np.ndarray]

COLOURS = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)]
SUMS = "md5.json"


# Pictures


@cache
def photographs() -> list[np.ndarray]:
    """The pictures that scikit-learn and scikit-image carry, (H, W, 3), at half their size."""
    found = [Image.fromarray(image) for image in load_sample_images().images]
    folder = pictures_folder()
    names = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
             "motorcycle_left.png", "retina.jpg", "rocket.jpg", "brick.png", "grass.png",
             "gravel.png", "camera.png", "coins.png", "moon.png")  # fmt: skip
    for path in (folder / name for name in names if folder):
        if path.is_file():
            with Image.open(path) as image:
                found.append(image.convert("RGB"))
    return [np.asarray(image.reduce(2)) for image in found]


def crops(count: int, *, classes: int, side: int = 32, first: int = 0, seed: int = 0) -> Set:
    """(count, side, side, 3) patches and their classes: a class is a picture with its colours."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    images = np.empty((count, side, side, 3), np.uint8)
    pictures = photographs()
    for label in range(classes):
        turn, which = divmod(first + label, len(pictures))
        windows = np.lib.stride_tricks.sliding_window_view(pictures[which], (side, side, 3))
        (rows,) = np.nonzero(labels == label)
        tops, lefts = (random.integers(0, size, len(rows)) for size in windows.shape[:2])
        patches = windows[tops, lefts, 0][..., COLOURS[turn % 6]]
        images[rows] = 255 - patches if turn // 6 % 2 else patches
    return images, labels


# Formats. Each writer makes the files that its publisher offers.


def cifar10(folder: Path, train: int, test: int) -> None:
    """cifar-10-python.tar.gz; a python-3 pickle has the same keys and arrays as theirs."""
    parts = [f"data_batch_{number}" for number in range(1, 6)]
    images, labels = crops(train, classes=10)
    files = {
        part: _batch(images[rows], {"batch_label": part, "labels": labels[rows].tolist()})
        for part, rows in zip(parts, np.array_split(np.arange(train), 5), strict=True)
    }
    images, labels = crops(test, classes=10, seed=1)
    files["test_batch"] = _batch(images, {"labels": labels.tolist()})
    names = [f"class {number}" for number in range(10)]
    files["batches.meta"] = pickle.dumps({"label_names": names, "num_vis": 3072}, protocol=2)
    _tar(
        folder / "cifar-10-python.tar.gz", {f"cifar-10-batches-py/{k}": v for k, v in files.items()}
    )


def cifar100(folder: Path, train: int, test: int) -> None:
    """cifar-100-python.tar.gz."""
    files = {}
    for seed, (part, count) in enumerate((("train", train), ("test", test)), start=2):
        images, labels = crops(count, classes=100, first=10, seed=seed)
        values = {"fine_labels": labels.tolist(), "coarse_labels": (labels // 5).tolist()}
        files[part] = _batch(images, values)
    names = {"fine_label_names": [f"class {n}" for n in range(100)], "coarse_label_names": []}
    files["meta"] = pickle.dumps(names, protocol=2)
    _tar(folder / "cifar-100-python.tar.gz", {f"cifar-100-python/{k}": v for k, v in files.items()})


def svhn(folder: Path, train: int, test: int) -> None:
    """train_32x32.mat and test_32x32.mat, (32, 32, 3, N); the digit 0 has the label 10."""
    for seed, (part, count) in enumerate((("train", train), ("test", test)), start=4):
        images, labels = crops(count, classes=10, first=40, seed=seed)
        digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        path = folder / f"{part}_32x32.mat"
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": digits}, do_compression=True)


def stl10(folder: Path, train: int, test: int) -> None:
    """stl10_binary.tar.gz: (N, 3, 96, 96) column by column, classes from 1."""
    files = {"class_names.txt": b"\n".join(b"class" for _ in range(10))}
    for seed, (part, count) in enumerate((("train", train), ("test", test)), start=6):
        images, labels = crops(count, classes=10, side=96, seed=seed)
        files[f"{part}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()
        files[f"{part}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    files["unlabeled_X.bin"] = files["test_X.bin"]
    _tar(folder / "stl10_binary.tar.gz", {f"stl10_binary/{k}": v for k, v in files.items()})


def dtd(folder: Path, train: int, test: int) -> None:
    """dtd-r1.0.1.tar.gz: JPEGs of many sizes in folders of classes, and lists of three parts."""
    images, labels = crops(3 * test, classes=6, side=96, first=60, seed=8)
    files: dict[str, bytes] = {}
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"texture{label}/texture{label}_{index:04}.jpg"
        files[f"dtd/images/{name}"] = _jpeg(image[: 96 - index % 32, : 96 - index % 48])
        parts[list(parts)[index % 3]].append(name)
    for part, names in parts.items():
        for number in range(1, 11):
            text = "".join(f"{name}\n" for name in names)
            files[f"dtd/labels/{part}{number}.txt"] = text.encode()
    _tar(folder / "dtd-r1.0.1.tar.gz", files)


def places365(folder: Path, train: int, test: int) -> None:
    """val_256.tar: JPEGs without classes."""
    images, _ = crops(test, classes=6, side=128, first=70, seed=9)
    files = {f"val_256/Places365_val_{i:08}.jpg": _jpeg(x) for i, x in enumerate(images, start=1)}
    _tar(folder / "val_256.tar", files)


def tiny_imagenet(folder: Path, train: int, test: int) -> None:
    """tiny-imagenet-200.zip: folders of classes, and a validation part with its own list."""
    lines, files = [], {}
    for seed, (part, count) in enumerate((("train", train), ("val", test)), start=10):
        images, labels = crops(count, classes=8, side=64, first=80, seed=seed)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder_ = f"train/n{label:08}/images" if part == "train" else "val/images"
            files[f"tiny-imagenet-200/{folder_}/{part}_{index}.JPEG"] = _jpeg(image)
            if part == "val":
                lines.append(f"val_{index}.JPEG\tn{label:08}\t0\t0\t62\t62\n")
    files["tiny-imagenet-200/val/val_annotations.txt"] = "".join(lines).encode()
    with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


WRITERS = {one.__name__: one for one in
           (cifar10, cifar100, svhn, stl10, dtd, places365, tiny_imagenet)}  # fmt: skip


def _batch(images: np.ndarray, values: dict[str, Any]) -> bytes:
    """(N, 32, 32, 3) images as CIFAR's (N, 3072), plane by plane, with further values."""
    data = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    names = [f"{number}.png" for number in range(len(images))]
    return pickle.dumps({"data": np.ascontiguousarray(data), "filenames": names, **values}, 2)


def _jpeg(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=90)
    return content.getvalue()


def _tar(path: Path, files: dict[str, bytes]) -> None:
    mode = "w:gz" if path.suffix == ".gz" else "w"
    options = {"compresslevel": 1} if path.suffix == ".gz" else {}
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


# Their sums in the place of the published ones


def make(folder: Path, names: list[str], *, train: int = 600, test: int = 120) -> dict[str, str]:
    """Write the archives of sets; returns the MD5 of each file, and of each within a tar file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        WRITERS[name](folder, train, test)
    sums = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.suffix == ".json":
            continue
        sums[path.name] = _md5(path.read_bytes())
        if path.name.endswith(".tar.gz") and not path.name.startswith("dtd"):
            with tarfile.open(path) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    assert content is not None
                    sums[member.name] = _md5(content.read())
    (folder / SUMS).write_text(json.dumps(sums))
    return sums


def trust(sums: dict[str, str], patch: pytest.MonkeyPatch) -> None:
    """Let catalogue and torchvision take these sums for the published ones."""
    for name in WRITERS:
        entry = CATALOGUE[name]
        assert entry.archives is not None
        downloads = tuple(
            replace(one, md5=sums.get(one.name, one.md5)) for one in entry.archives.downloads
        )
        known = replace(entry.archives, downloads=downloads, megabytes=1)
        patch.setitem(CATALOGUE, name, replace(entry, archives=known))
    for reader in (datasets.CIFAR10, datasets.CIFAR100, datasets.STL10):
        base = reader.base_folder
        for parts in ("train_list", "test_list"):
            trusted = [[n, sums.get(f"{base}/{n}", md5)] for n, md5 in getattr(reader, parts)]
            patch.setattr(reader, parts, trusted)
        if reader is not datasets.STL10:
            md5 = sums.get(f"{base}/{reader.meta['filename']}", reader.meta["md5"])
            patch.setattr(reader, "meta", reader.meta | {"md5": md5})
    published = datasets.SVHN.split_list.items()
    parts = {part: [url, n, sums.get(n, md5)] for part, (url, n, md5) in published}
    patch.setattr(datasets.SVHN, "split_list", parts)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def main(command: str, place: str, *arguments: str) -> int:
    """`make FOLDER [TRAIN TEST [SET...]]`, or `run FOLDER NERVECODE-ARGUMENTS`."""
    from nervecode.cli.main import run

    folder = Path(place).resolve()
    os.environ[VARIABLE] = str(folder / "data")
    if command == "make":
        train, test, *names = arguments or ("600", "120")
        chosen = names or list(WRITERS)
        trust(make(folder, chosen, train=int(train), test=int(test)), pytest.MonkeyPatch())
        return run(["data", "fetch", *chosen, "--from", str(folder)])
    trust(json.loads((folder / SUMS).read_text()), pytest.MonkeyPatch())
    # No figure of such a run may be taken for one of CIFAR.
    label = ["-o", "name=rehearsal"] if arguments[0] in ("bench", "train") else []
    return run([*arguments, *label])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
