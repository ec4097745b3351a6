"""Codes of compiled and parallel models are those of the plain one, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError
from nervecode.layers import WrappedModel
from nervecode.layers.names import bare_names
from nervecode.layers.storage import FORMAT, read_tensors
from tests.layers.zoo import SharedLayer, mlp

pytestmark = pytest.mark.filterwarnings("ignore:calibrate")
Around = Callable[[nn.Module], nn.Module]
X = torch.linspace(-1, 1, 30).view(5, 6)


def plain(model: nn.Module) -> nn.Module:
    return model


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def parallel(model: nn.Module) -> nn.Module:
    return nn.DataParallel(model).eval()


def both(model: nn.Module) -> nn.Module:
    return compiled(parallel(model))


def checkpointed(model: nn.Module) -> nn.Module:
    """Its blocks are wrapped."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return nn.Sequential(*(checkpoint_wrapper(part) for part in blocks(model))).eval()


def blocks(model: nn.Module) -> nn.Sequential:
    """The parts of a model, each in a block of its own."""
    return nn.Sequential(*(nn.Sequential(part) for part in model)).eval()


def data(seed: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(60, 6, generator=random), torch.arange(60) % 4)]


def ready(model: nn.Module) -> WrappedModel:
    return nervecode.wrap(model, "all_linear").fit(data(0)).calibrate(data(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return mlp().eval()


def assert_same(found: WrappedModel, expected: WrappedModel) -> None:
    surprise, other = found.score(X)[1], expected.score(X)[1]
    assert surprise.valid.all()
    torch.testing.assert_close(surprise.p_value, other.p_value)
    torch.testing.assert_close(surprise.by_layer, other.by_layer)


PAIRS = [(plain, each) for each in (compiled, parallel, both)]
PAIRS += [(each, plain) for each in (compiled, parallel, both)] + [(compiled, parallel)]


@pytest.mark.slow
@pytest.mark.parametrize(("made_by", "served_by"), PAIRS)
def test_files_are_of_the_bare_model(made_by: Around, served_by: Around, tmp_path: Path) -> None:
    model, path = network(), tmp_path / "codes.safetensors"
    made = ready(made_by(model))
    made.save(path)
    header, tensors = read_tensors(path, FORMAT)
    assert list(header["coders"]) == header["layers"] == ["0", "2", "4", "4:label"]
    assert {"coders.4:label.codes.mean", "calibration.4:label"} & tensors.keys()
    again = nervecode.load(path, served_by(model))
    fresh = ready(served_by(model))
    assert again.layer_names == fresh.layer_names
    assert again.score(X)[1].layers == fresh.score(X)[1].layers
    assert_same(again, made)
    again.save(path)
    assert_same(nervecode.load(path, made_by(model)), made)


@pytest.mark.slow
@pytest.mark.parametrize("around", [compiled, parallel, both])
def test_state_dicts_bring_their_codes_to_the_bare_model(around: Around, tmp_path: Path) -> None:
    model = network()
    made = ready(around(model))
    start = "".join(f"{part}." for part in next(iter(made.state_dict())).split(".")[:-2])
    state = {key.removeprefix(start): value for key, value in made.state_dict().items()}
    bare = nervecode.wrap(network(), "all_linear")
    bare.load_state_dict(state)
    assert_same(bare, made)
    assert bare.state_dict().keys() == state.keys()
    save_file(made.state_dict(), tmp_path / "state.safetensors")
    other = nervecode.wrap(around(network()), "all_linear")
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert other.layer_names == made.layer_names
    assert_same(other, made)
    other.load_state_dict({k: v for k, v in made.state_dict().items() if "nervecode" not in k})
    assert_same(other, made)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "state"])
def test_names_of_wrappers_in_files_from_before(kind: str, tmp_path: Path) -> None:
    model, path = compiled(network()), tmp_path / "codes.safetensors"
    made = ready(model)
    if kind == "state":
        with pytest.MonkeyPatch.context() as before:
            before.setattr(nervecode.layers.state, "bare_names", lambda model: {})
            state = made.state_dict()
        assert "nervecode._orig_mod/0.codes.mean" in state
        again = nervecode.wrap(model, "all_linear")
        again.load_state_dict(state)
    else:
        with pytest.MonkeyPatch.context() as before:
            before.setattr(nervecode.layers.storage, "bare_names", lambda model: {})
            made.save(path)
        assert "_orig_mod.0" in read_tensors(path, FORMAT)[0]["coders"]
        again = nervecode.load(path, model)
    assert again.layer_names == made.layer_names
    assert_same(again, made)


def test_learned_codes_and_repeated_calls(tmp_path: Path) -> None:
    model, path = SharedLayer().eval(), tmp_path / "codes.safetensors"
    for made in (nervecode.wrap(parallel(model), "all_linear"), ready(parallel(model))):
        made.save(path)
        again = nervecode.load(path, model)
        expected = tuple(name.removeprefix("module.") for name in made.score(X)[1].layers)
        assert again.score(X)[1].layers == expected
        torch.testing.assert_close(again.score(X)[1].by_layer, made.score(X)[1].by_layer)
    assert "shared#2" in expected


def test_a_wrapper_within_counts_for_nothing(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "codes.safetensors"
    made = ready(checkpointed(model))
    assert made.layer_names[0] == "0._checkpoint_wrapped_module.0"
    made.save(path)
    again = nervecode.load(path, blocks(model))
    assert again.layer_names == ("0.0", "2.0", "4.0", "4.0:label")
    assert_same(again, made)
    assert nervecode.load(path, made.model).layer_names == made.layer_names


class Holder(nn.Module):
    """Has a part of the name that wrappers give theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.module = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def test_names_are_shortened_where_there_is_a_wrapper_alone(tmp_path: Path) -> None:
    assert not bare_names(Holder())
    assert bare_names(parallel(Holder()))["module.module.0"] == "module.0"
    path = tmp_path / "codes.safetensors"
    ready(Holder().eval()).save(path)
    assert "module.0" in read_tensors(path, FORMAT)[0]["coders"]
    with pytest.raises(InputError, match=r"made for a model with a layer 'module\.0'"):
        nervecode.load(path, network())


def test_wrappers_of_parts_leave_names_apart() -> None:
    model = nn.Sequential(compiled(nn.Sequential(nn.Linear(2, 2))), nn.Linear(2, 2))
    assert bare_names(model) == {"0._orig_mod.0": "0.0"}
    assert bare_names(compiled(model)) == {
        "_orig_mod.0": "0", "_orig_mod.0._orig_mod.0": "0.0", "_orig_mod.1": "1",
    }  # fmt: skip
