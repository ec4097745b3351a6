"""`nervecode verify`: what it names, what it prints, and what follows from a damaged file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervecode.errors import ArtifactError
from nervecode.files import sha256, write_json
from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import seal, sealed
from nervecode.lab.run.verify import differences, verify_run
from nervecode.lab.stages.bench import prepare, run_stages

Tree = Callable[[Path], dict[str, str]]


def verdict(cli: Any, run: Path, *options: object) -> tuple[int, dict[str, str], str]:
    """Exit status, path -> kind of every fault, and the digest."""
    status, out, _ = cli("verify", run, "--json", *options)
    found = json.loads(out)
    assert found["verified"] == (status == 0)
    return status, {one["path"]: one["kind"] for one in found["faults"]}, found["digest"]


def test_a_whole_run_verifies_and_nothing_is_written(cli: Any, copy: Path, tree: Tree) -> None:
    before = tree(copy)
    status, out, err = cli("verify", copy)
    assert (status, len(out.strip())) == (0, 64)
    assert f"{len(before) - 3} files" in err
    assert f"--expect {out.strip()}" in err
    assert tree(copy) == before


def test_a_run_that_fails_prints_no_digest(cli: Any, copy: Path) -> None:
    (copy / "results.json").write_text("{}")
    assert cli("verify", copy)[:2] == (4, "")


def test_every_file_that_the_run_wrote_is_hashed(finished: Path, tree: Tree) -> None:
    meta = json.loads((finished / "meta.json").read_text())
    files = tree(finished)
    assert seal(meta) == meta["sha256"]
    del files["meta.json"], files["log.jsonl"], files["run.log"]
    views = {name for record in meta["derived"].values() for name in record["outputs"]}
    assert views == {"report.html"} | {name for name in files if name.startswith("plots/")}
    assert meta["files"] == {name: digest for name, digest in files.items() if name not in views}
    assert {n: d for r in meta["derived"].values() for n, d in r["outputs"].items()} == {
        name: files[name] for name in views
    }
    for stage in [*meta["stages"].values(), *meta["derived"].values()]:
        assert stage["writer"].startswith("nervecode ")


def test_the_digest_is_that_of_sha256sum_lines(cli: Any, finished: Path, tree: Tree) -> None:
    files = tree(finished)
    del files["log.jsonl"], files["run.log"]
    meta = json.loads((finished / "meta.json").read_text())
    views = [name for name in files if name == "report.html" or name.startswith("plots/")]
    derived = {name: files.pop(name) for name in views}
    constant = {k: v for k, v in meta.items() if k not in ("sha256", "updated", "derived")}
    text = json.dumps(constant, sort_keys=True)
    files["meta.json"] = hashlib.sha256(text.encode()).hexdigest()

    def digest(hashes: dict[str, str]) -> str:
        lines = "".join(sorted(f"{digest}  {name}\n" for name, digest in hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    found = json.loads(cli("verify", finished, "--json")[1])
    assert (found["digest"], found["derived"]) == (digest(files), digest(derived))


def test_the_digest_does_not_depend_on_order(cli: Any, copy: Path) -> None:
    before = verdict(cli, copy)
    path = copy / "meta.json"
    meta = json.loads(path.read_text())
    for key in ("stages", "files"):
        meta[key] = dict(reversed(meta[key].items()))
    write_json(path, dict(reversed(meta.items())))
    assert verdict(cli, copy) == before


def test_an_expected_digest_is_checked(cli: Any, finished: Path) -> None:
    _, _, digest = verdict(cli, finished)
    assert cli("verify", finished, "--expect", digest)[0] == 0
    status, _, err = cli("verify", finished, "--expect", "0" * 64)
    assert status == 4
    assert f"has digest {digest}, expected: {'0' * 64}" in " ".join(err.split())
    derived = json.loads(cli("verify", finished, "--json")[1])["derived"]
    assert cli("verify", finished, "--expect-derived", derived)[0] == 0
    status, _, err = cli("verify", finished, "--expect-derived", digest)
    assert status == 4
    assert f"page have digest {derived}, expected: {digest}" in " ".join(err.split())


def test_a_forged_run_passes_alone_and_fails_against_the_digest(cli: Any, copy: Path) -> None:
    """Hashes beside the files prove accidents only."""
    digest = verdict(cli, copy)[2]
    path = copy / "results.csv"
    path.write_text(path.read_text().replace("knn", "best"))
    meta = RunDir(copy).meta
    forged = hashlib.sha256(path.read_bytes()).hexdigest()
    meta["stages"]["tables"]["outputs"]["results.csv"] = forged
    meta["files"]["results.csv"] = forged
    write_json(copy / "meta.json", sealed(meta))
    assert cli("verify", copy)[0] == 0
    assert cli("verify", copy, "--expect", digest)[0] == 4


# Damage

ARTIFACTS = (
    "config.yaml", "checkpoints/checkpoint_manifest.json", "checkpoints/seed_0.safetensors",
    "calibration/seed_0.safetensors", "layerwise/seed_0/id_test.npz", "metrics/seed_0.csv",
    "diagnostics/seed_0.csv", "scores/seed_0/id_test.npz", "scores/seed_0/failures.json",
    "results.csv", "results.json", "tables.md", "plots/roc_seed_0.png", "report.html", "meta.json",
)  # fmt: skip


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = next(i for i in range(len(data) // 2, len(data)) if data[i] not in b" \n")
    data[place] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def swap(path: Path) -> None:
    """The file of the other seed; where there is none or it is the same, its own content twice."""
    data, other = path.read_bytes(), Path(str(path).replace("seed_0", "seed_1"))
    found = other.read_bytes() if other.exists() else data
    path.write_bytes(found if found != data else 2 * data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped": flip,
    "truncated": truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "swapped": swap,
    "deleted": Path.unlink,
}
# Command -> what it reads.
NEEDS = {
    "calibrate": ("checkpoints/seed_0.safetensors",),
    "score": ("checkpoints/seed_0.safetensors", "calibration/seed_0.safetensors", "config.yaml"),
    "plot": ("layerwise/seed_0/id_test.npz",),
}
NOTED = ("meta.json", "log.jsonl", "run.log")


def commands(run: Path, name: str, tmp_path: Path) -> list[tuple[object, ...]]:
    """The commands that need a file."""
    found: list[tuple[object, ...]] = []
    if name in NEEDS["calibrate"]:
        found.append(("calibrate", run))
    if name in NEEDS["score"] or name == "meta.json":
        found.append(("score", run, "--input", "blobs"))
    if name in NEEDS["plot"]:
        found.append(("plot", run, "--output", tmp_path / "p.png"))
    return found


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ARTIFACTS)
def test_damage_is_named_refused_and_changes_nothing_else(
    name: str, damage: str, cli: Any, copy: Path, tree: Tree, tmp_path: Path
) -> None:
    DAMAGES[damage](copy / name)
    before = tree(copy)
    if name == "meta.json":
        status, _, err = cli("verify", copy)
        assert (status, "meta.json: is" in " ".join(err.split())) == (4, True)
    else:
        status, faults, _ = verdict(cli, copy)
        kind = "missing" if damage == "deleted" else "changed"
        assert (status, faults) == (4, {name: kind})
    assert tree(copy) == before
    for command in commands(copy, name, tmp_path):
        status, _, err = cli(*command)
        assert (status, name in err) == (4, True), (command, err)
    after = tree(copy)
    assert {k: v for k, v in after.items() if k not in NOTED} == {
        k: v for k, v in before.items() if k not in NOTED
    }


@pytest.mark.slow
def test_a_resumed_bench_refuses_any_damaged_file_and_repairs_it(
    cli: Any, copy: Path, finished: Path
) -> None:
    """One run with several faults: each is met by the stage that would skip it."""
    for name in ("checkpoints/seed_1.safetensors", "layerwise/seed_0/id_test.npz", "results.json"):
        flip(copy / name)
        status, _, err = cli("bench", copy)
        assert (status, name in err, "--repair" in err) == (4, True, True)
        assert cli("bench", copy, "--repair")[0] == 0
        assert cli("verify", copy)[0] == 0
    assert (copy / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


def test_what_is_unexpected_is_named(cli: Any, copy: Path) -> None:
    (copy / "scores/seed_0/extra.npz").write_bytes(b"x")
    (copy / ".hidden").write_bytes(b"x")
    os.mkfifo(copy / "pipe")
    path = copy / "results.csv"
    path.rename(copy.parent / "elsewhere.csv")
    path.symlink_to(copy.parent / "elsewhere.csv")
    (copy / "away").symlink_to(copy.parent)
    faults = {"scores/seed_0/extra.npz": "unexpected", ".hidden": "unexpected"}
    links = dict.fromkeys(("pipe", "results.csv", "away"), "link")
    assert verdict(cli, copy)[:2] == (4, faults | links)


@pytest.mark.parametrize("name", ["meta.json", "log.jsonl", "run.log", ".lock"])
def test_files_without_a_hash_are_no_links_either(name: str, cli: Any, copy: Path) -> None:
    path, outside = copy / name, copy.parent / "outside"
    if path.exists():
        path.rename(outside)
    path.symlink_to(outside)
    assert verdict(cli, copy)[:2] == (4, {name: "link"})


def test_what_a_training_goes_on_from_is_of_the_run_until_that_is_done(
    cli: Any, copy: Path
) -> None:
    """It carries a hash of its own, which is looked at when it is read."""
    (copy / "resume").mkdir(exist_ok=True)
    own, other = (f"resume/seed_{seed}.safetensors" for seed in (1, 7))
    for name in (own, other):
        (copy / name).write_bytes(b"x")
    assert verdict(cli, copy)[:2] == (4, dict.fromkeys((own, other), "unexpected"))
    RunDir(copy).update(status="interrupted")
    assert verdict(cli, copy)[:2] == (4, {other: "unexpected"})
    (copy / other).unlink()
    status, _, err = cli("verify", copy)
    assert (status, "the run is interrupted: `nervecode bench " in err) == (0, True)


def test_verify_says_which_files_it_does_not_vouch_for(cli: Any, copy: Path) -> None:
    (copy / "run.log").write_text("it never said so\n")
    (copy / "log.jsonl").unlink()
    status, _, err = cli("verify", copy)
    assert status == 0
    told = "all as they were written, but for log.jsonl and run.log, which grow and have no hash"
    assert told in " ".join(err.split())


def test_seeds_that_the_config_has_no_more_are_told(cli: Any, copy: Path) -> None:
    told = "seeds that the config has no more, as they were left: 0"
    assert told not in cli("verify", copy).err
    meta = json.loads((copy / "meta.json").read_text())
    write_json(copy / "meta.json", sealed(meta | {"seeds": [1]}))
    found = cli("verify", copy)
    assert found.status == 0, found.err
    assert told in found.err


def test_metadata_without_a_hash_of_themselves_are_a_fault(cli: Any, copy: Path) -> None:
    path = copy / "meta.json"
    meta = json.loads(path.read_text())
    del meta["sha256"]
    path.write_text(json.dumps(meta))
    assert verdict(cli, copy)[:2] == (4, {"meta.json": "changed"})


def test_even_a_changed_space_in_the_metadata_is_a_fault(cli: Any, copy: Path) -> None:
    path = copy / "meta.json"
    path.write_text(path.read_text()[:-1])
    assert verdict(cli, copy)[:2] == (4, {"meta.json": "changed"})


@pytest.mark.slow
def test_a_picture_that_is_drawn_again_belongs_to_the_run(cli: Any, copy: Path) -> None:
    assert cli("plot", copy, "--kind", "roc", "--ood", "uniform_noise")[0] == 0
    assert cli("plot", copy, "--kind", "roc", "--seed", 1)[0] == 0
    assert (copy / "plots/roc_seed_1.png").is_file()
    assert cli("verify", copy)[0] == 0
    assert cli("bench", copy)[0] == 0
    assert cli("verify", copy)[0] == 0


# Commands that come later bless nothing, and leave the digest as it was

LATER: tuple[tuple[object, ...], ...] = (
    ("report",),
    ("plot", "--kind", "training"),
    ("plot", "--kind", "roc", "--seed", 1),
    ("calibrate",),
    ("score", "--input", "blobs"),
    ("bench",),
)


def later(cli: Any, run: Path) -> Iterator[tuple[tuple[object, ...], int]]:
    """Each command on a run, and how it ended."""
    for command, *options in LATER:
        yield (command, *options), cli(command, run, *options)[0]


@pytest.mark.slow
def test_what_is_foreign_stays_unexpected(cli: Any, copy: Path) -> None:
    foreign = (
        "plots/foreign.png", "DEMO_MODE.txt", "GATE_FAILED.txt", ".lock_of_mine/x.npz",
        ".lock.png", "checkpoints/seed_9.safetensors", "scores/seed_0/ood_more.npz",
        "layerwise/seed_0/ood_more.npz", "notes.md",
    )  # fmt: skip
    for name in foreign:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"x")
    expected = dict.fromkeys(foreign, "unexpected")
    for command, status in later(cli, copy):
        assert status == 0, command
        assert verdict(cli, copy)[:2] == (4, expected), command


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["metrics/seed_1.csv", "scores/seed_1/failures.json", "results.csv", "config.yaml",
             "checkpoints/checkpoint_manifest.json", "calibration/seed_1.safetensors"]
)  # fmt: skip
def test_what_is_changed_stays_changed(cli: Any, copy: Path, name: str) -> None:
    flip(copy / name)
    for command, _ in later(cli, copy):
        assert verdict(cli, copy)[:2] == (4, {name: "changed"}), command
    cli("bench", copy, "-o", "demo=true")
    anew = name == "results.csv"  # from scores, which are looked at first
    assert verdict(cli, copy)[1].get(name) == (None if anew else "changed")


@pytest.mark.slow
def test_a_changed_picture_is_refused_or_drawn_anew(cli: Any, copy: Path) -> None:
    name, before = "plots/training_seed_0.png", verdict(cli, copy)
    flip(copy / name)
    for command in (("report",), ("bench",), ("plot", "--kind", "roc", "--seed", 1)):
        cli(command[0], copy, *command[1:])
        assert verdict(cli, copy)[1] == {name: "changed"}, command
    assert cli("plot", copy, "--kind", "training")[0] == 0
    assert cli("bench", copy)[0] == 0
    assert verdict(cli, copy) == before


@pytest.mark.slow
def test_a_demonstration_that_is_none_any_more_says_so_no_more(cli: Any, copy: Path) -> None:
    before = verdict(cli, copy)
    assert cli("bench", copy, "-o", "demo=true")[0] == 0
    assert (copy / "DEMO_MODE.txt").exists()
    assert cli("bench", copy, "-o", "demo=false")[0] == 0
    assert not (copy / "DEMO_MODE.txt").exists()
    assert verdict(cli, copy)[:2] == before[:2]


@pytest.mark.slow
def test_pictures_pages_and_idle_commands_leave_the_digest_as_it_was(cli: Any, copy: Path) -> None:
    before = verdict(cli, copy)
    views = json.loads(cli("verify", copy, "--json")[1])["derived"]
    for command, status in later(cli, copy):
        assert (status, verdict(cli, copy)) == (0, before), command
    outside = ("--output", copy / "plots/mine.svg")
    assert cli("plot", copy, "--kind", "roc", *outside)[0] == 0
    assert cli("plot", copy, "--kind", "roc", *outside, "--seed", 1, "--force")[0] == 0
    assert cli("report", copy, "--output", copy / "second.html")[0] == 0
    assert verdict(cli, copy) == before
    assert json.loads(cli("verify", copy, "--json")[1])["derived"] != views
    assert cli("bench", copy)[0] == 0
    assert verdict(cli, copy) == before
    (copy / "plots/mine.svg").unlink()
    assert verdict(cli, copy) == (4, {"plots/mine.svg": "missing"}, before[2])


def test_a_picture_takes_no_place_of_another_file(cli: Any, copy: Path, tree: Tree) -> None:
    meta = RunDir(copy).meta
    data = (copy / "results.csv").read_bytes()
    (copy / "results.png").write_bytes(data)
    meta["stages"]["tables"]["outputs"]["results.png"] = hashlib.sha256(data).hexdigest()
    write_json(copy / "meta.json", sealed(meta))
    before = tree(copy)
    status, _, err = cli("plot", copy, "--kind", "roc", "--output", copy / "results.png", "--force")
    assert status == 2
    assert "results.png: is a file of the run, which is not replaced" in " ".join(err.split())
    assert tree(copy) == before


@pytest.mark.slow
def test_what_is_kept_of_the_features_is_checked(cli: Any, config: Path, tmp_path: Path) -> None:
    keep = ("-o", "bench.keep_features=true", "--seeds", 0)
    assert cli("bench", "--config", config, "--outdir", tmp_path, *keep)[0] == 0
    (run,) = tmp_path.iterdir()
    status, faults, digest = verdict(cli, run)
    assert (status, faults) == (0, {})
    name = "features/seed_0/id_train.safetensors"
    flip(run / name)
    assert verdict(cli, run)[:2] == (4, {name: "changed"})
    opened = RunDir(shutil.copytree(run, tmp_path / "copy"))
    opened.meta["stages"].pop("score/seed_0")
    with pytest.raises(ArtifactError, match=r"id_train\.safetensors: is damaged"):
        run_stages(opened, prepare(opened.config), ("score",), progress=Progress())
    (run / name).unlink()
    assert verdict(cli, run) == (0, {}, digest)


# Reproduction


def test_the_evaluation_is_made_again_from_the_checkpoints(
    cli: Any, copy: Path, tree: Tree
) -> None:
    before = tree(copy)
    status, out, err = cli("verify", copy, "--reproduce", "--tolerance", 0, "--json")
    assert status == 0, err
    assert json.loads(out)["largest_difference"] == 0
    assert tree(copy) == before


@pytest.mark.slow
def test_rows_that_do_not_follow_from_the_checkpoints_are_told(cli: Any, copy: Path) -> None:
    path = copy / "results.json"
    results = json.loads(path.read_text())
    row = results["rows"][0]
    row["auroc"] -= 0.25
    path.write_text(json.dumps(results))
    meta = RunDir(copy).meta
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    meta["stages"]["tables"]["outputs"]["results.json"] = meta["files"]["results.json"] = digest
    write_json(copy / "meta.json", sealed(meta))
    assert cli("verify", copy)[0] == 0
    status, _, err = cli("verify", copy, "--reproduce")
    assert status == 4
    assert f"seed 0, {row['ood']}, {row['method']}: auroc was {row['auroc']}" in err


def test_differences_of_rows() -> None:
    cell = {"seed": 0, "ood": "a", "method": "m", "reason": "", "n_id": 3, "auroc": 0.5}
    other = cell | {"method": "n"}
    assert differences([cell], [dict(cell)], tolerance=0) == ([], 0.0)
    near = cell | {"auroc": 0.5 + 1e-6}
    assert differences([cell], [near], tolerance=1e-3)[0] == []
    lines, largest = differences([cell], [near], tolerance=0)
    assert lines == [f"seed 0, a, m: auroc was 0.5, is {0.5 + 1e-6}"]
    np.testing.assert_allclose(largest, 1e-6, rtol=1e-6)
    assert differences([cell], [cell | {"n_id": 4}], tolerance=9)[0]
    assert differences([cell, other], [cell], tolerance=9)[0] == ["seed 0, a, n: on one side only"]


def test_a_run_that_is_being_written_may_hold_temporary_files(copy: Path) -> None:
    run = RunDir(copy)
    (copy / ".results.csv.0123abcd.tmp").write_text("half")
    assert [fault.kind for fault in verify_run(run).faults] == ["unexpected"]
    run.lock.take()
    assert verify_run(run).faults == ()
    run.lock.release()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="nothing to compare with")
def test_files_are_hashed_as_fast_as_by_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * 256)

    def seconds(work: Callable[[], Any]) -> float:
        began = time.monotonic()
        work()
        return time.monotonic() - began

    ours = min(seconds(lambda: sha256(path)) for _ in range(3))
    command = ["sha256sum", str(path)]
    theirs = min(
        seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3)
    )
    assert ours <= theirs / 0.8
