"""SurpriseTrainerCallback for the Trainer of Transformers: codes of a model after its training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nervecode.errors import need_extra
from nervecode.integrations.callback import CodesAfterTraining
from nervecode.layers import WrappedModel

need_extra("nervecode.integrations.transformers", "transformers", "integrations")

from transformers import TrainerCallback  # noqa: E402


class SurpriseTrainerCallback(TrainerCallback):  # type: ignore[misc]
    """Fits codes at the end of a training, calibrates, logs figures of the evaluation data, saves.

    Of several evaluation sets, the figures are of the one that was evaluated last. The codes lie in
    the output folder, as `nervecode.safetensors`; `nervecode.load` reads them.

    Args:
        held_out: batches that the training does not see, for calibration.
        options: `layers`, `alpha`, `call`, `labels` and `fit_options`, as in
            `nervecode.integrations.callback.CodesAfterTraining`.

    Raises:
        InputError: no loader to calibrate on, or a training in several processes.
    """

    def __init__(self, held_out: Iterable[Any], **options: Any) -> None:
        self.codes = CodesAfterTraining(held_out, **options)

    @property
    def wrapped(self) -> WrappedModel | None:
        """The calibrated model; None before the end of the training."""
        return self.codes.wrapped

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Refuse several processes, and layers that the model has not, before the first step."""
        self.codes.check_alone(args.world_size)
        self.codes.check_layers(given["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Fit, calibrate, log and save."""
        figures = self.codes.finish(
            given["model"],
            given["train_dataloader"],
            Path(args.output_dir),
            given.get("eval_dataloader"),
        )
        if figures:
            state.log_history.append({**figures, "step": state.global_step})
