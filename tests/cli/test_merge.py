"""`nervecode score --shard` and `nervecode merge`."""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trust import processes

COUNT = 700  # three batches
SHARDS = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def shards(
    cli: Any, finished: Path, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    return [score(cli, finished, source, folder, f"{i}/{SHARDS}") for i in range(1, SHARDS + 1)]


def score(cli: Any, run: Path, source: Path, folder: Path, shard: str, *options: object) -> Path:
    output = folder / "scores.npz"
    found = cli("score", run, "--input", source, "--output", output, "--shard", shard, *options)
    assert found.status == 0, found.err
    assert f"nervecode merge {folder}/scores.shard-*-of-{shard.split('/')[1]}.npz" in found.err
    return Path(found.out.strip())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npz"])
def test_merged_shards_are_the_scores_of_one_go(
    cli: Any, finished: Path, source: Path, shards: list[Path], tmp_path: Path, suffix: str
) -> None:
    whole, merged = tmp_path / f"whole.{suffix}", tmp_path / f"merged.{suffix}"
    one = cli("score", finished, "--input", source, "--output", whole)
    assert one.status == 0, one.err
    assert f"{COUNT} inputs from {source}" in one.err
    assert "inputs a second" in one.err
    found = cli("merge", *reversed(shards), "--output", merged)
    assert found.status == 0, found.err
    assert found.out.strip() == str(merged)
    assert f"{COUNT} inputs of {SHARDS} shards" in found.err
    assert merged.read_bytes() == whole.read_bytes()
    again = cli("merge", *shards, "--output", merged)
    assert (again.status, "exists; --force replaces it" in again.err) == (2, True)
    assert cli("merge", *shards, "--output", merged, "--force").status == 0


def test_names_of_shards_tell_which_they_are(shards: list[Path]) -> None:
    assert [path.name for path in shards] == [f"scores.shard-{i}-of-4.npz" for i in range(1, 5)]


def test_a_shard_that_is_done_is_not_scored_again(
    cli: Any, finished: Path, source: Path, tmp_path: Path
) -> None:
    path = score(cli, finished, source, tmp_path, "2/3")
    before = path.stat()
    command = ("score", finished, "--input", source, "--shard", "2/3", "--output")
    found = cli(*command, tmp_path / "scores.npz")
    assert found.status == 0
    assert "shard 2 of 3 was done before; --force scores it again" in found.err
    assert "inputs a second" not in found.err
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    data = path.read_bytes()
    other = cli(*command, tmp_path / "scores.npz", "--alpha", "0.2")
    assert other.status == 2
    assert "exists, and is another or damaged; --force replaces it" in other.err
    assert path.read_bytes() == data
    path.write_bytes(data[:-1])
    assert cli(*command, tmp_path / "scores.npz").status == 2
    assert cli(*command, tmp_path / "scores.npz", "--force").status == 0
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shard", "5/4", "--output", "x.npz"), "found shard 5 of 4, allowed: 1/4 to 4/4"),
        (("--shard", "x", "--output", "x.npz"), "found 'x', allowed: i/n as in 3/10"),
        (("--shard", "1/4"), "--shard: needs --output FILE.npz"),
        (("--shard", "1/4", "--output", "x.csv"), "allowed for a shard: '.npz'"),
        (("--shard", "1/4", "--output", "none/x.npz"), "no such folder none"),
    ],
)
def test_shards_that_cannot_be(
    cli: Any, finished: Path, source: Path, options: tuple[str, ...], words: str
) -> None:
    found = cli("score", finished, "--input", source, *options)
    assert (found.status, words in found.err) == (2, True), found.err


