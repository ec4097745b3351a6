"""SurpriseCallback for Lightning: codes of a module, fitted when its training ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from nervecode.errors import need_extra
from nervecode.integrations.callback import CodesAfterTraining
from nervecode.layers import WrappedModel

# The one project under two names, each with a Callback of its own; both may be installed.
_HOMES = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
_BASES = tuple(import_module(home).Callback for name, home in _HOMES.items() if find_spec(name))
if not _BASES:
    need_extra("nervecode.integrations.lightning", "lightning", "integrations")


class SurpriseCallback(*_BASES):  # type: ignore[misc]
    """Fits codes at the end of a training, calibrates, logs figures of the validation data, saves.

    The codes lie beside the checkpoint, as `nervecode.safetensors`; `nervecode.load` reads them.

    Args:
        held_out: batches that the training does not see, for calibration.
        options: `layers`, `alpha`, `call`, `labels` and `fit_options`, as in
            `nervecode.integrations.callback.CodesAfterTraining`.

    Raises:
        InputError: no loader to calibrate on, or a training in several processes.
    """

    def __init__(self, held_out: Iterable[Any], **options: Any) -> None:
        super().__init__()
        self.codes = CodesAfterTraining(held_out, **options)

    @property
    def wrapped(self) -> WrappedModel | None:
        """The calibrated module; None before the end of the training."""
        return self.codes.wrapped

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse several processes before the first of them has trained."""
        self.codes.check_alone(trainer.world_size)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse layers that the module has not before it is trained."""
        self.codes.check_layers(pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Fit, calibrate, log and save, after what other callbacks make of the weights at the end.

        As `WeightAveraging`, which puts the averages into the module when the training ends.
        """
        callbacks = trainer.checkpoint_callbacks
        watching = [one for one in callbacks if getattr(one, "monitor", None) is not None]
        checkpoint = next(iter(watching), trainer.checkpoint_callback)
        folder = Path((checkpoint and checkpoint.dirpath) or trainer.default_root_dir)
        figures = self.codes.finish(
            pl_module,
            _one_loader(trainer.train_dataloader),
            folder,
            _one_loader(trainer.val_dataloaders),
        )
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
        last = trainer.callback_metrics.get(checkpoint and checkpoint.monitor)
        kept = last is not None and checkpoint.best_model_path
        if kept and last != checkpoint.best_model_score:
            warnings.warn(
                f"{self.codes.path}: has codes of the last weights, and not of those in "
                f"{checkpoint.best_model_path}, which were better before; load them into the "
                "module, and wrap, fit and calibrate it",
                stacklevel=2,
            )


def _one_loader(loaders: Any) -> Any:
    """The batches of several loaders, which a list or a mapping holds, one after the other."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    return chain.from_iterable(loaders) if isinstance(loaders, (list, tuple)) else loaders
