"""`nervecode archive`: reproducible bytes, which unpack to a run that verifies."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest


def pack(cli: Any, run: Path, *options: object) -> Path:
    status, out, err = cli("archive", run, *options)
    assert status == 0, err
    digest, _, path = out.strip().partition("  ")
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    return Path(path)


def test_the_same_run_gives_the_same_bytes(cli: Any, copy: Path, tmp_path: Path) -> None:
    first = pack(cli, copy)
    assert first == copy.resolve().with_name(f"{copy.name}.tar.gz")
    (tmp_path / "other").mkdir()
    twin = Path(
        shutil.copytree(copy, tmp_path / "other" / copy.name, copy_function=shutil.copyfile)
    )
    for path in twin.rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o600)
    second = pack(cli, twin, "--output", tmp_path / "other.tar.gz")
    assert second.read_bytes() == first.read_bytes()


def test_nothing_in_it_tells_when_or_by_whom_it_was_packed(cli: Any, copy: Path) -> None:
    path = pack(cli, copy)
    header = path.read_bytes()[:10]
    assert header[4:8] == bytes(4)  # no time
    assert header[3] == 0  # no name
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members} == {
        (0, 0, 0, "", "", 0o644, tarfile.REGTYPE)
    }


def test_unpacked_it_has_the_digest_of_the_run(
    cli: Any, copy: Path, tmp_path: Path, tree: Any
) -> None:
    path = pack(cli, copy)
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "there", filter="data")
    unpacked = tmp_path / "there" / copy.name
    before = tree(copy)
    del before["log.jsonl"], before["run.log"]
    assert tree(unpacked) == before
    digest = cli("verify", copy)[1].strip()
    assert cli("verify", unpacked, "--expect", digest)[0] == 0
    gzip.decompress(path.read_bytes())


def test_a_damaged_run_is_not_packed(cli: Any, copy: Path) -> None:
    (copy / "results.csv").write_text("better")
    (copy / "extra").write_text("x")
    status, _, err = cli("archive", copy)
    assert status == 4
    assert f"{copy / 'results.csv'}: changed" in err
    assert f"{copy / 'extra'}: unexpected" in err
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("x.zip", "unknown suffix '.zip'; Allowed: .tar.gz"),
        ("nowhere/x.tar.gz", "no such folder"),
        ("there.tar.gz", "exists; --force replaces it"),
    ],
)
def test_outputs_that_are_refused(
    output: str, words: str, cli: Any, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.tar.gz").write_text("old")
    status, _, err = cli("archive", copy, "--output", tmp_path / output)
    assert (status, words in err) == (2, True)
    assert (tmp_path / "there.tar.gz").read_text() == "old"
    assert pack(cli, copy, "--output", tmp_path / "there.tar.gz", "--force").stat().st_size > 99


def test_an_archive_does_not_lie_in_the_run_it_packs(cli: Any, copy: Path) -> None:
    status, _, err = cli("archive", copy, "--output", copy / "x.tar.gz")
    assert (status, "lies in the run" in err) == (2, True)
    assert json.loads(cli("verify", copy, "--json")[1])["verified"]
