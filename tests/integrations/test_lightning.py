"""SurpriseCallback in a training by Lightning, under either of its names."""

from __future__ import annotations

import csv
import itertools
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nervecode
from nervecode.errors import InputError
from nervecode.integrations.callback import CodesAfterTraining

pytestmark = pytest.mark.skipif(
    find_spec("lightning") is None, reason="no lightning: the extra `integrations` brings it"
)

HOMES = ["lightning.pytorch", "pytorch_lightning"]
SEVERAL = pytest.mark.parametrize(
    "several", [list, lambda loaders: dict(zip("ab", loaders, strict=True))]
)


def surprise_callback(*args: Any, **options: Any) -> Any:
    """A callback; Lightning takes seconds to load, and is loaded where it is tested."""
    return import_module("nervecode.integrations.lightning").SurpriseCallback(*args, **options)


def points(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.randn(n, 6, generator=generator) + 4 * torch.eye(3, 6)[y], y


def loader(n: int, seed: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*points(n, seed)), 64)


def module(home: str) -> Any:
    base = import_module(home).LightningModule

    class Module(base):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 1e-2)

    return Module()


def trainer(home: str, folder: Path, **options: Any) -> Any:
    warnings.simplefilter("ignore")
    return import_module(home).Trainer(
        max_epochs=3, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("home", HOMES)
def test_codes_are_fitted_logged_and_saved_beside_the_checkpoint(home: str, tmp_path: Path) -> None:
    pytest.importorskip(home)
    torch.manual_seed(0)
    logger = import_module(f"{home}.loggers").CSVLogger(tmp_path)
    callback = surprise_callback(loader(300, 1))
    net = module(home)
    trainer(home, tmp_path, callbacks=[callback], logger=logger).fit(
        net, loader(600, 0), loader(200, 2)
    )
    checkpoints = list(tmp_path.rglob("*.ckpt"))
    assert callback.codes.path == checkpoints[0].parent / "nervecode.safetensors"
    assert callback.codes.path.exists()
    logged = {
        name
        for file in tmp_path.rglob("metrics.csv")
        for name in file.open().readline().strip().split(",")
    }
    assert {"nervecode/surprise", "nervecode/flagged"} <= logged

    state = torch.load(checkpoints[0], weights_only=True)["state_dict"]  # noqa: TID251
    assert set(state) == set(module(home).state_dict())  # codes are no part of the checkpoint
    again = module(home)
    again.load_state_dict(state)
    wrapped = nervecode.load(callback.codes.path, again.eval())
    with torch.no_grad():
        known = wrapped.score(points(500, 3)[0])[1].flag(0.05)
        strange = wrapped.score(points(500, 3)[0] + 30)[1].flag(0.05)
    assert known.double().mean() < 0.12
    assert strange.all()


def test_figures_agree_with_the_wrapped_module(tmp_path: Path) -> None:
    callback = surprise_callback(loader(300, 1), alpha=0.1)
    net = module(HOMES[0])
    trainer(HOMES[0], tmp_path, callbacks=[callback], logger=False).fit(net, loader(600, 0))
    assert callback.wrapped is not None
    figures = callback.codes.figures(callback.wrapped, loader(200, 2))
    with torch.no_grad():
        _, surprise = callback.wrapped.eval().score(points(200, 2)[0])
    assert figures["nervecode/surprise"] == pytest.approx(float(surprise.score.mean()), rel=1e-5)
    assert figures["nervecode/flagged"] == float((surprise.p_value <= 0.1).double().mean())


def test_the_wrapped_module_is_as_it_was_calibrated(tmp_path: Path) -> None:
    callback = surprise_callback(loader(300, 1))
    trainer(HOMES[0], tmp_path, callbacks=[callback], logger=False).fit(
        module(HOMES[0]), loader(600, 0)
    )
    assert callback.wrapped is not None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")  # what Lightning keeps on a module is no change of it
        assert callback.wrapped.eval().score(points(20, 2)[0])[1].valid.all()


@pytest.mark.slow
def test_a_compiled_module_is_watched(tmp_path: Path) -> None:
    """Whose forward Lightning replaces by the compiled one."""
    torch._dynamo.reset()
    callback = surprise_callback(loader(300, 1))
    compiled = torch.compile(module(HOMES[0]), backend="eager")
    trainer(HOMES[0], tmp_path, callbacks=[callback], logger=False).fit(compiled, loader(600, 0))
    assert callback.wrapped is not None
    with torch.no_grad():
        surprise = callback.wrapped.eval().score(points(20, 2)[0] + 30)[1]
    assert surprise.valid.all() and surprise.flag(0.05).all()


@pytest.mark.parametrize("better_before", [True, False])
def test_codes_of_other_weights_than_the_best_are_told(better_before: bool, tmp_path: Path) -> None:
    home = HOMES[0]
    net = module(home)
    worth = itertools.count(step=-1 if better_before else 1)
    net.validation_step = lambda batch: net.log("worth", float(next(worth)))
    best = import_module(f"{home}.callbacks").ModelCheckpoint(tmp_path, monitor="worth", mode="max")
    callback = surprise_callback(loader(300, 1))
    last = import_module(f"{home}.callbacks").ModelCheckpoint(tmp_path / "last")
    fitting = trainer(home, tmp_path, callbacks=[callback, last, best], logger=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitting.fit(net, loader(600, 0), loader(64, 2))
    about = [str(w.message) for w in told if "codes of the last weights" in str(w.message)]
    assert len(about) == better_before
    assert all(best.best_model_path in text for text in about)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_codes_are_of_the_averaged_weights_in_any_order(first: bool, tmp_path: Path) -> None:
    """Lightning puts the averages into the module when the training ends, without a count."""
    callbacks = import_module(f"{HOMES[0]}.callbacks")
    averaging = getattr(callbacks, "WeightAveraging", None)
    if averaging is None:
        pytest.skip("WeightAveraging came with lightning 2.6")
    callback, net = surprise_callback(loader(300, 1)), module(HOMES[0])
    both = [callback, averaging()] if first else [averaging(), callback]
    trainer(HOMES[0], tmp_path, callbacks=both, logger=False).fit(net, loader(600, 0))
    with torch.no_grad():
        surprise = callback.wrapped.eval().score(points(300, 2)[0])[1]
    assert surprise.valid.all() and surprise.flag(0.05).double().mean() < 0.12
    assert nervecode.load(callback.codes.path, net.eval()).condition.has_weights_of(net)


@SEVERAL
def test_several_validation_loaders_count_as_one(
    several: Callable[[list[Any]], Any], tmp_path: Path
) -> None:
    callback = surprise_callback(loader(300, 1))
    net = module(HOMES[0])
    net.validation_step = lambda batch, index, dataloader_idx=0: None
    logger = import_module(f"{HOMES[0]}.loggers").CSVLogger(tmp_path)
    loaders = [loader(200, 2), loader(200, 3)]
    trainer(HOMES[0], tmp_path, callbacks=[callback], logger=logger).fit(
        net, loader(600, 0), several(loaders)
    )
    (row,) = [row for row in csv.DictReader((Path(logger.log_dir) / "metrics.csv").open())
              if row["nervecode/surprise"]]  # fmt: skip
    assert callback.wrapped is not None
    alone = [callback.codes.figures(callback.wrapped, one)["nervecode/surprise"] for one in loaders]
    assert float(row["nervecode/surprise"]) == pytest.approx(sum(alone) / 2, rel=1e-4)


@SEVERAL
def test_several_training_loaders_count_as_one(
    several: Callable[[list[Any]], Any], tmp_path: Path
) -> None:
    callback = surprise_callback(loader(300, 1))
    net = module(HOMES[0])
    one = net.training_step
    net.training_step = lambda batch, batch_idx: one(
        next(iter(batch.values())) if isinstance(batch, dict) else batch[0], batch_idx
    )
    loaders = [loader(400, 0), loader(200, 2)]
    trainer(HOMES[0], tmp_path, callbacks=[callback], logger=False).fit(net, several(loaders))
    assert callback.wrapped is not None
    alone = nervecode.wrap(net.eval()).fit(itertools.chain(*loaders)).calibrate(loader(300, 1))
    with torch.no_grad():
        expected, found = (
            wrapped.eval().score(points(200, 3)[0])[1].score
            for wrapped in (alone, callback.wrapped)
        )
    torch.testing.assert_close(found, expected)


def test_modules_keep_their_modes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).train()
    net[1].eval()  # frozen
    codes = CodesAfterTraining(loader(300, 1))
    for training in (True, False):
        net[3].train(training)
        modes = {module: module.training for module in net.modules()}
        statistics = net[1].running_mean.clone()
        codes.finish(net, loader(600, 0), tmp_path, loader(200, 2))
        assert {module: module.training for module in net.modules()} == modes
        assert torch.equal(net[1].running_mean, statistics)


def test_no_loader_to_calibrate_on() -> None:
    with pytest.raises(InputError, match="held_out: found NoneType, allowed: an iterable of bat"):
        surprise_callback(None)  # type: ignore[arg-type]


def test_several_processes_are_refused() -> None:
    class Two:
        world_size = 2

    with pytest.raises(InputError, match="found 2 processes, allowed: one"):
        surprise_callback([points(64, 1)]).setup(Two(), nn.Linear(2, 2), "fit")
