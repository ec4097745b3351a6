"""Doctor: what one must know about a machine to understand a bug report from it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nervecode import __version__
from nervecode.lab.config.presets import presets
from nervecode.lab.data.locate import NO_ROOT, data_root, locations
from nervecode.lab.machine.provenance import provenance

OTHERS = ("scipy", "matplotlib", "safetensors", "scikit-image")
WIDTH = 80
Facts = dict[str, str]


def examine(runs: Path) -> dict[str, Facts]:
    """Heading -> facts; a part that cannot be examined says why, and the others stand.

    Args:
        runs: the folder of runs, whose disk is looked at.
    """
    parts: dict[str, Callable[[], Facts]] = {
        "versions": _versions,
        "machine": _machine,
        "torch": _torch,
        "data": _data,
        "disk": lambda: _disk(runs),
    }
    return {name: _tried(part) for name, part in parts.items()}


def as_text(parts: dict[str, Facts]) -> str:
    """One block of text: a heading, then a fact a line, wrapped to fit `WIDTH` columns."""
    lines = []
    for name, facts in parts.items():
        width = max(map(len, facts), default=0)
        rest = " " * (width + 4)
        lines.append(name)
        for key, value in facts.items():
            lines += textwrap.wrap(
                f"{value}", WIDTH, initial_indent=f"  {key:<{width}}  ", subsequent_indent=rest,
                break_on_hyphens=False, break_long_words=False,
            ) or [f"  {key}"]  # fmt: skip
    return "\n".join(lines)


def _tried(part: Callable[[], Facts]) -> Facts:
    try:
        return part()
    except Exception as error:  # a broken installation is what a doctor is called for
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())}


def _versions() -> Facts:
    record = provenance()
    facts = {"nervecode": __version__, **record["versions"]}
    for package in OTHERS:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts | {"commit": str(record["git_commit"] or "no checkout")}


def _machine() -> Facts:
    return {key: str(value) for key, value in provenance()["hardware"].items()}


def _torch() -> Facts:
    import torch

    facts = {
        "threads": str(torch.get_num_threads()),
        "cuda": str(torch.version.cuda or "not built in"),
    }
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        facts[f"gpu {number}"] = f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
    return facts if torch.cuda.is_available() else facts | {"gpu": "none that PyTorch sees"}


def _data() -> Facts:
    places, root = locations(), data_root()
    here = [place.name for place in places if place.present]
    absent = [place.name for place in places if not place.present]
    return {
        "folder": _without_home(root) if root else NO_ROOT,
        "present": " ".join(here) or "none",
        "absent": " ".join(absent) or "none",
        "presets": str(len(presets())),
    }


def _disk(runs: Path) -> Facts:
    facts = {}
    for name, folder in (("runs", runs), ("data", data_root())):
        if folder is None:
            continue
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        usage = shutil.disk_usage(there)
        facts[name] = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.0f}"
    return facts


def _without_home(path: Path) -> str:
    """A path that does not tell who its reader is."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
