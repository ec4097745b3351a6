#!/usr/bin/env python
"""What pictures and the page of a run cost, each in a process of its own.

    python scripts/bench_plots.py RUN [--samples 60000] [--layers 20]

RUN is a finished run, such as one of `nervecode bench --preset digits`; it is copied, not changed.
Seconds include the start of Python; memory is the most that the process held. The large layerwise
plot is of made-up surprises: ID test and five OOD sets, and as many calibration inputs as a sixth.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nervecode.files import sha256

ROOT = Path(__file__).resolve().parents[1]
# The most memory of a child is known to its parent alone: one parent each.
WATCH = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=2); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss); sys.exit(code)"
)
UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, to a megabyte


@dataclass(frozen=True)
class Cost:
    """Seconds, seconds of a processor, and megabytes of one command."""

    seconds: float
    processor: float
    megabytes: float


def cost(*command: object) -> Cost:
    """Run `python -m ...`, and say what it took."""
    arguments = [sys.executable, "-c", WATCH, sys.executable, "-m", *map(str, command)]
    began = time.perf_counter()
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    processor, memory = done.stdout.split()
    return Cost(seconds, float(processor), int(memory) / UNIT)


def made_up_run(root: Path, samples: int, layers: int) -> Path:
    """A run of surprises alone: all that a layerwise plot reads."""
    random = np.random.default_rng(0)
    names = [f"blocks.{i}" for i in range(layers)]
    sets = {f"set_{i}": "far" for i in range(5)}
    folder = root / "layerwise/seed_0"
    folder.mkdir(parents=True)
    for number, split in enumerate(["id_calibration", "id_test", *(f"ood_{s}" for s in sets)]):
        surprise = random.gamma(2.0, 1 + number, (samples // 6, layers)).astype(np.float32)
        np.savez(folder / f"{split}.npz", layer_names=np.array(names), surprise=surprise)
    outputs = {p.relative_to(root).as_posix(): sha256(p) for p in sorted(folder.iterdir())}
    meta = {
        "schema_version": 1, "run_id": root.name, "name": "made_up", "status": "complete",
        "demo": False, "seeds": [0], "primary_method": "nervecode", "unit": "bits",
        "ood_groups": sets, "gate": {"required": 0.0, "passed": True, "accuracy": {}},
        "stages": {"score/seed_0": {"inputs": None, "outputs": outputs}}, "files": {},
    }  # fmt: skip
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--layers", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(shutil.copytree(given.run, Path(folder) / given.run.resolve().name))
        large = made_up_run(Path(folder) / "made_up", given.samples, given.layers)
        page, picture = Path(folder) / "report.html", Path(folder) / "large.png"
        found = {
            "plot --kind all": cost("nervecode", "plot", run, "--kind", "all"),
            f"layerwise, {given.samples:,} samples by {given.layers} layers": cost(
                "nervecode.viz.layerwise", large, "--output", picture
            ),
            "report": cost("nervecode", "report", run, "--output", page),
        }
        print(f"{'':<42} {'took':>7} {'processor':>10}")
        for name, one in found.items():
            figures = f"{one.seconds:5.1f} s {one.processor:8.1f} s {one.megabytes:6.0f} MB"
            print(f"{name:<42} {figures}")
        print(f"{'the page':<42} {page.stat().st_size / 1e6:24.2f} MB on disk")


if __name__ == "__main__":
    main()