def test_what_cannot_be_merged(
    cli: Any, finished: Path, source: Path, shards: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((COUNT, 8, 8)))
    (tmp_path / "text.npz").write_text("hello")
    of_other = score(cli, finished, other, tmp_path, "4/4")
    of_seed = score(cli, finished, source, tmp_path, "1/4", "--seed", "1")
    for given, status, words in (
        (shards[1:], 2, "shards missing of 4: 1; given: 3"),
        ([*shards, shards[2]], 2, "shard 3 of 4 is given twice"),
        ([*shards[:3], of_other], 2, "input: found {"),
        ([*shards[1:], of_seed], 2, "checkpoint: found "),
        ([*shards, tmp_path / "text.npz"], 4, "text.npz: is damaged or no shard"),
        ([*shards, tmp_path / "none.npz"], 4, "none.npz: is missing"),
    ):
        found = cli("merge", *given, "--output", output)
        assert (found.status, words in found.err) == (status, True), found.err
        assert not output.exists()
    assert cli("merge", *shards, "--output", tmp_path / "x.txt").status == 2


def test_ids_that_come_twice_are_named(cli: Any, finished: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    for number in range(2):
        with wds.TarWriter(str(tmp_path / f"x-{number}.tar")) as writer:
            for key in ("same", f"own{number}"):
                image = Image.new("L", (8, 8), 99 * number)
                writer.write({"__key__": key, "png": image})
    tars = tmp_path / "x-{0..1}.tar"
    parts = [score(cli, finished, tars, tmp_path, f"{i}/2") for i in (1, 2)]
    one = cli("score", finished, "--input", tars, "--output", tmp_path / "out.csv")
    two = cli("merge", *parts, "--output", tmp_path / "out.csv")
    for found in (one, two):
        assert found.status == 2
        assert "id 'same': found twice, allowed: each input has a name of its own" in found.err
    assert not (tmp_path / "out.csv").exists()


def test_bad_images_are_left_out_of_shards_too(cli: Any, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (8, 8), 128).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no image")
    parts = [score(cli, finished, folder, tmp_path, f"{i}/2", "--skip-bad") for i in (1, 2)]
    assert cli("merge", *parts, "--output", tmp_path / "out.csv").status == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["good.png"]
    (folder / "good.png").write_bytes(b"")
    found = cli("score", finished, "--input", folder, "--skip-bad")
    assert found.status == 2
    assert f"{folder}: none of the inputs is readable" in found.err
    parts = [score(cli, finished, folder, tmp_path, f"{i}/3", "--skip-bad") for i in (1, 2, 3)]
    found = cli("merge", *parts, "--output", tmp_path / "none.csv")
    assert (found.status, "none of the inputs is readable" in found.err) == (2, True)


@pytest.mark.slow
def test_scoring_that_is_killed_leaves_no_file(finished: Path, tmp_path: Path) -> None:
    """Not even a hidden one: until the end, the rows have no name."""
    source = tmp_path / "x.npy"
    np.lib.format.open_memmap(source, "w+", np.uint8, (1_000_000, 8, 8)).flush()
    out = tmp_path / "out"
    out.mkdir()
    options = ("--output", out / "s.npz", "--shard", "1/2")
    command = processes.start("score", finished, "--input", source, *options)
    with os.fdopen(os.dup(command.messages.fileno()), encoding="utf-8") as err:
        assert err.readline() == "score …\n"
    time.sleep(1)
    command.process.kill()
    command.process.join()
    assert command.process.exitcode == -signal.SIGKILL
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npz"])
def test_a_disk_that_fills_up_is_told_and_leaves_no_file(
    cli: Any, finished: Path, source: Path, shards: list[Path], tmp_path: Path, suffix: str
) -> None:
    """No file may grow beyond 99 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    output = tmp_path / f"x.{suffix}"
    for command in (("score", finished, "--input", source), ("merge", *shards)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (99, before[1]))
        try:
            found = cli(*command, "--output", output)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert found.status == 1
        assert f"{output}: cannot be written (File too large)" in found.err
        assert list(tmp_path.iterdir()) == []


def test_merge_loads_no_torch(shards: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys; from nervecode.cli.main import run; "
        f"assert run(['merge', *{[str(path) for path in shards]!r}, "
        f"'--output', {str(tmp_path / 'x.csv')!r}]) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
