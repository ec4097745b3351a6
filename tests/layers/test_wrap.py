"""WrappedModel as a PyTorch user meets it."""

from __future__ import annotations

import asyncio
import copy
import pickle  # noqa: TID251 (users do; the library itself never does)
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError, NotReadyError
from nervecode.layers import CodingLinear, WrappedModel
from nervecode.scoring import max_surprise, mean_surprise, total_surprise
from tests.layers.zoo import ZOO, mlp


def batches(n: int = 3, size: int = 40, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 6, generator=random), torch.randint(4, (size,), generator=random))
        for _ in range(n)
    ]


@pytest.fixture
def wrapped() -> WrappedModel:
    torch.manual_seed(0)
    return nervecode.wrap(mlp(), "all_linear")


@pytest.fixture
def ready(wrapped: WrappedModel) -> WrappedModel:
    return wrapped.fit(batches()).calibrate(batches(seed=1))


# Learning and scoring


def test_fresh_wrapper_has_a_differentiable_coding_loss(wrapped: WrappedModel) -> None:
    wrapped(torch.randn(8, 6))
    wrapped.coding_loss().backward()
    assert all(p.grad is not None for p in wrapped.coders.parameters())
    assert wrapped.model[0].weight.grad is not None
    assert wrapped.model[0].weight.grad.abs().max() > 0


def test_detached_codes_leave_the_model_alone() -> None:
    wrapped = nervecode.wrap(mlp(), "all_linear", detach=True)
    wrapped(torch.randn(8, 6))
    wrapped.coding_loss().backward()
    assert all(p.grad is None for p in wrapped.model.parameters())
    assert all(p.grad is not None for p in wrapped.coders.parameters())


def test_coding_loss_is_the_mean_surprise(wrapped: WrappedModel) -> None:
    wrapped(torch.randn(8, 6))
    assert wrapped.coding_loss().item() == pytest.approx(wrapped.surprise().by_layer.mean().item())


def test_gradient_descent_lowers_the_coding_loss(wrapped: WrappedModel) -> None:
    optimiser = torch.optim.Adam(wrapped.coders.parameters(), lr=0.05)
    x, losses = torch.randn(64, 6), []
    for _ in range(30):
        wrapped(x)
        losses.append(wrapped.coding_loss())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


def test_fit_is_invariant_to_batches(wrapped: WrappedModel) -> None:
    data = batches()
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    ragged = [(x[i:j], y[i:j]) for i, j in ((0, 1), (1, 50), (50, 120))]
    one, two = copy.deepcopy(wrapped).fit(data), copy.deepcopy(wrapped).fit(ragged)
    probe = torch.randn(9, 6)
    one(probe), two(probe)
    torch.testing.assert_close(one.surprise().by_layer, two.surprise().by_layer)


def test_scores_are_invariant_to_the_batch(ready: WrappedModel) -> None:
    x = torch.randn(20, 6)
    ready(x)
    whole = ready.surprise()
    parts = []
    for rows in x.split(3):
        ready(rows)
        parts.append(ready.surprise())
    torch.testing.assert_close(
        torch.cat([p.by_layer for p in parts]), whole.by_layer, rtol=1e-5, atol=1e-4
    )
    torch.testing.assert_close(
        torch.cat([p.surprise for p in parts]), whole.surprise, rtol=1e-4, atol=1e-4
    )


def test_surprise_after_calibration(ready: WrappedModel) -> None:
    near, far = batches(seed=2)[0][0], 50 * torch.randn(40, 6)
    ready(near)
    usual = ready.surprise()
    ready(far)
    odd = ready.surprise()
    assert usual.method == "code_length"
    assert usual.layers == ("0", "2", "4", "4:label")
    assert usual.num_layers == 4
    assert usual.percentile.mean() < 0.7
    assert odd.percentile.mean() > usual.percentile.mean()
    assert ((usual.p_value > 0) & (usual.p_value <= 1)).all()


@pytest.mark.parametrize(
    ("method", "oracle"),
    [("mean", mean_surprise), ("max", max_surprise), ("total", total_surprise)],
)
def test_other_methods_aggregate_the_same_traces(ready: WrappedModel, method, oracle) -> None:
    _, traces = ready.forward_with_trace(torch.randn(5, 6))
    found = ready.aggregate(traces, method)
    assert torch.equal(found.surprise, oracle(traces).surprise)
    with pytest.raises(NotReadyError, match=f"percentile: the aggregate '{method}' is not cal"):
        _ = found.percentile
    calibrated = copy.deepcopy(ready).calibrate(batches(), method=method).aggregate(traces)
    assert torch.equal(calibrated.surprise, found.surprise)
    assert calibrated.percentile.shape == (5,)


