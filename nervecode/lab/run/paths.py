"""RunPaths: where the files of stages lie, and what `meta.json` calls the stages of a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nervecode.errors import InputError

MANIFEST = "checkpoints/checkpoint_manifest.json"
DEMO, GATE_FAILED = "DEMO_MODE.txt", "GATE_FAILED.txt"
# Files that a run writes more than once -> the stage that does.
SHARED = {"config.yaml": "", DEMO: "", MANIFEST: "train", GATE_FAILED: "tables"}
# Stages whose files only show what others hold, and may be made again at any time.
DERIVED = ("plots", "report", "plot")
CACHE = ("features/", "resume/")  # what lies there may be gone, but not changed


def stage_key(name: str, seed: int) -> str:
    """What `meta.json` calls the stage of a seed."""
    return f"{name}/seed_{seed}"


def check_outside_runs(path: Path, what: str = "--output") -> None:
    """Refuse an output among the files of a run, which are known by their hashes.

    Raises:
        InputError: it lies in a run.
    """
    for folder in path.resolve().parents:
        if (folder / "meta.json").is_file() and (folder / "config.yaml").is_file():
            raise InputError(
                f"{what} {path}: lies in the run {folder.name}, whose files are its own; "
                "allowed: a path outside of it"
            )


@dataclass(frozen=True)
class RunPaths:
    """The files of a run, of which each stage has its own; those of `SHARED` lie beside them."""

    root: Path

    @property
    def columns(self) -> Path:
        """What was fitted to the columns of a table on ID train."""
        return self.root / "columns.json"

    def plot(self, kind: str, seed: int) -> Path:
        """A picture of a seed."""
        return self.root / "plots" / f"{kind}_seed_{seed}.png"

    def checkpoint(self, seed: int) -> Path:
        """Weights of the classifier and of learned codebooks."""
        return self.root / "checkpoints" / f"seed_{seed}.safetensors"

    def resume(self, seed: int) -> Path:
        """A training after its last epoch; gone when the training is done."""
        return self.root / "resume" / f"seed_{seed}.safetensors"

    def calibration(self, seed: int) -> Path:
        """Fitted codes and calibration scores of every signal."""
        return self.root / "calibration" / f"seed_{seed}.safetensors"

    def features(self, seed: int, split: str) -> Path:
        """Cached logits and features of a split."""
        return self.root / "features" / f"seed_{seed}" / f"{split}.safetensors"

    def layerwise(self, seed: int, split: str) -> Path:
        """Surprise per layer of a split."""
        return self.root / "layerwise" / f"seed_{seed}" / f"{split}.npz"

    def scores(self, seed: int, split: str) -> Path:
        """Scores of every method on a split."""
        return self.root / "scores" / f"seed_{seed}" / f"{split}.npz"

    def failures(self, seed: int) -> Path:
        """Method -> reason, for the baselines that failed."""
        return self.root / "scores" / f"seed_{seed}" / "failures.json"

    def metrics(self, seed: int) -> Path:
        """Training metrics per epoch."""
        return self.root / "metrics" / f"seed_{seed}.csv"

    def diagnostics(self, seed: int) -> Path:
        """Codebook diagnostics per layer and epoch."""
        return self.root / "diagnostics" / f"seed_{seed}.csv"
