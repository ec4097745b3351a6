"""Fuzzing: whatever a config or an artifact holds, it is read or refused in words, and soon."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nervecode.errors import NervecodeError
from nervecode.files import read_npz
from nervecode.lab.config.presets import presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.splits import build_splits
from nervecode.lab.models.build import build_model
from nervecode.lab.models.features import Features
from nervecode.lab.results.rows import read_rows
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.verify import verify_run
from nervecode.lab.stages.checkpoint import CALIBRATION_FORMAT, load_checkpoint, unpack_signals
from nervecode.lab.sweep.cells import FILE, Cell, read_sweep, write_sweep
from nervecode.lab.sweep.state import state_of
from nervecode.layers.storage import read_tensors
from nervecode.viz.saved import Saved
from tests.lab.inference.reading import read_inputs

SECONDS = 5.0
GIB = 1 << 20  # in the KiB that getrusage counts in
PRESETS = [path.read_bytes() for path in presets().values()]
WORDS = [
    b"!!python/name:os.system", b"&a", b"*a", b"<<: *a", b"{", b"}", b"[", b"]", b": ", b"- ",
    b"null", b".nan", b".inf", b"-1", b"1e999", b"99999999999999999999", b"0x" + b"f" * 99,
    b"true", b"2020-01-01", b"!!binary AAAA", b"!!set {a}", b"? [a]", b"\x00", b"\xff", b"|",
    b"extends: toy\n", b"seeds: [0]\n", b"signals: ", b"train: ", b"data: ", b"bench: ", b"\n",
    b"nervecode: ", b"layers: ", b"1: 2\n", b"~: 1\n", b"'", b'"', b"%", b"@", b"`", b"#", b"\t",
    b"options: ", b"\xe2\x80\xa8",
]  # fmt: skip


def mutated(source: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Each cut replaces some bytes at a place, counted around the end, by others."""
    for place, length, text in cuts:
        start = place % (len(source) + 1)
        source = source[:start] + text + source[start + length :]
    return source


def cuts(words: list[bytes]) -> st.SearchStrategy[list[tuple[int, int, bytes]]]:
    text = st.sampled_from(words) | st.binary(max_size=6)
    return st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 40), text), max_size=5)


