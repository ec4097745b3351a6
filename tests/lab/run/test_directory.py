"""Run directories: names, stages that are done once, damage that is found, one writer."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.machine import provenance
from nervecode.lab.run.directory import RunDir, list_runs
from nervecode.lab.run.records import forget_damaged_stages, require_stage
from nervecode.lab.schema import Config
from tests.lab.run.test_lock import gone


@pytest.fixture(scope="module")
def config() -> Config:
    return resolve(preset="digits", settings={"seeds": [0, 3]}).config


@pytest.fixture
def run(config: Config, tmp_path: Path) -> RunDir:
    return RunDir.create(config, tmp_path / "runs", command="nervecode bench --preset digits")


def put(run: RunDir, name: str, text: str = "content") -> Path:
    path = run.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def events(run: RunDir) -> list[tuple[str, str]]:
    lines = (run.root / "log.jsonl").read_text().splitlines()
    return [(one["event"], one.get("stage", "")) for one in map(json.loads, lines)]


# Making and opening


def test_a_new_run_has_its_config_and_what_a_reader_needs(run: RunDir, config: Config) -> None:
    assert run.config == config
    first = (run.root / "config.yaml").read_text().splitlines()[0]
    assert first == f"# nervecode bench --config {run.root / 'config.yaml'}"
    meta = json.loads((run.root / "meta.json").read_text())
    assert meta == run.meta
    assert meta["schema_version"] == 1
    assert meta["run_id"] == run.root.name
    assert meta["command"] == "nervecode bench --preset digits"
    assert meta["higher_is_ood"] is True
    assert meta["seeds"] == [0, 3]
    assert meta["versions"]["torch"] == torch.__version__.partition("+")[0] or (
        meta["versions"]["torch"] == torch.__version__
    )
    assert meta["versions"]["numpy"] == np.__version__
    assert meta["hardware"]["cores"] == os.cpu_count()
    assert meta["gate"] == {"required": 0.97, "passed": None, "accuracy": {}}
    assert meta["fitted_on"]["classifier"] == "id_train"
    assert meta["fitted_on"]["metrics"] == "id_test and OOD sets"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    found = provenance.provenance.__wrapped__()
    assert found["git_commit"] is None
    assert found["versions"]["numpy"] == np.__version__
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert set(provenance.provenance.__wrapped__()["versions"]) == {"python", "nervecode"}


def test_a_commit_is_dirty_where_the_package_differs_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "nervecode/lab/machine/provenance.py"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    monkeypatch.setattr(provenance, "__file__", str(source))

    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert provenance._git_commit() is None
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", "-am", "x", "v1"]):
        git(*words)
    commit = git("rev-parse", "HEAD")
    assert provenance._git_commit() == commit
    (tmp_path / "results.csv").write_text("rows that a study writes")
    assert provenance._git_commit() == commit
    new = tmp_path / "nervecode/new.py"
    new.write_text("")
    assert provenance._git_commit() == f"{commit}-dirty"
    new.unlink()
    source.write_text("two")
    assert provenance._git_commit() == f"{commit}-dirty"


def test_names_differ_though_seeds_are_fixed(config: Config, tmp_path: Path) -> None:
    names = set()
    for _ in range(8):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        names.add(RunDir.create(config, tmp_path, command="x").root.name)
    assert len(names) == 8
    assert all(name.startswith("digits-") for name in names)


def test_a_demo_says_so(tmp_path: Path) -> None:
    config = resolve(preset="digits", overrides=["demo=true"]).config
    run = RunDir.create(config, tmp_path, command="x")
    assert "demonstration" in (run.root / "DEMO_MODE.txt").read_text()
    assert run.meta["demo"] is True


@pytest.mark.parametrize(
    ("override", "transfer"),
    [("demo=true", False), ("transfer=true", True), ("model.weights=x.pt", True)],
)
def test_a_transfer_says_so_also_once_it_has_become_one(
    override: str, transfer: bool, tmp_path: Path
) -> None:
    config = resolve(preset="digits", overrides=[override]).config
    assert RunDir.create(config, tmp_path, command="x").meta["transfer"] is transfer
    run = RunDir.create(resolve(preset="digits").config, tmp_path, command="x")
    assert run.meta["transfer"] is False
    with run.claimed():
        run.replace_config(config)
    assert run.meta["transfer"] is transfer


def test_a_run_that_is_not_there_shows_the_nearest(run: RunDir) -> None:
    (run.root.parent / "no_run").mkdir()
    wrong = run.root.with_name(run.root.name[:-1] + "z")
    with pytest.raises(InputError) as caught:
        RunDir(wrong)
    assert f"no such run directory; did you mean '{run.root.name}'?" in str(caught.value)
    assert "no_run" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is missing"), ("{", "is damaged"), ("[]", "not the metadata of a run"),
     ('{"schema_version": 99}', "not the metadata of a run")],
)  # fmt: skip
def test_a_folder_that_is_no_run_is_damaged(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "meta.json").write_text(content)
    with pytest.raises(ArtifactError) as caught:
        RunDir(tmp_path)
    assert f"{tmp_path / 'meta.json'}: {words}" in str(caught.value)


@pytest.mark.parametrize("content", [None, "name: [", "name: 3"])
def test_a_damaged_config_is_an_artifacts_error(run: RunDir, content: str | None) -> None:
    path = run.root / "config.yaml"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArtifactError, match=r"config\.yaml: is missing or damaged"):
        assert RunDir(run.root).config


@pytest.mark.parametrize("content", [None, "name: [", "name: 3"])
def test_a_config_without_a_hash_is_read_with_suspicion(run: RunDir, content: str | None) -> None:
    """As it lies between the writing of a new config and that of its hash."""
    run.update(files={})
    path = run.root / "config.yaml"
    assert RunDir(run.root).config == run.config
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArtifactError, match=r"config\.yaml: is missing or damaged"):
        assert RunDir(run.root).config


def test_a_parent_that_cannot_be_made_is_the_users_error(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        RunDir.create(config, tmp_path / "file" / "runs", command="x")


def test_runs_are_listed_oldest_first_without_what_is_none(config: Config, tmp_path: Path) -> None:
    made = []
    for created in ("2026-01-02", "2026-01-01", "2026-01-03"):
        one = RunDir.create(config, tmp_path, command="x")
        one.update(created=created)
        made.append(one.root)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "meta.json").write_text("{")
    found = [one.root for one in list_runs(tmp_path)]
    assert found == [made[1], made[0], made[2]]
    assert list_runs(tmp_path / "nowhere") == []


# Stages


def test_a_stage_is_done_once(run: RunDir) -> None:
    calls: list[int] = []

    def work() -> list[Path]:
        calls.append(1)
        return [put(run, "scores/x.txt")]

    assert run.stage("score", 0, {"a": (1, 2)}, work)
    assert not run.stage("score", 0, {"a": [1, 2]}, work)
    assert not RunDir(run.root).stage("score", 0, {"a": (1, 2)}, work)
    assert len(calls) == 1
    expected = ["start", "done", "skip", "skip"]
    assert events(run) == [(event, "score/seed_0") for event in expected]
    record = run.meta["stages"]["score/seed_0"]
    assert record["inputs"] == {"a": [1, 2]}
    assert record["outputs"] == {"scores/x.txt": hashlib.sha256(b"content").hexdigest()}


def test_stages_of_other_seeds_and_names_are_others(run: RunDir) -> None:
    for name, seed in (("score", 0), ("score", 3), ("train", 0), ("tables", None)):
        assert run.stage(name, seed, {}, lambda n=name, s=seed: [put(run, f"{n}_{s}")])  # type: ignore[misc]
    assert set(run.meta["stages"]) == {"score/seed_0", "score/seed_3", "train/seed_0", "tables"}


def test_changed_inputs_repeat_a_stage(run: RunDir) -> None:
    assert run.stage("train", 0, {"epochs": 1}, lambda: [put(run, "x", "one")])
    assert run.stage("train", 0, {"epochs": 2}, lambda: [put(run, "x", "two")])
    assert run.verified(run.root / "x").read_text() == "two"


def test_a_repeated_stage_leaves_no_file_of_its_first_time(run: RunDir) -> None:
    other = put(run, "z")
    run.stage("columns", None, {}, lambda: [other])
    run.stage("train", 0, {"sets": 2}, lambda: [put(run, "x"), put(run, "y"), other])
    run.stage("train", 0, {"sets": 1}, lambda: [put(run, "x")])
    assert not (run.root / "y").exists()
    assert other.exists()


def test_a_crash_in_a_repeated_stage_leaves_it_undone(run: RunDir) -> None:
    def crash() -> list[Path]:
        put(run, "x", "new")
        raise KeyboardInterrupt

    run.stage("train", 0, {"epochs": 1}, lambda: [put(run, "x", "old")])
    with pytest.raises(KeyboardInterrupt):
        run.stage("train", 0, {"epochs": 2}, crash)
    assert RunDir(run.root).stage("train", 0, {"epochs": 1}, lambda: [put(run, "x", "old")])


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_stage_whose_file_is_gone_or_changed_is_not_skipped(run: RunDir, damage: str) -> None:
    path = put(run, "x")
    run.stage("train", 0, {}, lambda: [path])
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("contenT")
    with pytest.raises(ArtifactError) as caught:
        run.stage("train", 0, {}, lambda: [path])
    assert caught.value.exit_status == 4
    assert f"{path}: is {damage}" in str(caught.value)
    assert f"`nervecode bench {run.root} --repair`" in str(caught.value)
    with pytest.raises(ArtifactError):
        run.verified(path)
    assert forget_damaged_stages(run) == ["train/seed_0"]
    assert run.stage("train", 0, {}, lambda: [put(run, "x")])
    assert forget_damaged_stages(run) == []


MANIFEST = "checkpoints/checkpoint_manifest.json"


def test_damage_to_a_shared_file_is_never_blessed_by_a_later_write(run: RunDir) -> None:
    run.stage("train", 0, {}, lambda: [put(run, MANIFEST, "{}")][:0])
    put(run, MANIFEST, "[]")
    put(run, "config.yaml", "name: other")
    run.update(status="complete")
    reopened = RunDir(run.root)
    for name in (MANIFEST, "config.yaml"):
        with pytest.raises(ArtifactError, match="is damaged"):
            reopened.verified(run.root / name)
    with pytest.raises(ArtifactError, match=r"config\.yaml: is missing or damaged"):
        assert reopened.config
    with pytest.raises(ArtifactError, match=r"manifest\.json: is damaged"):
        reopened.stage("train", 3, {}, lambda: [])
    assert forget_damaged_stages(reopened) == ["train/seed_0"]
    assert reopened.stage("train", 0, {}, lambda: [put(run, MANIFEST, "{}")][:0])
    reopened.verified(run.root / MANIFEST)


def test_a_crash_between_a_shared_file_and_its_hash_is_no_damage(run: RunDir) -> None:
    def crash() -> list[Path]:
        put(run, MANIFEST, "half")
        raise KeyboardInterrupt

    run.stage("train", 0, {}, lambda: [put(run, MANIFEST, "{}")][:0])
    with pytest.raises(KeyboardInterrupt):
        run.stage("train", 3, {}, crash)
    assert RunDir(run.root).stage("train", 3, {}, lambda: [put(run, MANIFEST, "{}")][:0])


def test_a_cache_may_be_tidied_away_but_not_changed(run: RunDir) -> None:
    path = put(run, "features/seed_0/id_train.safetensors")
    run.stage("calibrate", 0, {}, lambda: [path])
    assert "features/seed_0/id_train.safetensors" not in run.meta["files"]
    assert not run.stage("calibrate", 0, {}, lambda: [path])
    put(run, "features/seed_0/id_train.safetensors", "contenT")
    with pytest.raises(ArtifactError, match="is damaged"):
        run.stage("calibrate", 0, {}, lambda: [path])
    path.unlink()
    assert not run.stage("calibrate", 0, {}, lambda: [path])
    assert forget_damaged_stages(run) == []


def test_a_file_that_no_stage_wrote_is_not_verified(run: RunDir) -> None:
    with pytest.raises(ArtifactError, match="is missing"):
        run.verified(put(run, "stranger"))


def test_a_stage_that_fails_is_not_done(run: RunDir) -> None:
    def work() -> list[Path]:
        put(run, "half")
        raise NervecodeError("no")

    with pytest.raises(NervecodeError):
        run.stage("train", 0, {}, work)
    assert RunDir(run.root).meta["stages"] == {}
    assert events(run) == [("start", "train/seed_0")]


def test_a_stage_is_required_for_every_seed(run: RunDir) -> None:
    run.stage("train", 0, {}, lambda: [])
    with pytest.raises(ArtifactError) as caught:
        require_stage(run, "train")
    assert "stage 'train' is not done for seed 3" in str(caught.value)
    assert f"`nervecode bench {run.root}` does it" in str(caught.value)
    run.stage("train", 3, {}, lambda: [])
    require_stage(run, "train")


def test_the_metadata_hash_what_stages_and_the_run_itself_wrote(run: RunDir) -> None:
    def work() -> list[Path]:
        put(run, "checkpoints/checkpoint_manifest.json", "{}")
        return [put(run, "a/x", "1"), put(run, "features/x", "2")]

    run.stage("train", 0, {}, work)
    files = json.loads((run.root / "meta.json").read_text())["files"]
    assert set(files) == {"a/x", "config.yaml", "checkpoints/checkpoint_manifest.json"}
    for name, digest in files.items():
        assert hashlib.sha256((run.root / name).read_bytes()).hexdigest() == digest


def test_another_config_takes_the_place_of_the_first(run: RunDir) -> None:
    changed = resolve(file=run.root / "config.yaml", settings={"seeds": [9]}).config
    run.replace_config(changed)
    reopened = RunDir(run.root)
    assert reopened.config.seeds == (9,)
    assert reopened.meta["seeds"] == [9]


# One writer


def test_a_second_writer_is_refused(run: RunDir) -> None:
    with run.claimed():
        with pytest.raises(NervecodeError) as caught, RunDir(run.root).claimed():
            pass
        assert f"process {os.getpid()} on {socket.gethostname()} is writing" in str(caught.value)
        assert run.status == "running"
    assert not (run.root / ".lock").exists()
    with run.claimed():
        assert (run.root / ".lock").exists()


def test_the_lock_is_released_after_an_error(run: RunDir) -> None:
    with pytest.raises(ValueError, match="no"), run.claimed():
        raise ValueError("no")
    assert not (run.root / ".lock").exists()


def test_a_dead_owner_is_taken_over(run: RunDir) -> None:
    lock = {"host": socket.gethostname(), "process": gone()}
    (run.root / ".lock").write_text(json.dumps(lock))
    assert run.status == "interrupted"
    with run.claimed():
        held = json.loads((run.root / ".lock").read_text())
        assert held["process"] == os.getpid()
        assert run.status == "running"
    (event,) = map(json.loads, (run.root / "log.jsonl").read_text().splitlines())
    assert event["event"] == "takeover"
    assert event["owner"] == f"process {lock['process']} on {lock['host']}"


def test_what_a_dead_writer_left_half_written_is_tidied_away(run: RunDir) -> None:
    left = [put(run, ".meta.json.0123abcd.tmp"), put(run, "scores/seed_0/.x.npz.deadbeef.tmp")]
    kept = [put(run, "scores/seed_0/x.npz"), put(run, "notes.tmp")]
    with run.claimed():
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)


def test_a_claim_reads_what_the_last_writer_left(run: RunDir) -> None:
    other = RunDir(run.root)
    with other.claimed():
        other.stage("train", 0, {}, lambda: [put(other, "x")])
        other.replace_config(resolve(file=run.root / "config.yaml", settings={"seeds": [9]}).config)
    with run.claimed():
        run.update(status="complete")
        assert run.config.seeds == (9,)
    assert set(RunDir(run.root).meta["stages"]) == {"train/seed_0"}


def test_a_writer_that_was_taken_over_writes_no_more(run: RunDir) -> None:
    with run.claimed():
        (run.root / ".lock").write_text(json.dumps({"host": "elsewhere", "process": 7}))
        before = (run.root / "meta.json").read_bytes()
        with pytest.raises(NervecodeError, match="process 7 on elsewhere has taken it over"):
            run.update(status="complete")
        assert (run.root / "meta.json").read_bytes() == before
    assert (run.root / ".lock").exists()


def test_a_link_in_a_run_is_not_followed_by_a_writer(run: RunDir, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (run.root / "scores").symlink_to(outside)
    with pytest.raises(ArtifactError, match="scores: is a link"), run.claimed():
        pass
    assert not (run.root / ".lock").exists()


def test_a_run_that_is_gone_cannot_be_claimed(run: RunDir) -> None:
    shutil.rmtree(run.root)
    with pytest.raises(NervecodeError, match="cannot be written"), run.claimed():
        pass


def test_an_owner_on_another_host_is_believed(run: RunDir) -> None:
    lock = {"host": "elsewhere", "process": gone()}
    (run.root / ".lock").write_text(json.dumps(lock))
    with pytest.raises(NervecodeError, match="on elsewhere is writing to it"), run.claimed():
        pass
    assert json.loads((run.root / ".lock").read_text()) == lock


def test_running_without_an_owner_is_interrupted(run: RunDir) -> None:
    assert run.meta["status"] == "running"
    assert run.status == "interrupted"
    run.update(status="complete")
    assert run.status == "complete"
