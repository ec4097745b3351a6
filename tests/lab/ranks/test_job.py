"""Several processes: values and tensors between ranks, and what becomes of a rank that is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.ranks.job import Job, check_batch, current
from nervecode.lab.ranks.join import joined
from nervecode.lab.ranks.link import PeerLost
from nervecode.lab.ranks.place import meeting_point, place_in, seconds
from tests.ranks import ready, together

# Shards


@given(st.integers(0, 3000), st.integers(1, 9), st.integers(1, 300))
def test_shards_cover_everything_once_and_differ_by_a_unit(
    count: int, world: int, unit: int
) -> None:
    shards = [Job(rank, world).shard(count, unit=unit) for rank in range(world)]
    numbers = list(range(count))
    assert [n for shard in shards for n in numbers[shard]] == numbers
    units = [-(-len(numbers[shard]) // unit) for shard in shards]
    assert max(units) - min(units) <= 1
    assert units == sorted(units, reverse=True)


def test_a_process_by_itself_is_a_world_of_one() -> None:
    job, tensor = current(), torch.arange(3)
    assert (job.rank, job.world, job.leads, job.share(7), job.most(4)) == (0, 1, True, 7, 4)
    assert job.sum(tensor) is tensor
    assert job.gather(tensor) is tensor
    assert list(job.collect({"x": tensor})) == []
    assert job.shard(10) == slice(0, 10)


# Values and tensors


def exchange(job: Job) -> dict[str, Any]:
    own = torch.arange(10)[job.shard(10)]
    sums = {"a": torch.full((job.rank, 2), job.rank), "b": torch.tensor(job.rank / 3)}
    return {
        "shared": job.share({"rank": job.rank}),
        "sum": job.sum(torch.tensor([1.0, job.rank])).tolist(),
        "most": job.most(job.rank * 2),
        "gathered": job.gather(own).tolist(),
        "kinds": job.gather(torch.ones(job.rank, dtype=torch.bool)).tolist(),
        "collected": [{n: t.tolist() for n, t in one.items()} for one in job.collect(sums)],
        "spread": {n: t.tolist() for n, t in job.spread(sums if job.leads else {}).items()},
        "met": job.meet(),
    }


@pytest.mark.slow
def test_ranks_exchange_values_and_tensors() -> None:
    first, second, third = together(exchange, world=3)
    for one in (first, second, third):
        assert one["shared"] == {"rank": 0}
        assert one["sum"] == [3.0, 3.0]
        assert one["most"] == 4
        assert one["spread"] == {"a": [], "b": 0.0}
    assert first["gathered"] == list(range(10))
    assert (second["gathered"], third["gathered"]) == ([4, 5, 6], [7, 8, 9])
    assert first["kinds"] == [True] * 3
    assert first["collected"] == [
        {"a": [[1, 1]], "b": pytest.approx(1 / 3)},
        {"a": [[2, 2], [2, 2]], "b": pytest.approx(2 / 3)},
    ]
    assert second["collected"] == []


def wait_for_the_first(job: Job) -> float:
    began = time.monotonic()
    if job.leads:
        time.sleep(4)
    job.share(None)
    return time.monotonic() - began


@pytest.mark.slow
def test_a_rank_that_works_alone_is_waited_for() -> None:
    assert min(together(wait_for_the_first, NERVECODE_TIMEOUT="2")) >= 3.5


# Ranks that are lost


def lose(job: Job, how: str, collective: bool) -> None:
    job.meet()
    if job.rank == 1:
        if how == "raises":
            raise ValueError("a bad day")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)
    if collective:
        job.sum(torch.ones(3))
    else:
        job.meet()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "collective", "told"),
    [
        ("raises", True, "ValueError: a bad day"),
        ("raises", False, "ValueError: a bad day"),
        ("killed", True, "shows no sign of life: it was killed or stopped"),
        ("killed", False, "shows no sign of life: it was killed or stopped"),
        ("stopped", True, "shows no sign of life: it was killed or stopped"),
        ("hangs", True, "did not come to step"),
    ],
)
def test_a_rank_that_is_lost_is_named(how: str, collective: bool, told: str) -> None:
    ready()
    began = time.monotonic()
    first, _ = together(lose, how, collective, NERVECODE_TIMEOUT="2")
    assert isinstance(first, PeerLost)
    assert str(first).startswith("rank 1 (process ")
    assert told in str(first)
    assert time.monotonic() - began < 60


# Places


def test_places_are_those_of_torchrun_and_srun() -> None:
    slurm = {
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "41",
        "SLURM_STEP_NODELIST": "gpu[07-08],gpu12",
    }
    assert place_in({}) is None
    assert place_in({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a batch script
    assert place_in({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert place_in({"RANK": "1", "WORLD_SIZE": "2", **slurm}) == (1, 2)
    assert place_in(slurm) == (3, 4)
    assert meeting_point(slurm) == {
        "MASTER_ADDR": "gpu07", "MASTER_PORT": "20041", "LOCAL_RANK": "1"
    }  # fmt: skip
    own = {"MASTER_ADDR": "node7", "MASTER_PORT": "5"}
    assert meeting_point(slurm | own) == {**own, "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("vm", "vm"),
        ("n1,n2", "n1"),
        ("n[3,5]-ib", "n3-ib"),
        ("r[001-002]n[7-9],x", "r001n7"),
    ],
)
def test_ranks_of_slurm_meet_on_their_first_machine(nodes: str, first: str) -> None:
    found = meeting_point({"SLURM_PROCID": "0", "SLURM_STEP_NODELIST": nodes})
    assert found["MASTER_ADDR"] == first


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("", "2"), ("-1", "2"), ("0", "two")])
def test_a_place_that_makes_no_sense_is_refused(rank: str, world: str) -> None:
    with pytest.raises(InputError, match="allowed: a rank below the world size"):
        place_in({"RANK": rank, "WORLD_SIZE": world})


def test_no_place_to_meet_is_refused() -> None:
    with pytest.raises(InputError, match="MASTER_ADDR is not set"):
        meeting_point({"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize("text", ["soon", "0", "-3", "inf", "nan"])
def test_a_time_out_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NERVECODE_TIMEOUT", text)
    with pytest.raises(InputError, match=r"NERVECODE_TIMEOUT: found .*, a number above 0"):
        seconds("NERVECODE_TIMEOUT")


@pytest.mark.slow
def test_ranks_that_never_come_are_not_waited_for_forever() -> None:
    ready()
    began = time.monotonic()
    (found,) = together(exchange, world=1, WORLD_SIZE="2", NERVECODE_RENDEZVOUS_TIMEOUT="2")
    assert isinstance(found, NervecodeError)
    assert "rendezvous: rank 0 of 2 waited 2 s for the others at 127.0.0.1:" in str(found)
    assert time.monotonic() - began < 60


def test_a_meeting_that_fails_without_a_word_is_told_by_its_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("nervecode.lab.ranks.join.rendezvous", refuse)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    told = r"rank 0 of 2 waited .* at 127\.0\.0\.1:1 .*: RuntimeError$"
    with pytest.raises(NervecodeError, match=told), joined():
        pass


# What cannot be divided


@pytest.mark.parametrize(
    ("batch", "compiled", "message"),
    [
        (100, False, "train.batch_size: found 100, which 3 processes.*nearby: 99 or 102"),
        (2, False, "train.batch_size: found 2, which 3 processes.*nearby: 3 "),
        (99, True, "train.compile: found true with 3 processes; allowed with several: false"),
    ],
)
def test_a_training_that_cannot_be_divided_is_refused(
    batch: int, compiled: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervecode.lab.ranks.job.CurrentJob.job", Job(0, 3))
    with pytest.raises(InputError, match=message):
        check_batch(batch, compiled=compiled)
    check_batch(99, compiled=False)


def test_a_job_of_one_may_go_on_with_another_world(tmp_path: Path) -> None:
    with joined(any_world=True) as job:
        assert (job.world, current().any_world) == (1, True)
    assert not current().any_world
