"""Weights from elsewhere: what fits is taken, what is more than weights is refused."""

from __future__ import annotations

import pickle  # noqa: TID251
import zipfile
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.samples import Samples
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.foreign import OWN, load_foreign, read_foreign
from nervecode.lab.schema import ModelConfig

LIMIT = 1 << 30


def model(name: str = "small_cnn", seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    train = Samples(torch.rand(20, 3, 32, 32), torch.arange(20) % 5)
    return build_model(ModelConfig(name=name, width=4), train, 5)


def saved(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)  # noqa: TID251
    return path


def weights(seed: int = 1) -> dict[str, Tensor]:
    """Of another model of the same form, without its normalisation."""
    state = model(seed=seed).state_dict()
    return {key: tensor for key, tensor in state.items() if key not in ("mean", "std")}


FORMS: dict[str, Callable[[dict[str, Tensor], Path], Path]] = {
    "safetensors": lambda w, p: (save_file(w, p / "x.safetensors"), p / "x.safetensors")[1],
    "state dict": lambda w, p: saved(w, p / "x.pt"),
    "with an optimiser": lambda w, p: saved({"epoch": 3, "state_dict": w}, p / "x.pth"),
    "beside a best score": lambda w, p: saved(
        {"epoch": 3, "model_state_dict": w, "best": torch.tensor(0.9)}, p / "x.pt"
    ),
    "params": lambda w, p: saved({"params": w, "step": torch.tensor(3)}, p / "x.pt"),
    "weights": lambda w, p: saved({"weights": w}, p / "x.pt"),
    "nested": lambda w, p: saved({"net": {"model": w}}, p / "x.pt"),
    "parallel": lambda w, p: saved({f"module.{k}": v for k, v in w.items()}, p / "x.pt"),
    "compiled": lambda w, p: saved({f"_orig_mod.{k}": v for k, v in w.items()}, p / "x.pt"),
    "parts compiled": lambda w, p: saved(
        {k.replace("blocks.1.", "blocks.1._orig_mod."): v for k, v in w.items()}, p / "x.pt"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_taken_in_the_usual_forms(form: str, tmp_path: Path) -> None:
    found = model()
    mean = found.mean.clone()
    load_foreign(FORMS[form](weights(), tmp_path), found)
    for key, tensor in weights().items():
        assert torch.equal(found.state_dict()[key], tensor), key
    assert torch.equal(found.mean, mean)


PREFIXES = ["".join(parts) for parts in permutations(["_orig_mod.", "module.", "model."])]


@pytest.mark.parametrize("form", ["safetensors", "state dict"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off_in_any_order(prefix: str, form: str, tmp_path: Path) -> None:
    found = model()
    load_foreign(FORMS[form]({prefix + key: t for key, t in weights().items()}, tmp_path), found)
    for key, tensor in weights().items():
        assert torch.equal(found.state_dict()[key], tensor), key


def test_two_tensors_for_one_weight_are_refused(tmp_path: Path) -> None:
    both = weights() | {f"module.{key}": tensor for key, tensor in weights(2).items()}
    with pytest.raises(InputError, match=r"has '.+' and 'module\..+', allowed: one of them"):
        load_foreign(saved(both, tmp_path / "x.pt"), model())


class Wrapped(Classifier):
    """A model whose own weights have names like those of a wrapper."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.model = torch.nn.Linear(8, 4)

    def features(self, x: Tensor) -> Tensor:
        return self.model(x)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.module."])
def test_a_model_may_itself_be_named_as_a_wrapper(prefix: str, tmp_path: Path) -> None:
    theirs, found = Wrapped(), Wrapped()
    state = {prefix + key: t for key, t in theirs.state_dict().items()}
    load_foreign(saved(state, tmp_path / "x.pt"), found)
    assert torch.equal(found.model.weight, theirs.model.weight)
    assert torch.equal(found.head.bias, theirs.head.bias)


def test_a_model_of_torchvision_takes_torchvisions_own_keys(tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = torchvision.models.get_model("resnet18", weights=None, num_classes=5).eval()
    found = model("torchvision:resnet18").eval()
    load_foreign(saved(theirs.state_dict(), tmp_path / "x.pt"), found)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found.head(found.features(x)), theirs(x))


def test_what_a_file_lacks_has_the_name_that_the_network_gives_it(tmp_path: Path) -> None:
    state = torchvision.models.get_model("resnet18", weights=None, num_classes=5).state_dict()
    headless = {f"net.{key}": tensor for key, tensor in state.items() if "fc" not in key}
    with pytest.raises(InputError, match=r"lacks 'fc\.weight' of shape \(5, 512\)"):
        load_foreign(saved(headless, tmp_path / "x.pt"), model("torchvision:resnet18"))


def without(key: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda w: {k: v for k, v in w.items() if k != key}


WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (without("blocks.1.conv.weight"),
                "lacks 'blocks.1.conv.weight' of shape (4, 4, 3, 3)"),
    "renamed": (lambda w: {k.replace("1.conv", "1.convo"): v for k, v in w.items()},
                "lacks 'blocks.1.conv.weight' of shape (4, 4, 3, 3), has 'blocks.1.convo.weight'"),
    "no head": (without("head.weight"),
                "lacks 'head.weight' of shape (5, 8); -o model.weights={0} begins a training with "
                "the rest, under a new head"),
    "shape": (lambda w: w | {"head.weight": torch.rand(7, 8)},
              "'head.weight' has shape (7, 8), allowed for this model: (5, 8); -o "
              "model.weights={0} begins a training with the rest, under a new head"),
    "more": (lambda w: w | {"fc.weight": torch.rand(1)}, "has 'fc.weight', which the model lacks"),
    "mean alone": (lambda w: w | {"mean": torch.zeros(3, 1, 1)},
                   "has 'mean' alone, allowed: mean and std together, or neither"),
    "no deviation": (lambda w: w | {"mean": torch.zeros(3, 1, 1), "std": torch.zeros(3, 1, 1)},
                     "'std' holds 0, allowed: above 0"),
    "two sets": (lambda w: {"model": w, "weights": w},
                 "holds weights under 'model' and under 'weights', allowed: one of them"),
    "nan": (lambda w: w | {"head.bias": torch.full((5,), float("nan"))},
            "'head.bias' holds NaN or infinity"),
    "whole numbers": (lambda w: w | {"head.bias": torch.ones(5, dtype=torch.int8)},
                      "'head.bias' has dtype torch.int8, allowed: floating point"),
    "nothing": (lambda w: {}, "holds no weights by name; found dict"),
    "a list": (lambda w: list(w.values()), "holds no weights by name; found list"),
    "no tensor": (lambda w: w | {"head.bias": 3.0}, "'head.bias' is no plain tensor; allowed: "
                  "tensors by name, alone or under one of state_dict, model_state_dict, "
                  "model, net, params, weights"),
    "sparse": (lambda w: w | {"head.weight": w["head.weight"].to_sparse()},
               "'head.weight' is no plain tensor"),
    "a number as a name": (lambda w: w | {3: torch.rand(1)}, "3 is no plain tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_first_difference_is_shown_and_nothing_is_taken(name: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    found = model()
    before = {key: tensor.clone() for key, tensor in found.state_dict().items()}
    path = saved(change(weights()), tmp_path / "x.pt")
    with pytest.raises(InputError) as told:
        load_foreign(path, found)
    assert str(told.value).startswith(f"{path}: ")
    assert words.format(path) in str(told.value)
    assert all(torch.equal(before[key], t) for key, t in found.state_dict().items())


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


def test_a_file_that_is_more_than_weights_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = saved({"state_dict": weights(), "args": Bomb(canary)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="holds a whole module or other objects"):
        read_foreign(path, limit=LIMIT)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # noqa: TID251
    assert canary.is_dir()


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({}))


def cut(path: Path) -> None:
    whole = saved(weights(), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def of_before_1_6(path: Path) -> None:
    saved(weights(), path, _use_new_zipfile_serialization=False)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(100 << 20))


@pytest.mark.parametrize(
    ("write", "suffix", "words"),
    [
        (bare_pickle, ".pt", "neither .safetensors nor as torch.save"),
        (cut, ".pt", "neither .safetensors nor as torch.save"),
        (
            of_before_1_6,
            ".pt",
            "is in the format of before PyTorch 1.6, whose sizes cannot be "
            "checked, allowed: .safetensors, or the format of today; if you trust the file, "
            "torch.save(torch.load(old, weights_only=True), new) writes that",
        ),
        (lambda path: path.write_bytes(b"junk"), ".safetensors", "not a readable safetensors file"),
        (lambda path: None, ".pt", "no such file"),
        (bomb, ".pt", "found 104,857,600 bytes, allowed for this model: 67"),
        (lambda path: path.write_bytes(bytes(80 << 20)), ".safetensors", "found 83,886,080 bytes"),
    ],
)
def test_bad_files_are_refused(
    write: Callable[[Path], Any], suffix: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    write(path)
    with pytest.raises(InputError) as told:
        load_foreign(path, model())
    assert words in str(told.value)


@pytest.mark.parametrize("version", ["2.5.1", "2.6.0", "2.9.1+cu130"])
def test_an_old_unpickler_is_not_used(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(weights(), tmp_path / "x.pt")
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(InputError, match=r"2\.10 or later \(CVE-2025-32434, CVE-2026-24747\)"):
        read_foreign(path, limit=LIMIT)
    save_file(weights(), tmp_path / "x.safetensors")
    assert read_foreign(tmp_path / "x.safetensors", limit=LIMIT).keys() == weights().keys()


def in_openoods_names(key: str) -> str:
    """Of a ResNet-18 with two blocks a group; conv1, bn1, layer1.0.conv1, ..., fc."""
    key = key.replace("stem.0", "conv1").replace("stem.1", "bn1").replace("head", "fc")
    key = key.replace("norm", "bn")
    for number in range(8):
        key = key.replace(f"blocks.{number}.", f"layer{number // 2 + 1}.{number % 2}.")
    return key


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_resnet_takes_the_weights_of_openoods_checkpoints(prefix: str, tmp_path: Path) -> None:
    found, other = model("resnet18"), model("resnet18", seed=3)
    theirs = {f"{prefix}{in_openoods_names(key)}": tensor
              for key, tensor in other.state_dict().items() if key not in OWN}  # fmt: skip
    assert f"{prefix}layer4.1.bn2.running_var" in theirs
    assert f"{prefix}layer2.0.shortcut.0.weight" in theirs
    load_foreign(saved(theirs, tmp_path / "best.ckpt"), found)
    x = torch.rand(4, 3, 32, 32)
    other.load_state_dict(other.state_dict() | {name: getattr(found, name) for name in OWN})
    torch.testing.assert_close(found.eval()(x), other.eval()(x))
    del theirs[f"{prefix}layer3.0.conv1.weight"]
    with pytest.raises(InputError, match=r"lacks 'layer3\.0\.conv1\.weight' of shape"):
        load_foreign(saved(theirs, tmp_path / "less.ckpt"), found)


def test_a_pickled_module_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = saved(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(InputError) as caught:
        load_foreign(path, model())
    assert str(caught.value) == (
        f"{path}: holds a whole module or other objects (torch.nn.modules.linear.Linear), allowed: "
        "weights alone, as torch.save(model.state_dict(), ...) writes them"
    )
