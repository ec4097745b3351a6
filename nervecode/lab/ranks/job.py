"""Job: the processes that work on one run together, and what is common to them.

A process is one rank of a world; by itself, it is rank 0 of a world of one, and nothing here costs
anything. Started by `torchrun`, by `srun` or by `nervecode … --nproc`, ranks find each other in
`joined`. Batch size, learning rate and order of the data are those of the whole job.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.ranks.link import Link

PIECE = 64 << 20  # bytes that are sent at once, so that each arrives within the time-out


@dataclass(frozen=True)
class Job:
    """This process among those that work on one run.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        any_world: whether to go on with what another number of processes began.
        link: to the other ranks; None in a world of one.
    """

    rank: int = 0
    world: int = 1
    any_world: bool = False
    link: Link | None = None

    @property
    def leads(self) -> bool:
        """Whether this rank writes, decides and shows; the others compute alone."""
        return self.rank == 0

    def shard(self, count: int, *, unit: int = 1) -> slice:
        """This rank's part of `count` things in order, in whole units but for the last.

        The parts of all ranks cover everything once; they differ by one unit at most.
        """
        units = -(-count // unit)
        share, more = divmod(units, self.world)
        begin = self.rank * share + min(self.rank, more)
        end = begin + share + (self.rank < more)
        return slice(min(begin * unit, count), min(end * unit, count))

    # Tensors, in operations of all ranks at once

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        if self.link is None:
            return tensor
        self.tick()
        total = tensor.clone()
        with self.answering():
            dist.all_reduce(total)
        return total

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers, on every rank."""
        return number if self.link is None else int(self.rows(torch.tensor(number)).max())

    def rows(self, tensor: Tensor) -> Tensor:
        """(world, …) the ranks' tensors, on every rank; of few numbers, sooner than their sum."""
        if self.link is None:
            return tensor.unsqueeze(0)
        self.tick()
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        with self.answering():
            dist.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def tick(self) -> None:
        """This rank is about to take part in a common operation that is not begun here.

        A rank that is late is known by having begun fewer of them.
        """
        if self.link is not None:
            self.link.turn += 1

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Within it, a common operation that fails says which rank is why.

        Raises:
            PeerLost: names the rank.
        """
        try:
            yield
        except RuntimeError as error:
            if self.link is None or not _from_a_peer(error):
                raise
            raise self.link.blame(error) from None

    # Plain values and tensors of any size, for which a rank is waited for while it is alive

    def share(self, value: Any) -> Any:
        """The first rank's value, which JSON can hold, on every rank."""
        if self.link is None:
            return value
        key = self._turn("share")
        if self.leads:
            self.link.put(key, value)
            return value
        return self.link.get(key, 0)

    def meet(self) -> None:
        """Go on when all ranks are here."""
        if self.link is None:
            return
        key = self._turn("meet")
        self.link.put(f"{key}/{self.rank}", None)
        for rank in range(self.world) if self.leads else ():
            self.link.get(f"{key}/{rank}", rank)
        self.share(None)

    def part(self) -> None:
        """Leave together: the first rank, which may hold the store, stays until all have left."""
        if self.link is None:
            return
        self.link.put(f"end/{self.rank}", None)
        for rank in range(self.world) if self.leads else ():
            self.link.get(f"end/{rank}", rank)

    def collect(self, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """On the first rank, what each of the others gave, in order; on the others nothing.

        Every rank must exhaust it.
        """
        if self.link is None:
            return
        key = self._turn("collect")
        with self.answering():
            if not self.leads:
                self.link.put(f"{key}/{self.rank}", _described(tensors))
                self.link.get(f"{key}/go/{self.rank}", 0)
                for tensor in tensors.values():
                    for piece in _bytes(tensor.cpu().contiguous()).split(PIECE):
                        dist.send(piece, 0)
                return
            for rank in range(1, self.world):
                received = _empty(self.link.get(f"{key}/{rank}", rank))
                self.link.put(f"{key}/go/{rank}", None)
                for tensor in received.values():
                    for piece in _bytes(tensor).split(PIECE):
                        dist.recv(piece, rank)
                yield received

    def gather(self, tensor: Tensor) -> Tensor:
        """On the first rank, all ranks' tensors in order, joined along the first dimension.

        On the others, what they gave.
        """
        parts = [
            tensor,
            *[received["part"].to(tensor.device) for received in self.collect({"part": tensor})],
        ]
        return torch.cat(parts) if len(parts) > 1 else tensor

    def spread(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first rank's tensors, on the CPU of every rank."""
        if self.link is None:
            return dict(tensors)
        received = _empty(self.share(_described(tensors) if self.leads else None))
        with self.answering():
            for name, tensor in received.items():
                if self.leads:
                    tensor.copy_(tensors[name])
                for piece in _bytes(tensor).split(PIECE):
                    dist.broadcast(piece, 0)
        return received

    def _turn(self, kind: str) -> str:
        assert self.link is not None
        self.tick()
        return f"{kind}/{self.link.turn}"


class CurrentJob:
    """Where this process's job is noted. A process has one, as it has one process group."""

    job = Job()


def current() -> Job:
    """The job that this process belongs to."""
    return CurrentJob.job


def local_world() -> int:
    """How many ranks share this machine, as far as the environment tells."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(text)) if text.isdigit() and current().world > 1 else 1


def check_devices(device: torch.device) -> None:
    """Refuse more ranks on this machine than it has GPUs, where they are to run on GPUs.

    Raises:
        InputError: says how many there are.
    """
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and local_world() > gpus:
        raise InputError(
            f"processes: found {local_world()} on this machine, which has {gpus} GPU(s), "
            "allowed: one for each, or device=cpu"
        )


def check_batch(batch_size: int, *, compiled: bool) -> None:
    """Refuse a training that cannot be divided among the ranks of this job.

    Raises:
        InputError: names the key, and what is allowed.
    """
    world = current().world
    if batch_size % world:
        below, above = batch_size // world * world, -(-batch_size // world) * world
        allowed = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(
            f"train.batch_size: found {batch_size}, which {world} processes cannot share evenly; "
            f"allowed nearby: {allowed} (it is the size of the whole job's batch)"
        )
    if world > 1 and compiled:
        raise InputError(
            f"train.compile: found true with {world} processes; allowed with several: false"
        )


def _from_a_peer(error: RuntimeError) -> bool:
    """Whether an error is one of a common operation, and not one of this rank's own."""
    if isinstance(error, NervecodeError):
        return False
    known = isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)
    return known or "Connection" in str(error)


def _described(tensors: Mapping[str, Tensor]) -> list[Any]:
    return [[n, str(t.dtype).removeprefix("torch."), list(t.shape)] for n, t in tensors.items()]


def _empty(described: list[Any]) -> dict[str, Tensor]:
    return {n: torch.empty(shape, dtype=getattr(torch, kind)) for n, kind, shape in described}


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)
