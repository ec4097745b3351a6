"""State dicts: fitted codes travel in them, through whatever users wrap a module into."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.optim.swa_utils import AveragedModel

import nervecode
from nervecode.errors import InputError
from nervecode.layers import FittedCoder, LearnedCoder, WrappedModel
from nervecode.layers.guard.architecture import Architecture
from tests.layers.zoo import mlp

pytestmark = pytest.mark.filterwarnings("ignore:calibrate")


def data(seed: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(150, 6, generator=random), torch.arange(150) % 4)]


def fresh() -> WrappedModel:
    return nervecode.wrap(mlp().eval(), "all_linear")


@pytest.fixture(scope="module")
def ready() -> WrappedModel:
    torch.manual_seed(0)
    return fresh().fit(data(0)).calibrate(data(1))


def assert_same(found: WrappedModel, expected: WrappedModel) -> None:
    x = torch.randn(5, 6)
    (output, surprise), (output_, surprise_) = found.score(x), expected.score(x)
    assert torch.equal(output, output_)
    assert torch.equal(surprise.p_value, surprise_.p_value)
    assert torch.equal(surprise.by_layer, surprise_.by_layer)
    assert surprise.valid.all()


def test_fitted_codes_travel_into_a_fresh_wrapper(ready: WrappedModel, tmp_path: Path) -> None:
    save_file(ready.state_dict(), tmp_path / "state.safetensors")  # tensors alone
    other = fresh()
    keys = other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert not keys.missing_keys and not keys.unexpected_keys
    assert isinstance(other.coder("0"), FittedCoder)
    assert other.fit_inputs is not None
    assert_same(other, ready)
    assert other.state_dict().keys() == ready.state_dict().keys()


class Task(nn.Module):
    """As Lightning has it: the wrapper is one of a module's parts."""

    def __init__(self, wrapped: WrappedModel) -> None:
        super().__init__()
        self.net, self.scale = wrapped, nn.Parameter(torch.ones(1))


def test_fitted_codes_travel_within_other_modules(ready: WrappedModel) -> None:
    outer, other = nn.ModuleDict({"task": Task(ready)}), nn.ModuleDict({"task": Task(fresh())})
    other.load_state_dict(copy.deepcopy(outer.state_dict()))
    assert_same(other["task"].net, ready)


def test_learned_codes_travel_into_a_fitted_wrapper(ready: WrappedModel) -> None:
    fitted, learned = copy.deepcopy(ready), fresh()
    fitted.load_state_dict(learned.state_dict())
    assert isinstance(fitted.coder("0"), LearnedCoder)
    assert fitted.calibration is None
    x = torch.randn(5, 6)
    assert torch.equal(fitted.score(x)[1].score, learned.score(x)[1].score)


def test_coders_of_the_same_kind_stay_the_same_objects(ready: WrappedModel) -> None:
    learned = fresh()
    parameters = list(learned.coders.parameters())
    learned.load_state_dict(fresh().state_dict())
    assert all(a is b for a, b in zip(parameters, learned.coders.parameters(), strict=True))


def test_the_bare_model_and_the_wrapper_read_each_other(ready: WrappedModel) -> None:
    bare, other = mlp(), copy.deepcopy(ready)
    other.load_state_dict(ready.model.state_dict())
    assert_same(other, ready)
    own = {k: v for k, v in ready.state_dict().items() if not k.startswith("nervecode.")}
    bare.load_state_dict(own)
    with pytest.raises(RuntimeError, match=r"Missing key.*model\.2\.bias"):
        ready.load_state_dict({k: v for k, v in own.items() if k != "2.bias"})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*model\.more"):
        fresh().load_state_dict({**ready.state_dict(), "more": torch.ones(1)})


class Versioned(nn.Linear):
    """Refuses a state without its version, as modules do whose layout has changed."""

    _version = 3

    def _load_from_state_dict(self, state, prefix, metadata, *rest) -> None:
        assert metadata.get("version") == 3, (prefix, metadata)
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_versions_of_modules_travel_too() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(Versioned(6, 8), nn.ReLU(), Versioned(8, 4))

    bare, wrapped = make(), nervecode.wrap(make(), "all_linear")
    wrapped.load_state_dict(bare.state_dict())
    wrapped.load_state_dict(wrapped.state_dict())
    state = wrapped.state_dict()
    for key in [key for key in state if key.startswith("nervecode.")]:
        del state[key]
    bare.load_state_dict(state)
    outer, other = Task(wrapped), Task(nervecode.wrap(make(), "all_linear"))
    other.load_state_dict(outer.state_dict())


