"""Tracking: what a run finds, told to TensorBoard or MLflow as well. They only watch.

A run's own files are written first, and nothing is read back from a tracker. One that fails is told
about once and left out from then on; it does not stop the run. Both write to the disk on which the
run lies: TensorBoard in a thread of its own, MLflow at once.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from nervecode.errors import InputError, did_you_mean, need_extra

FOLDER = "tracking"  # beside the runs: what lies in a run is hashed

Row = Mapping[str, Any]


class Tracker(ABC):
    """One place to be told about one run."""

    needs: ClassVar[str]

    @abstractmethod
    def __init__(self, folder: Path, run: str) -> None: ...

    @abstractmethod
    def figures(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        """Figures of one epoch of a seed, by name; a slash parts a layer from its figure."""

    @abstractmethod
    def table(self, name: str, markdown: str) -> None:
        """A table of the whole run."""

    @abstractmethod
    def picture(self, name: str, path: Path) -> None:
        """A picture of the whole run, a PNG."""

    @abstractmethod
    def close(self) -> None:
        """Write what is not yet written."""


class _TensorBoard(Tracker):
    """Event files, one folder a seed: tensorboard --logdir runs/tracking/tensorboard."""

    needs = "tensorboard"

    def __init__(self, folder: Path, run: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.open = folder / "tensorboard" / run, SummaryWriter
        self.writers: dict[str, SummaryWriter] = {}

    def _writer(self, part: str) -> Any:
        if part not in self.writers:
            self.writers[part] = self.open(str(self.folder / part))
        return self.writers[part]

    def figures(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer(f"seed_{seed}").add_scalar(name, value, step)

    def table(self, name: str, markdown: str) -> None:
        self._writer("results").add_text(name, markdown)

    def picture(self, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer("results").add_image(name, pixels, dataformats="HWC")

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class _MLflow(Tracker):
    """A file store; one MLflow run a seed, and one for results: MLflow's own page shows it.

    A run that is taken up again goes on with the MLflow runs that it has.
    """

    needs = "mlflow"

    def __init__(self, folder: Path, run: str) -> None:
        # Files are what is wanted, though MLflow prefers a database; and nobody is called.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri=(folder / "mlflow").resolve().as_uri())
        there = self.client.get_experiment_by_name(run)
        self.experiment = there.experiment_id if there else self.client.create_experiment(run)
        self.runs: dict[str, str] = {
            part.info.run_name: part.info.run_id
            for part in self.client.search_runs([self.experiment])
        }

    def _run(self, part: str) -> str:
        if part not in self.runs:
            self.runs[part] = self.client.create_run(self.experiment, run_name=part).info.run_id
        return self.runs[part]

    def figures(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_mlflow_name(n), v, now, step) for n, v in values.items()]
        self.client.log_batch(self._run(f"seed_{seed}"), metrics=metrics)

    def table(self, name: str, markdown: str) -> None:
        self.client.log_text(self._run("results"), markdown, f"{name}.md")

    def picture(self, name: str, path: Path) -> None:
        self.client.log_artifact(self._run("results"), str(path), "pictures")

    def close(self) -> None:
        for run in self.runs.values():
            self.client.set_terminated(run)


def _mlflow_name(name: str) -> str:
    """A name without the signs that MLflow refuses."""
    return "".join(c if c.isalnum() or c in "_-. /:" else "_" for c in name)


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed, before a run begins.

    Raises:
        InputError: an unknown name; the nearest one is shown.
        MissingExtraError: a tracker that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"--track: unknown {name!r}; {did_you_mean(name, TRACKERS)}")
        need_extra(f"--track {name}", TRACKERS[name].needs, "tracking")


class Tracking:
    """The trackers of one run.

    Args:
        names: of `TRACKERS`, as `check_trackers` accepts them.
        run: the run directory; what trackers write lies beside it, in `tracking/`.
        warn: told in one sentence where a tracker failed.
    """

    def __init__(self, names: Sequence[str], run: Path, *, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.trackers: dict[str, Tracker] = {}
        root = run.resolve()
        for name in names:
            with self._left_out_if_it_fails(name):
                self.trackers[name] = TRACKERS[name](root.parent / FOLDER, root.name)

    def epoch(self, seed: int, row: Row, layers: Sequence[Row]) -> None:
        """The metrics of an epoch, and the diagnostics of each layer in it."""
        step = int(row["epoch"])
        values = {name: float(value) for name, value in row.items() if name != "epoch"}
        for layer in layers:
            values |= {
                f"{layer['layer']}/{name}": float(value)
                for name, value in layer.items()
                if name not in ("epoch", "layer")
            }
        self._tell("figures", seed, step, values)

    def table(self, name: str, markdown: str) -> None:
        """A table of the run."""
        self._tell("table", name, markdown)

    def picture(self, name: str, path: Path) -> None:
        """A picture of the run; one that is no PNG is left out."""
        if path.suffix == ".png":
            self._tell("picture", name, path)

    def close(self) -> None:
        """Let trackers write what is not yet written."""
        self._tell("close")

    def _tell(self, what: str, *values: Any) -> None:
        for name, tracker in list(self.trackers.items()):
            with self._left_out_if_it_fails(name):
                getattr(tracker, what)(*values)

    @contextmanager
    def _left_out_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a tracker is no part of the run
            self.trackers.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self.warn(f"tracking: {name} failed and is left out from here ({reason})")
