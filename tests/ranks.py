"""Functions run by several ranks, in processes that start quickly."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.trust.processes import SERVER


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ready() -> None:
    """Go on when processes start quickly: the first one waits until torch is loaded."""
    process = SERVER.Process(target=int)
    process.start()
    process.join()


def together(
    function: Callable[..., Any], *arguments: Any, world: int = 2, **environment: str
) -> list[Any]:
    """What each rank's call returned, or the exception that ended it; None for one that died.

    Args:
        function: called with the job and the arguments, in each rank.
        arguments: the same for all ranks.
        world: number of ranks; 1 is a process of its own as well.
        environment: of the ranks, as in NERVECODE_TIMEOUT="2".
    """
    port = str(free_port())
    ranks = []
    for rank in range(world):
        places = {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                  "MASTER_PORT": port, **environment}  # fmt: skip
        reader, writer = SERVER.Pipe()
        process = SERVER.Process(target=_main, args=(writer, places, function, arguments))
        process.start()
        writer.close()
        ranks.append((process, reader))
    return [_outcome(reader) for _, reader in ranks]


def _outcome(reader: Connection) -> Any:
    try:
        found = reader.recv()
        if not isinstance(found, BaseException):
            reader.send(None)
        return found
    except (EOFError, ConnectionError):
        return None


def _main(
    writer: Connection, places: dict[str, str], function: Callable[..., Any], arguments: Any
) -> None:
    import torch

    from nervecode.lab.ranks.join import joined

    torch.set_num_threads(1)
    os.environ.update(places)
    try:
        with joined() as job:
            found = function(job, *arguments)
    except BaseException as error:
        found = error
    writer.send(found)
    if not isinstance(found, BaseException):
        writer.recv()  # tensors are shared: they live while this process does