def test_fitting_without_labels_is_one_gaussian(wrapped: WrappedModel) -> None:
    x = torch.randn(200, 6)
    wrapped.fit([x], reduce="mean", length_power=1.0, codes_per_class=1)
    _, traces = wrapped.forward_with_trace(torch.randn(7, 6))
    for trace in traces.values():
        assert trace.code.log_probs.shape == (7, 1)
        torch.testing.assert_close(trace.regret, torch.zeros(7))  # class and background agree


def test_fit_and_calibrate_restore_the_mode_of_every_part() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)).train()
    model[1].eval()  # frozen statistics, as in fine-tuning
    before = copy.deepcopy(model.state_dict())
    nervecode.wrap(model, "all_linear").fit(batches()).calibrate(batches())
    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_dropped_calibration(ready: WrappedModel) -> None:
    assert ready.calibration is not None
    assert ready.fit(batches()).calibration is None


# Errors


def test_errors_before_their_time(wrapped: WrappedModel) -> None:
    with pytest.raises(NotReadyError, match="surprise: no trace; run a forward"):
        wrapped.surprise()
    with pytest.raises(NotReadyError, match="coding_loss: no trace"):
        wrapped.coding_loss()
    wrapped(torch.randn(3, 6))
    with pytest.raises(NotReadyError, match="code_length is not calibrated; call calibrate"):
        wrapped.surprise("code_length")
    with pytest.raises(NotReadyError, match="code_length needs fitted codes"):
        wrapped.calibrate(batches(), method="code_length")
    wrapped(torch.randn(3, 6))
    with pytest.raises(NotReadyError, match="p_value: the aggregate 'mean' is not calibrated"):
        _ = wrapped.surprise().p_value


def test_errors_name_the_bad_input(wrapped: WrappedModel) -> None:
    wrapped(torch.randn(3, 6))
    with pytest.raises(InputError, match="surprise method: found 'maen'; did you mean 'mean'"):
        wrapped.surprise("maen")
    with pytest.raises(InputError, match="calibrate method: found 'man'; did you mean"):
        wrapped.calibrate(batches(), method="man")
    good = (torch.randn(8, 6), torch.arange(8) % 4)
    with pytest.raises(InputError, match=r"^fit: batch 2: labels: found 0 to 7, allowed: 0 to 3"):
        wrapped.fit([good, good, (good[0], torch.arange(8))])
    bad = torch.randn(8, 6)
    bad[3, 5] = torch.inf
    with pytest.raises(InputError, match=r"^layer '.*infinity, first in number 19 of all so far"):
        wrapped.fit([good, good, (bad, good[1])])
    with pytest.raises(NotReadyError, match="fit: the loader gave no batch"):
        wrapped.fit([])
    with pytest.raises(NotReadyError, match="calibrate: the loader gave no batch"):
        wrapped.calibrate([])
    with pytest.raises(NotReadyError, match="found 1 inputs, a code needs at least 2"):
        wrapped.fit([torch.randn(1, 6)])
    with pytest.raises(InputError, match="calibration scores: found 1, allowed: at least 2"):
        wrapped.calibrate([torch.randn(1, 6)])
    with pytest.raises(InputError, match=r"layer: unknown '1'; .*Allowed: 0, 2, 4"):
        wrapped.coder("1")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["wrapped", "ready"])
def test_nan_in_is_the_greatest_surprise_of_its_row_alone(name: str, value: float, request) -> None:
    wrapped = request.getfixturevalue(name)
    x = torch.randn(4, 6)
    wrapped(x)
    before = wrapped.surprise()
    x[2, 3] = value
    assert wrapped(x)[2].isnan().any()  # the model's own answer stays what it is
    with pytest.warns(UserWarning, match="surprise of layer '0': NaN or infinity in 1 of 4 inpu"):
        found = wrapped.surprise()
    assert found.surprise[2] == torch.inf
    rest = [0, 1, 3]
    torch.testing.assert_close(found.surprise[rest], before.surprise[rest])
    if name == "ready":
        assert found.p_value[2] == wrapped.calibration.smallest_alpha
        assert found.percentile[2] == 1
        torch.testing.assert_close(found.p_value[rest], before.p_value[rest])


