"""TarInputs: images in tar files of WebDataset's layout, read where they lie, never unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from types import ModuleType

import torch
from torch import Tensor

from nervecode.errors import InputError, need_extra
from nervecode.files import absent
from nervecode.lab.data.images import IMAGE_SUFFIXES, MAX_PIXELS
from nervecode.lab.data.samples import EVAL_BATCH, Shape
from nervecode.lab.inference.images import check_image_shape, fitted, gather, tolerant
from nervecode.lab.inference.source import Inputs, Source

MAX_BYTES = 4 * MAX_PIXELS  # an image of so many pixels takes fewer, however it is stored
END = 2 * tarfile.BLOCKSIZE  # the zeros that end every tar file

Member = tuple[str, tarfile.TarInfo]


class TarInputs(Source):
    """The image of each sample, named by its key; a tar file is a unit.

    The notation of several files (`x-{000..099}.tar`) and the rule for keys (the path up to the
    first dot of the file name) are those of https://github.com/webdataset/webdataset.
    """

    def __init__(
        self,
        source: str,
        shape: Shape,
        *,
        skip_bad: bool,
        workers: int,
        resize: int | None = None,
    ) -> None:
        need_extra(f"--input {source}", "webdataset", "webdataset")
        import webdataset

        self.webdataset: ModuleType = webdataset
        paths = [Path(url) for url in webdataset.shardlists.expand_urls(source)]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            more = f"{missing[0]}: no such file (and {len(missing) - 1} more)"
            raise InputError(more if len(missing) > 1 else absent(missing[0]))
        check_image_shape(source, shape)
        self.paths, self.shape, self.skip_bad, self.workers = paths, shape, skip_bad, workers
        self.resize = resize
        self.units = len(paths)
        self.identity = {"tars": [[path.name, path.stat().st_size] for path in paths]}

    def read(self, unit: int) -> Iterator[Inputs]:
        """The images of one tar file that could be decoded."""
        path = self.paths[unit]
        try:
            _check_end(path)
            # Plain tar files alone: a packed one may unpack to any size, and cannot be sought in.
            with tarfile.open(path, "r:") as tar, ThreadPoolExecutor(self.workers) as pool:
                without: dict[str, str] = {}
                members, lock = self._images(path, tar, without), Lock()

                def decode(member: Member) -> Tensor | str:
                    def read() -> Tensor:
                        content = _content(tar, member[1], lock)
                        return fitted(content, self.shape, resize=self.resize)

                    name = f"{path}/{member[1].name}"
                    return tolerant(name, read, skip_bad=self.skip_bad)

                while batch := list(islice(members, EVAL_BATCH)):
                    yield gather(
                        [key for key, _ in batch], list(pool.map(decode, batch)), self.shape
                    )
            if without:
                yield Inputs(torch.empty(0, *self.shape), [], (_told(path, without),))
        except (tarfile.TarError, OSError) as error:
            raise InputError(f"{path}: not a readable tar file ({error})") from None

    def _images(
        self, path: Path, tar: tarfile.TarFile, without: dict[str, str]
    ) -> Iterator[Member]:
        """(key, member) of every image; what else a sample holds is passed over.

        In `without` stays a file of each sample that has no image.
        """
        seen: set[str] = set()
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # there may be any number
            key, _ = self.webdataset.tariterators.base_plus_ext(member.name)
            suffix = os.path.splitext(member.name)[1].lower()
            if key is None or not member.isreg():
                continue
            if suffix not in IMAGE_SUFFIXES:
                if key not in seen:
                    without[key] = member.name
                continue
            if key in seen:
                raise InputError(f"{path}: sample {key!r} has two images, allowed: one")
            seen.add(key)
            without.pop(key, None)
            yield key, member
        if not seen:
            raise InputError(f"{path}: holds no image; allowed: {', '.join(IMAGE_SUFFIXES)}")


def _told(path: Path, without: Mapping[str, str]) -> str:
    name = next(iter(without.values()))
    many = f"{len(without):,} samples" if len(without) > 1 else "a sample"
    return f"{path}: {many} without an image of {', '.join(IMAGE_SUFFIXES)}, such as {name!r}"


def _check_end(path: Path) -> None:
    """Refuse a file that was cut: the standard library takes some cuts for the end."""
    with path.open("rb") as file:
        file.seek(-min(END, path.stat().st_size), os.SEEK_END)
        if file.read() != bytes(END):
            raise tarfile.ReadError("it ends too early")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, lock: Lock) -> io.BytesIO:
    """The bytes of a member; one thread at a time, since they share the file's position.

    Raises:
        ValueError: a sparse member, or one larger than any image, either of which fills the memory.
    """
    if member.issparse() or member.size > MAX_BYTES:
        raise ValueError(f"{member.size:,} bytes, allowed: {MAX_BYTES:,} and not sparse")
    with lock:
        file = tar.extractfile(member)
        assert file is not None
        return io.BytesIO(file.read())