def test_averaged_model(ready: WrappedModel) -> None:
    averaged = AveragedModel(ready)
    averaged.update_parameters(ready)
    assert_same(averaged.module, ready)
    other = AveragedModel(fresh())
    other.load_state_dict(averaged.state_dict())
    assert_same(other.module, ready)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64])
def test_a_converted_description_is_refused_by_name(ready: WrappedModel, kind: torch.dtype) -> None:
    state = {key: value.to(kind) for key, value in ready.state_dict().items()}
    with pytest.raises(InputError, match=rf"'nervecode\.#header': found {kind}, allowed: the byte"):
        fresh().load_state_dict(state)
    averaged = ready.state_dict() | {"nervecode.#header": torch.arange(9, dtype=torch.uint8)}
    with pytest.raises(
        InputError, match=r"'nervecode\.#header': found no JSON, allowed: the bytes"
    ):
        fresh().load_state_dict(averaged)


def test_rounded_codes_are_told(ready: WrappedModel) -> None:
    state = ready.state_dict()
    state |= {k: v.half() for k, v in state.items() if k.startswith("nervecode.0.")}
    with pytest.warns(
        UserWarning, match=r"'nervecode\.0\..*of lower precision than they were fitt"
    ):
        fresh().load_state_dict(state)


def test_hashes_of_a_former_kind_are_not_compared(ready: WrappedModel) -> None:
    state = ready.state_dict()
    state["nervecode.#fit_inputs"] = state.pop("nervecode.#fit_hashes")
    other = fresh()
    other.load_state_dict(state)
    assert other.fit_inputs is None
    with pytest.warns(UserWarning, match="do not tell which inputs fitted them"):
        other.calibrate(data(2))


def test_averages_of_learned_codes() -> None:
    wrapped = fresh()
    averaged = AveragedModel(wrapped)
    averaged.update_parameters(wrapped)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            parameter.add_(1)
    averaged.update_parameters(wrapped)
    before = averaged.module.coder("0").codebook.centres
    torch.testing.assert_close(before, wrapped.coder("0").codebook.centres - 0.5)


