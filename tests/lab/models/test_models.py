"""Models: shapes, normalisation, and features that are the head's input."""

from __future__ import annotations

import re
import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nervecode.errors import InputError, MissingExtraError
from nervecode.lab.config.names import unknown_names
from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.device import choose_device
from nervecode.lab.models.build import build_model
from nervecode.lab.models.registry import MODELS
from nervecode.lab.models.resnet import WideBlock
from nervecode.lab.schema import ModelConfig
from nervecode.lab.trainer.augment import PADDING, Augmentation, check_augment
from nervecode.layers import select_layers

IMAGES = [(1, 8, 8), (3, 16, 12)]
SHAPES = {"conv1d": [(3, 20), (1, 5)], "embedding": [(13,), (2,)]}
CASES = [(name, shape) for name in sorted(MODELS) for shape in SHAPES.get(name, IMAGES)]


def samples(shape: tuple[int, ...], count: int = 32) -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.rand(count, *shape, generator=generator), torch.arange(count) % 4)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_registered_model_gives_logits_by_its_head(name: str, shape: tuple[int, ...]) -> None:
    train = samples(shape)
    model = build_model(ModelConfig(name=name, width=4), train, 5).eval()
    seen: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    logits = model(train.inputs)
    assert logits.shape == (32, 5)
    (features,) = seen
    assert features.shape == (32, model.head.in_features)
    normalised = (train.inputs - model.mean) / model.std
    assert torch.equal(model.features(normalised), features)
    expected = features.double() @ model.head.weight.double().T + model.head.bias.double()
    torch.testing.assert_close(logits.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_normalisation_is_by_the_statistics_of_training_data(
    name: str, shape: tuple[int, ...]
) -> None:
    train = samples(shape)
    model = build_model(ModelConfig(name=name, width=4), train, 5)
    x = ((train.inputs - model.mean) / model.std).double()
    channels = x.flatten(2).transpose(0, 1).flatten(1) if x.ndim > 2 else x.T
    assert torch.allclose(channels.mean(1), torch.zeros(shape[0]).double(), atol=1e-5)
    assert torch.allclose(channels.std(1), torch.ones(shape[0]).double(), atol=1e-4)
    assert {"mean", "std"} <= set(model.state_dict())


def test_features_are_normalised_one_by_one_and_a_dead_one_stays_finite() -> None:
    inputs = torch.rand(50, 3) * torch.tensor([1.0, 10.0, 0.0])
    model = build_model(ModelConfig(name="mlp", width=4), Samples(inputs, torch.arange(50) % 2), 2)
    x = (inputs - model.mean) / model.std
    assert torch.allclose(x[:, :2].std(0), torch.ones(2), atol=1e-4)
    assert torch.equal(x[:, 2], torch.zeros(50))
    assert model(inputs).isfinite().all()


@pytest.mark.parametrize("value", [0.1, 1.7e12, -3.0])
def test_a_feature_that_never_varied_has_deviation_1(value: float) -> None:
    inputs = torch.cat([torch.rand(900, 1), torch.full((900, 1), value)], 1)
    config = ModelConfig(name="mlp", width=4)
    model = build_model(config, Samples(inputs, torch.arange(900) % 2), 2)
    assert float(model.std[1]) == 1
    assert float(model.mean[1]) == float(inputs[0, 1])
    assert float(model.std[0]) == float(inputs.std(0)[0])


def test_the_perceptron_has_as_many_layers_as_asked_for() -> None:
    for depth, layers in ((None, 2), (1, 1), (4, 4)):
        config = ModelConfig(name="mlp", width=6, depth=depth)
        model = build_model(config, samples((1, 8, 8)), 3)
        linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
        assert len(linear) == layers + 1


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [
        # The sizes of the usual CIFAR-10 networks with a 3x3 stem.
        ("resnet18", 64, 11_173_962),
        ("resnet34", 64, 21_282_122),
        ("resnet50", 64, 23_520_842),
        ("wide_resnet28_10", 16, 36_479_194),
    ],
)
def test_residual_networks_have_the_published_sizes(name: str, width: int, parameters: int) -> None:
    with torch.device("meta"):
        config = ModelConfig(name=name, width=width)
        model = MODELS[name](config, (3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == parameters


def twin_of_torchvision(name: str) -> tuple[nn.Module, nn.Module]:
    """Our residual network, and torchvision's with the same weights and our stem."""
    config = ModelConfig(name=name, width=64)
    torch.manual_seed(0)
    mine = build_model(config, samples((3, 32, 32), 4), 10)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    state = [v for k, v in mine.state_dict().items() if k.startswith(("stem.", "blocks."))]
    state += [mine.head.weight, mine.head.bias]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state, strict=True)))
    return mine, theirs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_residual_networks_are_those_of_torchvision(name: str) -> None:
    mine, theirs = twin_of_torchvision(name)
    x = torch.rand(2, 3, 32, 32)
    for mode in (True, False):
        found = mine.train(mode).head(mine.features(x))
        torch.testing.assert_close(found, theirs.train(mode)(x), atol=1e-4, rtol=1e-3)