@contextmanager
def in_bounds() -> Iterator[None]:
    """Success or an error of ours, in a few seconds of work, in less than a GiB."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        yield
    except NervecodeError as error:
        assert str(error)
    assert time.process_time() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIB


def many(count: int) -> Any:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def check_config(path: Path, source: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    path.write_bytes(mutated(source, changes))
    with in_bounds():
        resolve(file=path)


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_config_is_read_or_refused(count: int, tmp_path: Path) -> None:
    @many(count)
    @example(b"? [a]: b", [])
    @example(b"extends: toy\nseeds: 0x" + b"f" * 5000, [])
    @example(b"extends: toy\ntrain: {epochs: !!timestamp 2020-01-01}", [])
    @example(b"extends: toy\n1: 2\n~: 3\n2020-01-01: 4", [])
    @example(b"extends: toy\ndata: {id: 1, hold_out: {a: b}, far: [[1]]}", [])
    @example(b"extends: toy\nbench: {options: {energy: 3, knn: {1: 2}}, detectors: [[1], {}]}", [])
    @given(st.sampled_from(PRESETS), cuts(WORDS))
    def check(source: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        check_config(tmp_path / "x.yaml", source, changes)

    check()


# Artifacts

Reader = Callable[[RunDir, Path], Any]


def read_checkpoint(run: RunDir, path: Path) -> Any:
    return load_checkpoint(run, path, device=torch.device("cpu"))


def read_calibration(run: RunDir, path: Path) -> Any:
    splits = build_splits(run.config.data)
    model = build_model(run.config.model, splits.train, splits.num_classes)
    header, tensors = read_tensors(path, CALIBRATION_FORMAT)
    return unpack_signals(header, tensors, model, source=str(path))


# Artifact -> how it is read where no hash has stopped it.
LOADERS: dict[str, Reader] = {
    "checkpoints/seed_0.safetensors": read_checkpoint,
    "calibration/seed_0.safetensors": read_calibration,
    "layerwise/seed_0/id_test.npz": lambda run, path: read_npz(path),
    "scores/seed_0/id_test.npz": lambda run, path: read_inputs(str(path), (8,)),
    "meta.json": lambda run, path: verify_run(RunDir(run.root)),
    "config.yaml": lambda run, path: resolve(file=path),
}
# Artifact -> how it is read in a run, where its hash is looked at first.
READERS: dict[str, Reader] = {
    "results.json": lambda run, path: read_rows(run),
    "metrics/seed_0.csv": lambda run, path: Saved(run.root).epochs(0),
    "scores/seed_0/id_test.npz": lambda run, path: Saved(run.root).scores("id_test"),
    "config.yaml": lambda run, path: run.config,
    "log.jsonl": lambda run, path: verify_run(run),
    ".lock": lambda run, path: (run.status, run.lock.is_stale(), run.lock.owner()),
}
PARTS = [
    b"\x00" * 8, b"\xff" * 8, b"PK\x01\x02", b"PK\x03\x04", b"\x93NUMPY", b'{"', b"}", b"[" * 99,
    b"null", b"NaN", b"1e999", b"-1", b'"shape":[9999999999]', b'"dtype":"F64"', b"'|O'",
    b"9" * 30, b"\\ud800", b'"host": "x", "process": 1',
]  # fmt: skip


@pytest.mark.parametrize("count", [25, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["LOADERS", "READERS"])
@pytest.mark.parametrize("number", range(6))
def test_any_artifact_is_read_or_refused(number: int, kind: str, count: int, copy: Path) -> None:
    """Twelve readers of 200 files each are 2,400."""
    name, reader = list(globals()[kind].items())[number]
    path = copy / name
    source = path.read_bytes() if path.exists() else b'{"host": "elsewhere", "process": 3}'
    whole = copy.parent / "whole.npz"
    shutil.copyfile(copy / "layerwise/seed_0/id_test.npz", whole)

    @many(count)
    @given(cuts(PARTS))
    def check(changes: list[tuple[int, int, bytes]]) -> None:
        path.write_bytes(mutated(source, changes))
        with in_bounds():
            reader(RunDir(copy), path)

    check()


@pytest.mark.parametrize("count", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_any_sweep_is_read_or_refused(count: int, config: Path, tmp_path: Path) -> None:
    plan = resolve(file=config).config
    cells = [Cell.of(plan, seed, {"train.epochs": 2}) for seed in plan.seeds]
    path = write_sweep(tmp_path, cells).folder / FILE
    source = path.read_bytes()
    keys = [f'"{key}": '.encode() for key in ("id", "config", "seeds", "settings", "name")]

    @many(count)
    @example([(source.index(b'"id"') + 7, 12, b"../../../tmp")])
    @example([(source.index(b'"seeds"') + 9, 20, b"[]")])
    @given(cuts(PARTS + keys))
    def check(changes: list[tuple[int, int, bytes]]) -> None:
        path.write_bytes(mutated(source, changes))
        with in_bounds():
            for cell in read_sweep(tmp_path).cells:
                assert cell.root(tmp_path).parent == tmp_path
                assert state_of(cell, tmp_path).word == "waiting"

    check()


def resealed(source: bytes, keys: list[str], value: Any) -> bytes:
    """Metadata in which a value was exchanged by somebody who knows of the hash."""
    from nervecode.lab.run.meta import sealed

    meta = json.loads(source)
    node = meta
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return json.dumps(sealed(meta)).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [["status"], ["seeds"], ["gate"], ["gate", "passed"], ["stages"], ["files"], ["demo"],
     ["stages", "score/seed_0"], ["stages", "score/seed_0", "outputs"], ["ood_groups"],
     ["files", "config.yaml"], ["split_sizes"], ["schema_version"], ["primary_method"], ["name"]]
)  # fmt: skip


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_forged_metadata_are_read_or_refused(count: int, copy: Path) -> None:
    source = (copy / "meta.json").read_bytes()

    @many(count)
    @given(KEYS, VALUES)
    def check(keys: list[str], value: Any) -> None:
        (copy / "meta.json").write_bytes(resealed(source, keys, value))
        with in_bounds():
            run = RunDir(copy)
            verify_run(run)
            run.verified(run.paths.scores(0, "id_test"))
            assert run.status is not None
            Saved(copy).scores("id_test")

    check()


def test_random_bytes_are_no_features(tmp_path: Path) -> None:
    @many(50)
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        (tmp_path / "x").write_bytes(data)
        with in_bounds():
            Features.load(tmp_path / "x", torch.zeros(0))

    check()