def test_functional_call_and_gradients_of_functions(ready: WrappedModel) -> None:
    wrapped, x = copy.deepcopy(ready), torch.randn(5, 6)
    parameters = dict(wrapped.named_parameters())
    expected = torch.autograd.grad(wrapped(x).square().sum(), list(parameters.values()))

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(wrapped, parameters, (x,)).square().sum()

    for found, wanted in zip(grad(loss)(parameters).values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    doubled = {name: 2 * p.detach() for name, p in parameters.items()}
    with torch.no_grad():
        functional_call(wrapped, doubled, (x,))
        with pytest.warns(UserWarning, match="other weights than its codes were made for"):
            assert not wrapped.surprise().valid.any()
    assert_same(wrapped, ready)


def test_gradients_of_the_coding_loss_as_a_function() -> None:
    wrapped, x = fresh(), torch.randn(5, 6)
    wrapped(x)
    parameters = dict(wrapped.named_parameters())
    expected = torch.autograd.grad(
        wrapped.coding_loss(), list(parameters.values()), allow_unused=True
    )

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        functional_call(wrapped, parameters, (x,))
        return wrapped.coding_loss()

    for found, wanted in zip(grad(loss)(parameters).values(), expected, strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if wanted is None else wanted)


@pytest.fixture
def one_process(tmp_path: Path):
    if not torch.distributed.is_available():
        pytest.skip("no torch.distributed")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(ready: WrappedModel, one_process: None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    wrapped, x = copy.deepcopy(ready), torch.randn(5, 6)
    outside = DistributedDataParallel(wrapped)
    assert torch.equal(outside(x), ready.model(x))
    outside(x).sum().backward()
    other = DistributedDataParallel(fresh())
    other.load_state_dict(outside.state_dict())
    assert_same(other.module, ready)

    within = nervecode.wrap(DistributedDataParallel(mlp().eval()), "all_linear")
    within.fit(data(0)).calibrate(data(1))
    assert within.layer_names == tuple(f"module.{name}" for name in ready.layer_names)
    assert within.score(x)[1].valid.all()


def test_fully_sharded(ready: WrappedModel, one_process: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = mlp().eval()
    expected, x = model(torch.ones(5, 6)), torch.ones(5, 6)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    assert not list(Architecture.of(mlp()).mismatches(model))
    wrapped = nervecode.wrap(model, "all_linear").fit(data(0)).calibrate(data(1))
    output, found = wrapped.score(x)
    torch.testing.assert_close(output, expected)
    assert found.valid.all()


# Coders of layers that state no width


def unstated() -> WrappedModel:
    return nervecode.wrap(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)))


def test_a_coder_of_unstated_width_is_like_any_other() -> None:
    ran = unstated()
    ran(torch.randn(4, 6))
    assert sum(p.numel() for p in unstated().parameters()) == sum(
        p.numel() for p in ran.parameters()
    )
    averaged = AveragedModel(unstated())
    averaged.update_parameters(ran)
    fresh = unstated()
    fresh.apply(lambda m: nn.init.ones_(m.weight) if isinstance(m, nn.Linear) else None)
    assert (fresh.coder("1").projection.weight == 1).all()
    fresh(torch.randn(4, 6))
    assert (fresh.coder("1").projection.weight == 1).all()  # not drawn anew
    ran.load_state_dict(fresh.state_dict())
    assert (ran.coder("1").projection.weight == 1).all()


def test_a_wrong_guess_is_mended_at_the_first_forward() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (4, 2)), nn.Flatten(), nn.ReLU())
    wrapped = nervecode.wrap(nn.Sequential(model[0], nn.GLU(), nn.ReLU()), "2")
    weight = wrapped.coder("2").projection.weight
    assert weight.shape == (8, 8)
    state = torch.get_rng_state()
    wrapped(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert wrapped.coder("2").projection.weight is weight  # as an optimiser holds it
    assert weight.shape == (8, 4)
    assert wrapped.surprise().num_layers == 1


def test_initial_weights_of_unstated_width_are_drawn_at_the_first_forward() -> None:
    wrapped = unstated()
    torch.manual_seed(5)
    wrapped(torch.ones(4, 6))
    torch.manual_seed(5)
    expected = nn.Linear(16, 8, bias=False).weight
    assert torch.equal(wrapped.coder("1").projection.weight, expected)


@pytest.mark.parametrize("strict", [True, False])
def test_codes_that_are_not_whole_are_refused(ready: WrappedModel, strict: bool) -> None:
    """A tensor that is not there would be zeros, under a calibration that knows of none."""
    key = next(key for key in ready.state_dict() if key.endswith("codes.shift"))
    state = {name: value for name, value in ready.state_dict().items() if name != key}
    other = fresh()
    other.load_state_dict(ready.state_dict())
    for one in (other, fresh()):
        before = one.calibration
        with pytest.raises(InputError, match=rf"state dict: '{key}' is missing, of the codes th"):
            one.load_state_dict(state, strict=strict)
        assert one.calibration is before
    assert_same(other, ready)  # all stays as it was


@pytest.mark.parametrize("found", ["none", r"\(0,\)"])
def test_a_calibration_that_is_not_whole_is_refused(ready: WrappedModel, found: str) -> None:
    state = ready.state_dict()
    key = next(key for key in state if key.startswith("nervecode.#calibration."))
    del state[key]
    if found != "none":
        state[key] = torch.zeros(0)
    with pytest.raises(InputError, match=rf"'{key}': found {found}, allowed: the \(n, 2\) readin"):
        fresh().load_state_dict(state, strict=False)


def test_coders_that_are_none_leave_all_as_it_is(ready: WrappedModel) -> None:
    with pytest.raises(AttributeError):
        ready.replace_coders(None)  # type: ignore[arg-type]
    assert ready.calibration is not None