def test_a_wide_block_adds_its_input_or_a_projection_of_it() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 4, 6, 6)
    for block in (WideBlock(4, 4, 1).eval(), WideBlock(4, 6, 2).eval()):
        nn.init.zeros_(block.conv2.weight)
        first = torch.relu(x / (1 + 1e-5) ** 0.5)
        expected = x if block.projection is None else block.projection(first)
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("name", "width", "depth", "words"),
    [
        ("resnet18", 4096, None, r"model\.width: found 4096, which makes 45,702,189,066 param"),
        ("small_cnn", 4096, None, r"allowed: 1,000,000,000"),
        ("mlp", 4096, 1000, r"found 4096 and model\.depth 1000"),
    ],
)
def test_a_model_that_would_fill_the_memory_is_refused_before_it_does(
    name: str, width: int, depth: int | None, words: str
) -> None:
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=words):
        build_model(ModelConfig(name=name, width=width, depth=depth), samples((3, 32, 32)), 10)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_wide_network_has_the_depth_asked_for() -> None:
    def built(depth: int | None) -> nn.Module:
        config = ModelConfig(name="wide_resnet28_10", width=1, depth=depth)
        return build_model(config, samples((3, 8, 8), 4), 3)

    for depth in (None, 10, 16):
        convolutions = [m for m in built(depth).modules() if isinstance(m, nn.Conv2d)]
        threes = [m for m in convolutions if m.kernel_size == (3, 3)]
        assert len(threes) + 3 == (depth or 28)  # the projections count as layers
        assert len(select_layers(built(depth), "all_blocks")) == ((depth or 28) - 4) // 2
    with pytest.raises(InputError, match=r"model\.depth: found 12, allowed: 10, 16, 22, 28"):
        built(12)


# Other people's models


LIGHT = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_x_400mf"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_a_model_of_torchvision_keeps_what_it_computes(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=f"torchvision:{name}"), samples((3, 32, 32)), 5).eval()
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs((x - model.mean) / model.std))
    assert len(select_layers(model, "all_blocks")) > 3
    assert model.features(x).shape == (3, model.head.in_features)


def test_grey_images_are_repeated() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name="torchvision:resnet18"), samples((1, 32, 32)), 5).eval()
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(model.features(x), model.features(x.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("alexnet", (3, 32, 32), "takes no images of 32 x 32"),
        ("vit_b_32", (3, 33, 33), "takes no images of 33 x 33"),
        ("squeezenet1_1", (3, 32, 32), "does not end in a linear layer"),
        ("resnet18", (2, 32, 32), "takes 1 or 3 channels, found 2"),
        ("resnet18", (7,), "takes images"),
    ],
)
def test_what_a_borrowed_model_cannot_do_is_told(
    name: str, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputError, match=r"model\.name: 'torchvision:") as told:
        build_model(ModelConfig(name=f"torchvision:{name}"), samples(shape, 4), 3)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet19", "unknown model 'resnet19'; did you mean 'resnet18'? Allowed: conv1d"),
        ("torchvison:resnet18", "unknown model 'torchvison:resnet18'; "),
        ("torchvision", "unknown model 'torchvision'; did you mean 'torchvision:NAME'?"),
        ("torchvision:resnet19",
         "unknown torchvision model 'resnet19'; did you mean 'resnet18' or "),
        ("torchvision:", "unknown torchvision model ''; Allowed: what `torchvision.models.list_mo"),
    ],
)  # fmt: skip
def test_unknown_names_show_near_ones(name: str, words: str) -> None:
    ((key, text),) = unknown_names({"model": {"name": name}})
    assert key == "model.name"
    assert words in text


def test_timm_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"needs timm, .* pip install -e '\.\[timm\]'"):
        unknown_names({"model": {"name": "timm:resnet10t"}})


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_a_model_of_timm_keeps_what_it_computes(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=f"timm:{name}"), samples((3, 32, 32)), 5).eval()
    torch.manual_seed(0)
    sizes = {"img_size": (32, 32)} if name.startswith("vit") else {}
    theirs = timm.create_model(name, pretrained=False, num_classes=5, **sizes).eval()
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs((x - model.mean) / model.std))
    with pytest.raises(InputError, match="does not end in a linear layer"):
        build_model(ModelConfig(name="timm:levit_128s"), samples((3, 224, 224), 2), 5)


