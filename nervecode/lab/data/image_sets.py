"""Sets of pictures in files: textures, places, Tiny ImageNet, and any folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nervecode.errors import InputError
from nervecode.lab.data.dataset import ImageDataset
from nervecode.lab.data.image_files import ImageFiles, images_below, is_hidden
from nervecode.lab.data.images import IMAGE_SUFFIXES
from nervecode.lab.data.locate import locate, require
from nervecode.lab.data.seen import Seen


def dtd(argument: str = "") -> ImageDataset:
    """5,640 textures, 47 classes (https://arxiv.org/abs/1311.3618); all three parts as one."""
    root = _home("dtd") / "dtd/dtd"
    pairs = []
    for part in ("train1", "val1", "test1"):
        for line in _lines(root / f"labels/{part}.txt", "dtd"):
            pairs.append((root / "images" / line, line.partition("/")[0]))
    return ImageDataset(_numbered(sorted(pairs)))


def places365(argument: str = "") -> ImageDataset:
    """36,500 photographs of places, the validation part; without labels."""
    pictures = images_below(_home("places365") / "val_256")
    return ImageDataset(ImageFiles.listed((path, -1) for path in pictures))


def tiny_imagenet(argument: str = "") -> ImageDataset:
    """110,000 photographs, 200 classes; the published validation part is the test."""
    root = _home("tiny_imagenet") / "tiny-imagenet-200"
    train = _numbered([(path, path.parents[1].name) for path in images_below(root / "train")])
    names = sorted({path.parents[1].name for path in train.paths})
    pairs = []
    for line in _lines(root / "val/val_annotations.txt", "tiny_imagenet"):
        file, name = line.split("\t")[:2]
        pairs.append((root / "val/images" / file, names.index(name)))
    return ImageDataset(train, ImageFiles.listed(pairs))


def folder(argument: str = "") -> ImageDataset:
    """Any folder of images: its sub-folders are the classes, in order of their names.

    A folder without sub-folders has no classes, and can be an OOD set only.

    Raises:
        InputError: a folder that is absent or holds no image.
    """
    require([f"folder:{argument}"])
    root = Path(argument)
    seen = Seen()
    (files,), classes = class_folders([root], seen)
    if not len(files):
        seen = Seen()
        files = ImageFiles.listed((path, -1) for path in images_below(root, seen.passed))
    if not len(files):
        raise InputError(f"{root}: holds no image; allowed: {', '.join(IMAGE_SUFFIXES)}")
    return ImageDataset(files, classes=classes, seen=seen)


def class_folders(roots: Sequence[Path], seen: Seen) -> tuple[list[ImageFiles], tuple[str, ...]]:
    """(the pictures in the sub-folders of each root; their classes, numbered for all together).

    `seen` is told which files are passed over.
    """
    listed = [
        [
            (path, label.name)
            for label in sub_folders(root)
            for path in images_below(label, seen.passed)
        ]
        for root in roots
    ]
    for root in roots:
        seen.passed["beside the folders of the classes"] += sum(
            path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not is_hidden(path.name)
            for path in root.iterdir()
        )
        seen.passed["empty"] += sum(not any(label.iterdir()) for label in sub_folders(root))
    names = sorted({name for pairs in listed for _, name in pairs})
    numbers = {name: number for number, name in enumerate(names)}
    files = [ImageFiles.listed((path, numbers[name]) for path, name in pairs) for pairs in listed]
    return files, tuple(names)


def sub_folders(root: Path) -> list[Path]:
    """The folders in a folder, in the order of their names."""
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not is_hidden(path.name)]


def _home(name: str) -> Path:
    require([name])
    return Path(locate(name).where)


def _numbered(pairs: list[tuple[Path, str]]) -> ImageFiles:
    """Files with the names of their classes as numbers, in the order of the names."""
    numbers = {name: number for number, name in enumerate(sorted({name for _, name in pairs}))}
    return ImageFiles.listed((path, numbers[name]) for path, name in pairs)


def _lines(path: Path, name: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        again = f"get it again: nervecode data fetch {name}"
        raise InputError(f"{path}: cannot be read ({error}); {again}") from None
