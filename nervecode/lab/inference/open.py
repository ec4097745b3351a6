"""Opening what scores, a run or a graph; and inputs: images, an array, tar files, a data set."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from nervecode.errors import InputError, did_you_mean, nearest
from nervecode.files import names_beside, suffix_of
from nervecode.lab.data.by_path.array_files import inputs_array
from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.by_path.series_files import read_new_ts
from nervecode.lab.data.by_path.sets import is_own
from nervecode.lab.data.by_path.table_files import TABLE_SUFFIXES
from nervecode.lab.data.images import IMAGE_SUFFIXES, is_image
from nervecode.lab.data.load import load_outside
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS, OUTLIERS
from nervecode.lab.data.samples import Shape, as_float
from nervecode.lab.data.seen import UNENCODED, Seen
from nervecode.lab.inference.arrays import ArrayInputs, MappedInputs
from nervecode.lab.inference.graph import SUFFIX, GraphScorer
from nervecode.lab.inference.images import ImageInputs
from nervecode.lab.inference.primary import WrappedScorer
from nervecode.lab.inference.scorer import Scorer
from nervecode.lab.inference.source import SKIPS, Source
from nervecode.lab.inference.tables import TableInputs
from nervecode.lab.inference.tars import TarInputs
from nervecode.lab.run.directory import RunDir

ARRAY_SUFFIXES, SERIES_SUFFIX = (".npy", ".npz"), ".ts"
PACKED = re.compile(r"\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)


def open_scorer(model: Path, seed: int | None = None, *, device: str | None = None) -> Scorer:
    """The calibrated model of a run, or of an `.onnx` file.

    Raises:
        InputError: no run or graph, a graph of another kind or a seed that it does not have.
        ArtifactError: the run is not calibrated, or a file is missing or damaged.
        MissingExtraError: a graph, without the extra `export`.
    """
    if model.suffix == ".pt2" and not model.is_dir():
        raise InputError(
            f"{model}: allowed: a run or an .onnx file, since .pt2 archives hold pickles; "
            "`nervecode export RUN --output model.onnx` makes one"
        )
    if model.suffix == SUFFIX and not model.is_dir():
        return GraphScorer(model, seed, device)
    return WrappedScorer.of(RunDir(model), seed, device=device)


def open_inputs(
    source: str,
    shape: Shape,
    *,
    option: str = "--input",
    encoder: TableEncoder | None = None,
    skip_bad: bool = False,
    workers: int = 1,
    resize: int | None = None,
) -> Source:
    """Inputs in the shape that a model takes, to be read a batch at a time.

    Args:
        source: a folder of images, an image, an `.npy`, `.npz`, `.ts`, `.csv`, `.tsv` or `.parquet`
            file, tar files in WebDataset's layout and notation (`x-{000..099}.tar`), or the name of
            a data set. An `.npy` file is mapped, an `.npz` or `.ts` file or a set held in memory.
        shape: (C, H, W) or (D,) of one input. Images are resized; arrays must fit.
        option: what errors call it.
        encoder: of the columns of a table, where the model was trained on one.
        skip_bad: leave out images and rows that cannot be read, rather than refuse all.
        workers: threads that decode images.
        resize: what the shorter side of an image is before it is cropped, as in the run's config.

    Raises:
        InputError: nothing there, a wrong shape, or an unknown name.
        MissingExtraError: tar files or a table, without the extra that reads them.
    """
    source = without_kind(source)
    if not source.strip():
        raise InputError(f"{option}: found {source!r}, allowed: a path or the name of a data set")
    path = Path(source).expanduser()
    suffix = suffix_of(path)
    if source == "-" or (path.exists() and not (path.is_dir() or path.is_file())):
        raise InputError(
            f"{option} {source}: is a pipe or a device, which can be read but once, allowed: a "
            "file, a folder or the name of a data set"
        )
    if path.is_dir():
        return ImageInputs(path, shape, skip_bad=skip_bad, workers=workers, resize=resize)
    if PACKED.search(source):
        raise InputError(
            f"{source}: is a packed tar file, allowed: .tar, as `gunzip` or the like makes it, "
            "since a packed one may unpack to any size"
        )
    if suffix == ".tar":
        return TarInputs(source, shape, skip_bad=skip_bad, workers=workers, resize=resize)
    if suffix in ARRAY_SUFFIXES:
        array = _array(path, shape, skip_bad=skip_bad)
        if encoder is not None:
            array.remarks += (f"{source} {UNENCODED}",)
        return array
    if suffix == SERIES_SUFFIX:
        seen, bad = Seen(), BadRows(skip_bad, SKIPS)
        values = read_new_ts(path, seen, bad)
        series = ArrayInputs(source, values, shape, skip_bad=skip_bad, bad=bad.reasons)
        series.remarks = tuple(seen.remarks(source))
        return series
    if suffix in TABLE_SUFFIXES:
        return TableInputs(path, shape, encoder, skip_bad=skip_bad)
    if path.is_file():
        if suffix not in IMAGE_SUFFIXES and not is_image(path):
            files = (*ARRAY_SUFFIXES, SERIES_SUFFIX, *TABLE_SUFFIXES, ".tar", *IMAGE_SUFFIXES)
            raise InputError(f"{option} {source}: found {suffix!r}, allowed: {', '.join(files)}")
        return ImageInputs(path, shape, skip_bad=skip_bad, workers=workers, resize=resize)
    return _named(source, shape, resize, option)


def without_kind(source: str) -> str:
    """The path of `array:PATH`, `folder:PATH` and the like; other sources as they are."""
    kind, _, path = source.partition(":")
    return path if is_own(source) or kind == "folder" else source


def _array(path: Path, shape: Shape, *, skip_bad: bool) -> ArrayInputs:
    if suffix_of(path) == ".npy":
        return MappedInputs(path, shape, skip_bad=skip_bad)
    return ArrayInputs(str(path), inputs_array(path), shape, skip_bad=skip_bad)


def _named(source: str, shape: Shape, resize: int | None, option: str) -> ArrayInputs:
    names = [*DATASETS, *IMAGE_SETS, "list", *OUTLIERS]
    if source.partition(":")[0] not in names:
        path = Path(source)
        near = nearest(path.name, [*names, *names_beside(path, Path.exists)])
        hint = did_you_mean(source, names) if near in [*names, None] else f"did you mean {near!r}?"
        raise InputError(f"{option} {source}: neither a path nor a data set; {hint}")
    generator, seen = torch.Generator().manual_seed(0), Seen()
    if source in OUTLIERS:
        inputs = OUTLIERS[source](shape, generator)
    else:
        samples = load_outside(source, shape, resize=resize, generator=generator, seen=seen)
        inputs = as_float(samples.inputs)
    named = ArrayInputs(source, inputs.numpy(), shape)
    named.remarks += tuple(seen.remarks(source))
    return named
