"""Joining: how a process becomes a rank of a job, and how it leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from nervecode.errors import NervecodeError, first_line
from nervecode.lab.machine.interrupt import Interrupted
from nervecode.lab.ranks.job import CurrentJob, Job
from nervecode.lab.ranks.link import Link, PeerLost, name_here
from nervecode.lab.ranks.place import RENDEZVOUS_TIMEOUT, TIMEOUT, meeting_point, place_in, seconds


@contextmanager
def joined(*, any_world: bool = False) -> Iterator[Job]:
    """Within it, this process is a rank of the job that the environment describes, if any.

    Raises:
        InputError: an environment that makes no sense.
        NervecodeError: the other ranks do not come.
    """
    place = place_in(os.environ)
    if place is None:
        CurrentJob.job = Job(any_world=any_world)
        try:
            yield CurrentJob.job
        finally:
            CurrentJob.job = Job()
        return
    rank, world = place
    link = Link(_store(rank, world), rank, world, patience=seconds(TIMEOUT))
    CurrentJob.job = job = Job(rank, world, any_world, link)
    try:
        job.meet()
        _open(link)
        yield job
        job.part()
    except BaseException as error:
        if not isinstance(error, PeerLost):
            link.declare(f"{name_here(rank)}: {_in_words(error)}")
        raise
    finally:
        link.close()
        if dist.is_initialized():
            dist.destroy_process_group()
        CurrentJob.job = Job()


def _store(rank: int, world: int) -> Store:
    """The store of the job, once all ranks are connected to it.

    Raises:
        NervecodeError: they do not come.
    """
    os.environ.update(meeting_point(os.environ))
    patience = seconds(RENDEZVOUS_TIMEOUT)
    try:
        ranks = rendezvous("env://", rank, world, timeout=timedelta(seconds=patience))
        store, _, _ = next(iter(ranks))
    except (RuntimeError, ValueError) as error:
        raise NervecodeError(
            f"rendezvous: rank {rank} of {world} waited {patience:g} s for the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({RENDEZVOUS_TIMEOUT} sets "
            f"how long): {first_line(error)}"
        ) from None
    return PrefixStore("nervecode", store)


def _open(link: Link) -> None:
    """Open the process group; each rank takes the GPU of its own number on its machine."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore("group", link.store),
        rank=link.rank,
        world_size=link.world,
        timeout=timedelta(seconds=link.patience),
    )


def _in_words(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return "was interrupted"
    return f"{type(error).__name__}: {error}"
