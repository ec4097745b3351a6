"""Any model can be watched: random models return bit for bit what they return unwatched.

Nothing that goes wrong inside the watching reaches the caller: no exception out of a forward, and
out of `fit`, `calibrate` and `score` only errors of the library that name a layer.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import NervecodeError
from tests.layers.zoo import tensors
from tests.properties.any_model import CLASSES, AnyModel

LAYERS = ("all_blocks", "all_linear", "all")
DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16)


def all_leaves(name: str, module: nn.Module) -> bool:
    return next(module.children(), None) is None


def build(seed: int) -> tuple[AnyModel, torch.dtype]:
    """A model of a random precision; it has run once, so that lazy parts have their widths."""
    dtype = random.Random(f"dtype {seed}").choice(DTYPES)
    model = AnyModel(seed).to(dtype)
    with torch.no_grad():
        model.eval()(model.inputs(4, dtype))
    return model.train(), dtype


def watch(model: AnyModel, seed: int) -> nervecode.WrappedModel:
    layers = random.Random(f"layers {seed}").choice(LAYERS)
    return nervecode.wrap(model, all_leaves if layers == "all" else layers)


def outcome(run: Callable[[], Any]) -> tuple[str, list[Tensor]]:
    """The tensors that a call gives, or the name of its error."""
    torch.manual_seed(7)
    try:
        return "", tensors(run())
    except NervecodeError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}", []


def assert_same(found: tuple[str, list[Tensor]], expected: tuple[str, list[Tensor]]) -> None:
    assert found[0] == expected[0]
    for a, b in zip(found[1], expected[1], strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.is_meta or torch.equal(a.nan_to_num(), b.nan_to_num())


def step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs of a call, and the gradients of its inputs and parameters."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    outputs = tensors(model(x.clone()))
    torch.stack([out.float().square().mean() for out in outputs]).sum().backward()
    grads = [p.grad for name, p in model.named_parameters() if "coders" not in name]
    return [*outputs, *[grad for grad in [x.grad, *grads] if grad is not None]]


def no_grad(model: nn.Module, x: Tensor) -> Any:
    with torch.no_grad():
        return model(x)


def inference(model: nn.Module, x: Tensor) -> Any:
    with torch.inference_mode():
        return model(x)


def autocast(model: nn.Module, x: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        return model(x)


MODES = {
    "train": (True, step),
    "eval": (False, step),
    "no_grad": (False, no_grad),
    "inference": (False, inference),
    "autocast": (False, autocast),
}


def compare(wrapped: nn.Module, bare: AnyModel, dtype: torch.dtype) -> None:
    for training, run in MODES.values():
        bare.train(training)
        wrapped.train(training)
        x = bare.inputs(6, dtype)
        expected = outcome(lambda run=run, x=x: run(bare, x))
        assert_same(outcome(lambda run=run, x=x: run(wrapped, x)), expected)


@contextmanager
def named(wrapped: nervecode.WrappedModel) -> Iterator[None]:
    """Errors of the library pass where they name a layer, or labels that fit no input."""
    try:
        yield
    except NervecodeError as error:
        names = ("labels: found", *wrapped.layer_names)
        if not any(name in str(error) for name in names):
            raise


def fit_and_score(wrapped: nervecode.WrappedModel, bare: AnyModel, dtype: torch.dtype) -> None:
    wrapped.eval()
    bare.eval()
    labelled = [(bare.inputs(12, dtype), torch.arange(12) % CLASSES) for _ in range(2)]
    x = bare.inputs(7, dtype)
    with named(wrapped), torch.no_grad():
        wrapped.fit(labelled, num_classes=CLASSES)
        wrapped.calibrate([bare.inputs(12, dtype) for _ in range(2)])
        output, surprise = wrapped.score(x)
        assert_same(("", tensors(output)), ("", tensors(bare(x))))
        assert surprise.p_value.shape == (7,)


def check(seed: int) -> None:
    bare, dtype = build(seed)
    wrapped = watch(build(seed)[0], seed)
    try:
        compare(wrapped, bare, dtype)
        fit_and_score(wrapped, bare, dtype)
        compare(wrapped, bare, dtype)
        assert_same(
            ("", list(wrapped.unwrap().state_dict().values())),
            ("", list(bare.state_dict().values())),
        )
    except Exception as error:
        raise AssertionError(f"{bare.grammar} ({dtype})") from error


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(50))
def test_any_model(tens: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(10 * tens, 10 * tens + 10):
            check(seed)


def test_a_few_models() -> None:
    """The same in a few seconds, for every run of the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(1000, 1010):
            check(seed)


def test_the_same_seed_gives_the_same_model() -> None:
    first, second = AnyModel(3), AnyModel(3)
    assert first.grammar == second.grammar
    assert_same(("", list(first.state_dict().values())), ("", list(second.state_dict().values())))