def test_fit_needs_the_number_of_classes_where_the_output_does_not_tell() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3)))
    wrapped = nervecode.wrap(model, "0")
    with pytest.raises(InputError, match=r"not \(B, classes\); pass num_classes"):
        wrapped.fit(batches())
    assert wrapped.fit(batches(), num_classes=4).coder("0").codes.num_classes == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_codes": 0}, "num_codes: found 0"),
        ({"coding_dim": 0}, "coding_dim: found 0, allowed: at least 1"),
        ({"layers": "all_liner"}, "'all_liner' matches no module of Sequential; did you mean"),
    ],
)
def test_wrap_refuses(options: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        nervecode.wrap(mlp(), **{"layers": "all_linear", **options})


# Switches


def test_bypass_nests_and_leaves_no_stale_trace(wrapped: WrappedModel) -> None:
    x = torch.randn(3, 6)
    wrapped(x)
    with wrapped.bypass():
        with pytest.raises(NotReadyError, match="no trace"):
            wrapped.surprise()
        with wrapped.bypass():
            wrapped(x)
        output, traces = wrapped.forward_with_trace(x)
        assert traces == {}
        assert torch.equal(output, wrapped.model(x))
    with pytest.raises(NotReadyError, match="no trace"):
        wrapped.surprise()
    wrapped(x)
    assert wrapped.surprise().num_layers == 3


def test_bypass_ends_with_an_error(wrapped: WrappedModel) -> None:
    with pytest.raises(ZeroDivisionError), wrapped.bypass():
        raise ZeroDivisionError
    wrapped(torch.randn(3, 6))
    assert wrapped.surprise().num_layers == 3


def test_a_call_that_fails_leaves_no_trace_of_an_earlier_one(wrapped: WrappedModel) -> None:
    wrapped(torch.randn(3, 6))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        wrapped(torch.randn(3, 5))
    with pytest.raises(NotReadyError, match="no trace"):
        wrapped.surprise()


def test_disable_and_enable(wrapped: WrappedModel) -> None:
    x = torch.randn(3, 6)
    wrapped(x)
    wrapped.disable_coding()
    with pytest.raises(NotReadyError, match="coding enabled"):
        wrapped.surprise()
    wrapped(x)
    with pytest.raises(NotReadyError, match="coding enabled"):
        wrapped.coding_loss()
    with pytest.raises(NotReadyError, match="coding is disabled"):
        wrapped.calibrate(batches())
    wrapped.enable_coding()
    wrapped(x)
    assert wrapped.surprise().num_layers == 3


# Threads


def test_a_trace_belongs_to_its_call_whatever_other_threads_do(ready: WrappedModel) -> None:
    inputs = [torch.randn(1 + i % 5, 6) for i in range(64)]
    expected = [ready.forward_with_trace(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ready.forward_with_trace, inputs))
    for (output, traces), (output_, traces_) in zip(found, expected, strict=True):
        assert torch.equal(output, output_)
        assert list(traces) == list(traces_)
        for name, trace in traces.items():
            torch.testing.assert_close(trace.surprise, traces_[name].surprise)


def test_surprise_is_that_of_the_own_task(ready: WrappedModel) -> None:
    inputs = [torch.randn(2, 6) * scale for scale in (1, 5, 10)]
    expected = [ready.score(x)[1].score for x in inputs]

    async def request(x: Tensor, wait: float) -> Tensor:
        ready(x)
        await asyncio.sleep(wait)
        return ready.surprise().score

    async def silent() -> object:
        return ready.surprise()

    async def serve() -> list[Tensor]:
        waits = [0.03, 0.02, 0.01]
        found = await asyncio.gather(*(request(x, w) for x, w in zip(inputs, waits, strict=True)))
        with pytest.raises(NotReadyError, match="no trace"):
            await asyncio.create_task(silent())
        return found

    for found, score in zip(asyncio.run(serve()), expected, strict=True):
        torch.testing.assert_close(found, score)
    with pytest.raises(NotReadyError, match="no trace"):
        ready.surprise()  # the thread's last call was a task's
    ready(inputs[0])  # before a loop: a warm-up
    torch.testing.assert_close(ready.surprise().score, expected[0])
    with pytest.raises(NotReadyError, match="no trace"):
        asyncio.run(silent())


def test_surprise_is_that_of_the_own_thread(ready: WrappedModel) -> None:
    def score(x: Tensor) -> Tensor:
        ready(x)
        return ready.surprise().surprise

    inputs = [torch.randn(1 + i % 5, 6) for i in range(40)]
    expected = [score(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(score, inputs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


# Copies, checkpoints, nesting


def test_deep_copy_is_independent(ready: WrappedModel) -> None:
    x = torch.randn(5, 6)
    ready(x)
    twin = copy.deepcopy(ready)
    with pytest.raises(NotReadyError, match="no trace"):
        twin.surprise()  # a trace belongs to the call that made it
    twin(x)
    assert torch.equal(twin.surprise().p_value, ready.surprise().p_value)
    ready.unwrap()
    with torch.no_grad():
        twin.model[0].weight.add_(1)
    twin(x)
    assert twin.surprise().num_layers == 4
    assert not torch.equal(twin.model[0].weight, ready.model[0].weight)


def test_pickle_round_trip(ready: WrappedModel) -> None:
    x = torch.randn(5, 6)
    ready(x)
    twin = pickle.loads(pickle.dumps(ready))  # noqa: S301
    assert torch.equal(twin(x), ready(x))
    assert torch.equal(twin.surprise().percentile, ready.surprise().percentile)
    assert twin.state_dict().keys() == ready.state_dict().keys()
    twin.load_state_dict(ready.state_dict())


def test_base_keys_are_unchanged_and_base_checkpoints_load(ready: WrappedModel) -> None:
    base = mlp()
    own = [key for key in ready.state_dict() if not key.startswith("nervecode.")]
    assert own == list(base.state_dict())
    codes = copy.deepcopy(ready.coders.state_dict())
    ready.load_state_dict(base.state_dict())
    assert torch.equal(ready.model[0].weight, base[0].weight)
    assert all(torch.equal(v, codes[k]) for k, v in ready.coders.state_dict().items())
    base.load_state_dict({k: v for k, v in ready.state_dict().items() if k in own})


def test_state_dict_round_trip_within_another_module(wrapped: WrappedModel) -> None:
    outer = nn.ModuleDict({"net": wrapped, "other": nn.Linear(2, 2)})
    state = copy.deepcopy(outer.state_dict())
    assert "net.0.weight" in state
    with torch.no_grad():
        for parameter in outer.parameters():
            parameter.zero_()
    outer.load_state_dict(state)
    assert all(torch.equal(v, state[k]) for k, v in outer.state_dict().items())


def test_a_missing_key_is_still_an_error(wrapped: WrappedModel) -> None:
    state = wrapped.state_dict()
    del state["0.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*model\.0\.weight"):
        wrapped.load_state_dict(state)


class OddNames(nn.Module):
    """Parts named like the wrapper's own, one shadowing another."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"head": nn.Linear(2, 2)})
        self.head = nn.Linear(6, 3)
        self.coders = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.coders(self.head(x))


def test_names_that_the_wrapper_uses_too() -> None:
    model = OddNames()
    expected = copy.deepcopy(model.state_dict())
    wrapped = nervecode.wrap(model, "head")
    state = wrapped.state_dict()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert sum(not key.startswith("nervecode.") for key in state) == len(expected)
    wrapped.load_state_dict(state)
    wrapped.load_state_dict(expected)


def test_nested_wrap() -> None:
    x = torch.randn(5, 6)
    model = mlp()
    inner = nervecode.wrap(model, "all_linear")
    outer = nervecode.wrap(inner, "all_linear")
    assert outer.layer_names == ("model.0", "model.2", "model.4")
    output = outer(x)
    assert inner.surprise().num_layers == outer.surprise().num_layers == 3
    assert torch.equal(output, model(x))
    state = copy.deepcopy(outer.state_dict())
    assert [k for k in state if not k.startswith("nervecode.")] == list(model.state_dict())
    with torch.no_grad():
        for parameter in outer.parameters():
            parameter.zero_()
    outer.load_state_dict(state)
    assert all(torch.equal(v, state[k]) for k, v in outer.state_dict().items())
    assert outer.unwrap() is inner
    inner(x)
    assert inner.surprise().num_layers == 3


def test_coders_of_a_coding_layer_are_not_watched() -> None:
    model = nn.Sequential(CodingLinear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    assert nervecode.wrap(model, "all_linear").layer_names == ("0", "2")


def test_the_wrapper_passes_on_what_it_has_not() -> None:
    model = ZOO["lstm"].build()
    model.note = "mine"
    wrapped = nervecode.wrap(model, "head")
    assert wrapped.note == "mine"
    assert wrapped.head is model.head
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapped.no_such_thing


def test_train_and_eval_reach_the_model(wrapped: WrappedModel) -> None:
    wrapped.eval()
    assert not wrapped.model.training
    wrapped.train()
    assert wrapped.model.training


def test_two_wrappers_record_one_forward() -> None:
    model, x = mlp(), torch.randn(5, 6)
    one, two = nervecode.wrap(model, "0"), nervecode.wrap(model, ["0", "2"])
    with one.recording() as first, two.recording() as second:
        model(x)
    assert (list(first), list(second)) == (["0"], ["0", "2"])
    with one.recording(lambda coder, activation, batch: activation.mean().item()) as means:
        output = model[0](x)
    np.testing.assert_allclose(means["0"], output.mean().item())