def test_the_transformer_is_that_of_pytorch() -> None:
    from nervecode.lab.models.vit import EncoderBlock

    torch.manual_seed(0)
    block = EncoderBlock(12).eval()
    oracle = nn.TransformerEncoderLayer(
        12, 4, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {"self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out.",
             "linear1.": "mlp.0.", "linear2.": "mlp.2."}  # fmt: skip
    state = block.state_dict()
    for theirs in oracle.state_dict():
        mine = theirs
        for old, new in names.items():
            mine = mine.replace(old, new)
        oracle.state_dict()[theirs].copy_(state.pop(mine))
    assert not state
    x = torch.randn(3, 7, 12)
    torch.testing.assert_close(block(x), oracle(x))


def test_the_transformer_sees_every_pixel_of_an_odd_image() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name="vit", width=8, depth=1), samples((1, 29, 30)), 3)
    x = torch.rand(1, 1, 29, 30, requires_grad=True)
    model(x)[0, 0].backward()
    assert x.grad is not None
    assert bool((x.grad != 0).all())


def test_the_transformer_is_watched_block_by_block() -> None:
    model = build_model(ModelConfig(name="vit", width=8, depth=3), samples((1, 8, 8)), 3)
    assert list(select_layers(model, "all_blocks")) == ["blocks.0", "blocks.1", "blocks.2"]


# Augmentation


def augmented(x: Tensor, how: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return Augmentation.draw(how, len(x), generator=generator, device=x.device)(x)


def test_none_passes_unchanged() -> None:
    for inputs in (torch.rand(3, 1, 5, 5), torch.rand(3, 7)):
        check_augment("none", inputs)
        assert augmented(inputs, "none") is inputs


@pytest.mark.parametrize("shape", [(3, 7), (3, 2, 7)])
def test_what_is_no_image_is_not_augmented(shape: tuple[int, ...]) -> None:
    told = rf"train.augment: found 'crop', allowed: none, since .* {re.escape(str(shape[1:]))}"
    with pytest.raises(InputError, match=told):
        check_augment("crop", torch.rand(shape))
    check_augment("crop", torch.rand(3, 1, 5, 5))


@pytest.mark.parametrize("how", ["crop", "crop_flip"])
def test_a_crop_is_a_window_of_the_padded_image(how: str) -> None:
    x = torch.rand(20, 2, 6, 5) + 1
    found = augmented(x, how)
    padded = nn.functional.pad(x, [PADDING] * 4)
    mirrored = 0
    for before, after in zip(padded, found, strict=True):
        windows = before.unfold(1, 6, 1).unfold(2, 5, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        straight = any(torch.equal(window, after) for window in windows)
        turned = any(torch.equal(window, after.flip(-1)) for window in windows)
        assert straight or turned
        mirrored += turned and not straight
    assert (mirrored > 3) == (how == "crop_flip")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crops_and_mirrors_are_as_often_as_they_should_be(dtype: torch.dtype) -> None:
    x = torch.arange(36).view(1, 1, 6, 6).expand(4000, -1, -1, -1).to(dtype)
    drawn = Augmentation.draw(
        "crop_flip", 4000, generator=torch.Generator().manual_seed(0), device=x.device
    )
    assert drawn.offsets is not None
    assert drawn.mirrored is not None
    assert abs(float(drawn.mirrored.float().mean()) - 0.5) < 0.03
    counts = torch.bincount(drawn.offsets[0] * 9 + drawn.offsets[1], minlength=81)
    chi_square = float(((counts - 4000 / 81) ** 2 / (4000 / 81)).sum())
    assert chi_square < 125  # 80 degrees of freedom: 99.9 % lie below 124.8
    assert drawn(x).dtype is dtype


def test_a_part_of_an_augmentation_is_that_of_the_part() -> None:
    x = torch.rand(9, 2, 6, 7)
    drawn = Augmentation.draw(
        "crop_flip", 9, generator=torch.Generator().manual_seed(3), device=x.device
    )
    parts = [drawn[part](x[part]) for part in (slice(0, 4), slice(4, 8), slice(8, 12))]
    assert torch.equal(torch.cat(parts), drawn(x))
    torch.manual_seed(99)
    assert torch.equal(augmented(x, "crop_flip", 3), drawn(x))


# Devices


def test_cpu_is_always_there_and_others_are_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match=r"device: unknown 'cdua'; did you mean 'cuda'\?"):
        choose_device("cdua")


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="PyTorch sees no GPU; allowed here: auto, cpu"):
        choose_device("cuda")
