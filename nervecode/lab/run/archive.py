"""Archive: a run as one `.tar.gz`, whose bytes depend on the run's files alone."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from nervecode.files import check_new, replacing, sha256
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import hashes
from nervecode.lab.run.paths import CACHE, check_outside_runs
from nervecode.lab.run.verify import META, require_whole

LEVEL = 6


def archive_run(run: RunDir, output: Path, *, force: bool = False) -> tuple[str, str]:
    """Pack `meta.json` and every file that it knows, but for caches; the log stays behind.

    Names are sorted; times, owners and modes are fixed, so that the same run gives the same bytes
    with the same release of zlib.

    Args:
        run: a run whose files are all as they were written.
        output: the archive, `.tar.gz`, outside the run.
        force: replace an archive that exists.

    Returns:
        The SHA-256 of the archive, and the digest of the run, which the unpacked archive has too.

    Raises:
        InputError: an output that exists, lies in the run, or is named otherwise.
        ArtifactError: a file of the run is missing, changed or unexpected.
    """
    check_new(output, (".tar.gz",), what="--output", force=force)
    check_outside_runs(output)
    digest = require_whole(run).digest
    names = sorted({META, *(n for n in hashes(run.meta) if not n.startswith(CACHE))})
    with (
        replacing(output) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            _add(tar, run.root / name, f"{run.home.name}/{name}")
    return sha256(output), digest


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """One file, without what differs from machine to machine."""
    about = tarfile.TarInfo(name)
    about.size, about.mode = path.stat().st_size, 0o644
    with path.open("rb") as file:
        tar.addfile(about, file)
