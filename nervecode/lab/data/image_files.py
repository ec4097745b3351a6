"""Pictures in files: which a folder has, some of them, and all of them decoded."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.cache import kept
from nervecode.lab.data.images import IMAGE_SUFFIXES, RULE, UNREADABLE, decode, unreadable
from nervecode.lab.data.samples import Samples, chosen
from nervecode.lab.machine.progress import reading


@dataclass(frozen=True)
class ImageFiles:
    """N pictures in files.

    Attributes:
        paths: the files.
        labels: the class of each; -1 where there is no class.
        keep: a name under which the decoded pictures are kept in the data folder, for the next
            time; None decodes them each time. A selection is decoded each time.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    keep: str | None = None

    @classmethod
    def listed(cls, pairs: Iterable[tuple[Path, int]]) -> ImageFiles:
        """Files from (path, label) pairs."""
        listed = list(pairs)
        return cls(tuple(path for path, _ in listed), tuple(label for _, label in listed))

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, classes: list[int] | None) -> ImageFiles:
        """Those of some classes; None keeps all."""
        if classes is None:
            return self
        pairs = zip(self.paths, self.labels, strict=True)
        return ImageFiles.listed(pair for pair in pairs if pair[1] in classes)

    def sample(self, limit: int | None, generator: torch.Generator) -> ImageFiles:
        """At most so many of them at random, since files are sorted by class; in their order."""
        rows = chosen(len(self), limit, generator).tolist()
        return ImageFiles.listed((self.paths[i], self.labels[i]) for i in rows)

    def load(self, side: int, *, resize: int | None = None) -> Samples:
        """Samples of (N, 3, side, side) uint8, by the rule of `decode`.

        Raises:
            InputError: a file that is no readable picture.
        """
        if self.keep is None:
            images = self._decoded(side, resize)
        else:
            made = kept(
                f"decoded/{self.keep}",
                self._fingerprint(side, resize),
                lambda: self._decoded(side, resize).numpy(),
            )
            images = torch.from_numpy(made)
        return Samples(images, torch.tensor(self.labels, dtype=torch.int64))

    def _decoded(self, side: int, resize: int | None) -> Tensor:
        """(N, 3, side, side) uint8."""

        def read(path: Path) -> Tensor:
            try:
                return decode(path, side, resize=resize)
            except UNREADABLE as error:
                raise InputError(unreadable(str(path), error)) from None

        images = torch.empty(len(self), 3, side, side, dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = reading().track("pictures", pool.map(read, self.paths), len(self))
            for index, image in enumerate(decoded):
                images[index] = image
        return images

    def _fingerprint(self, side: int, resize: int | None) -> str:
        """SHA-256 of the rule and of names, sizes and times of the files; none of them is read."""
        from PIL import __version__

        digest = hashlib.sha256(f"{RULE}, {side}, {resize}, Pillow {__version__}".encode())
        for path in self.paths:
            about = path.stat()
            digest.update(f"\n{path} {about.st_size} {about.st_mtime_ns}".encode())
        return digest.hexdigest()


def images_below(folder: Path, passed: Counter[str] | None = None) -> list[Path]:
    """Every picture in a folder and its sub-folders, as `image_names` has them."""
    return [folder / name for name in image_names(folder, passed)]


def image_names(folder: Path, passed: Counter[str] | None = None) -> list[str]:
    """Paths of pictures below a folder, in the order of their parts.

    Links to folders are followed, though not round in circles. Paths are text, which takes a tenth
    of the memory of `Path`.

    Args:
        folder: whose hidden files and folders are passed over, without a word.
        passed: suffix -> how many files of it are passed over; counted here.

    Raises:
        InputError: a folder that cannot be read.
    """
    passed = Counter() if passed is None else passed
    return [os.path.relpath(path, folder) for path in _pictures(str(folder), frozenset(), passed)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or left by a packer or a server."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _pictures(folder: str, above: frozenset[str], passed: Counter[str]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    for entry in sorted(shown, key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _pictures(entry.path, above | {here}, passed)
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            yield entry.path
        else:
            passed[suffix or "without a suffix"] += 1
