"""Baselines on cached features against pytorch-ood, called with a model and a loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as library
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.data.samples import EVAL_BATCH, Samples
from nervecode.lab.data.splits import build_splits
from nervecode.lab.detectors.registry import DETECTORS, Score
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features, extract
from nervecode.lab.schema import DataConfig, ModelConfig

CLASSES = 8


class Encoder(nn.Module):
    """A classifier without its head."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.features((x - self.model.mean) / self.model.std)


class FirstBlock(nn.Module):
    """The first block of a small CNN, on raw inputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model.blocks[0]((x - self.model.mean) / self.model.std)
        return out


def digits() -> Samples:
    return build_splits(DataConfig(id="digits", hold_out=(8, 9))).train


def trained(name: str, width: int, steps: int = 8) -> Classifier:
    """A network after a few epochs, so that its features are not those of noise."""
    torch.manual_seed(0)
    train = digits()
    found = build_model(ModelConfig(name=name, width=width), train, CLASSES)
    optimiser = torch.optim.Adam(found.parameters(), 0.01)
    for x, y in [batch for _ in range(steps) for batch in train.batches(128)]:
        optimiser.zero_grad()
        nn.functional.cross_entropy(found(x), y).backward()
        optimiser.step()
    return found.eval()


@pytest.fixture(scope="module")
def model() -> Classifier:
    return trained("small_cnn", 8)


@pytest.fixture(scope="module")
def train() -> Samples:
    return digits()


@pytest.fixture(scope="module")
def test_inputs() -> Tensor:
    digits = build_splits(DataConfig(id="digits", hold_out=(8, 9))).test.inputs[:40]
    return torch.cat([digits, torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))])


def cached(model: Classifier, samples: Samples) -> Features:
    return extract(model, samples, title="x", progress=Progress())


@pytest.fixture(scope="module")
def seen_train(model: Classifier, train: Samples) -> Features:
    return cached(model, train)


@pytest.fixture(scope="module")
def seen_test(model: Classifier, test_inputs: Tensor) -> Features:
    return cached(model, Samples.unlabelled(test_inputs))


@pytest.fixture(scope="module")
def scorers(model: Classifier, seen_train: Features) -> dict[str, Score]:
    """Every baseline, fitted once."""
    return {name: one(seen_train, model) for name, one in DETECTORS.items()}


def select(seen: Features, index: Tensor) -> Features:
    return Features(
        seen.logits[index],
        seen.features[index],
        tuple(block[index] for block in seen.blocks),
        seen.labels[index],
        seen.inputs[index],
    )


# Against pytorch-ood, called with a model


LOGITS: dict[str, Callable[[nn.Module], Any]] = {
    "msp": library.MaxSoftmax,
    "maxlogit": library.MaxLogit,
    "energy": library.EnergyBased,
    "entropy": library.Entropy,
    "gen": library.GEN,
}
FEATURES: dict[str, Callable[[nn.Module, nn.Linear], Any]] = {
    "mahalanobis": lambda encoder, head: library.Mahalanobis(encoder),
    "rmd": lambda encoder, head: library.RMD(encoder),
    "knn": lambda encoder, head: library.KNN(encoder, k=1, normalize=True),
    "gmm": lambda encoder, head: library.GMM(encoder),
    "vim": lambda encoder, head: library.ViM(
        encoder, d=head.in_features // 2, w=head.weight.detach(), b=head.bias.detach()
    ),
    "she": lambda encoder, head: library.SHE(encoder, head),
    "react": lambda encoder, head: library.ReAct(encoder, head, percentile=0.9),
    "ash": lambda encoder, head: library.ASH(
        nn.Sequential(encoder, nn.Unflatten(1, (-1, 1, 1))),
        nn.Sequential(nn.Flatten(), head),
        variant="ash-s",
        percentile=0.65,
    ),
    "scale": lambda encoder, head: library.SCALE(
        nn.Sequential(encoder, nn.Unflatten(1, (-1, 1, 1))),
        nn.Sequential(nn.Flatten(), head),
        percentile=0.65,
    ),
    "nci": lambda encoder, head: library.NCI(encoder, head, alpha=1e-4),
    "fdbd": lambda encoder, head: library.fDBD(encoder, head),
    "nnguide": lambda encoder, head: library.NNGuide(encoder, head, k=10),
}
NETWORK: dict[str, Callable[[Any], Any]] = {
    "multi_mahalanobis": lambda model: library.MultiMahalanobis(
        [FirstBlock(model), *model.blocks[1:]]
    ),
    "odin": lambda model: library.ODIN(model, eps=0.0014, temperature=1000),
    "gram": lambda model: library.Gram(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head),
        [FirstBlock(model), *model.blocks[1:]],
        CLASSES,
        range(1, 11),
    ),
}
DIRECT: dict[str, Callable[[Classifier], Any]] = {
    **{name: lambda model, make=make: make(model) for name, make in LOGITS.items()},
    **{
        name: lambda model, make=make: make(Encoder(model), model.head)
        for name, make in FEATURES.items()
    },
    **NETWORK,
}


def test_every_registered_baseline_is_compared_here() -> None:
    elsewhere = {"residual", "mahalanobis++", "multi_mahalanobis++", "rmd++", "gmm++"}
    elsewhere |= {"pnml", "nac", "weiper_kld", "adascale"}
    assert set(DETECTORS) == {*DIRECT, *elsewhere}


@pytest.mark.parametrize("name", DIRECT)
def test_a_detector_is_that_of_pytorch_ood(
    name: str,
    model: Classifier,
    train: Samples,
    test_inputs: Tensor,
    seen_test: Features,
    scorers: dict[str, Score],
) -> None:
    direct = DIRECT[name](model)
    loader = DataLoader(TensorDataset(train.inputs, train.labels), batch_size=EVAL_BATCH)
    batches = list(loader)  # now, since a loader draws random numbers, as Gram does later
    torch.manual_seed(0)
    with torch.no_grad():
        direct.fit(batches)
        expected = torch.as_tensor(direct.predict(test_inputs)).detach()
    found = torch.as_tensor(scorers[name](seen_test)).detach()
    assert found.shape == (80,)
    scale = expected.abs().median().item()
    torch.testing.assert_close(
        found.double(), expected.double(), atol=1e-4 * scale + 1e-5, rtol=1e-3
    )


def test_the_residual_is_what_vim_adds_to_the_energy(
    model: Classifier, seen_train: Features, seen_test: Features, scorers: dict[str, Score]
) -> None:
    residual = scorers["residual"](seen_test)
    virtual = scorers["vim"](seen_test) + torch.logsumexp(seen_test.logits, 1)
    ratio = virtual / residual
    torch.testing.assert_close(ratio, ratio.mean().expand(80), rtol=1e-3, atol=0)
    # Its authors' factor: the mean largest logit of ID train over the mean residual.
    factor = seen_train.logits.amax(1).mean() / scorers["residual"](seen_train).mean()
    torch.testing.assert_close(ratio.mean(), factor, rtol=1e-3, atol=0)


def _squared(x: np.ndarray, to: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """(N, K) squared Mahalanobis distances, in the directions that have variance."""
    inverse = np.linalg.pinv(scatter, rcond=1e-9, hermitian=True)
    from_each = x[:, None] - to[None]
    found: np.ndarray = np.einsum("nkd,de,nke->nk", from_each, inverse, from_each)
    return found


@pytest.mark.parametrize("name", ["mahalanobis", "rmd", "multi_mahalanobis"])
def test_directions_without_variance_do_not_disturb_distances(
    name: str, model: Classifier, seen_train: Features, seen_test: Features
) -> None:
    def flat(seen: Features) -> Features:
        z = seen.features * 100 + 30
        z = torch.cat([z, z[:, :3] - z[:, 3:6]], 1)  # sums of others, but for rounding
        return replace(seen, features=z, blocks=(z,))

    x, z = flat(seen_train).features.double().numpy(), flat(seen_test).features.double().numpy()
    y = seen_train.labels.numpy()
    means = np.stack([x[y == k].mean(0) for k in range(CLASSES)])
    inside, around = x - means[y], x - x.mean(0)
    expected = _squared(z, means, inside.T @ inside).min(1)
    if name == "rmd":
        expected = expected - _squared(z, x.mean(0)[None], around.T @ around)[:, 0]
    else:
        expected = expected / 2
    found = DETECTORS[name](flat(seen_train), model)(flat(seen_test))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nnguide", "Need at least k=10 ID samples"),
        ("she", "No correct predictions for class"),
    ],
)
def test_a_detector_that_cannot_be_fitted_says_why(
    name: str, reason: str, model: Classifier, seen_train: Features
) -> None:
    few = select(seen_train, torch.arange(9))
    wrong = replace(few, labels=(few.predictions + 1).unique(return_inverse=True)[1])
    with pytest.raises(ValueError, match=reason):
        DETECTORS[name](wrong, model)


# What holds for all


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_higher_score_means_more_ood(
    name: str, seen_test: Features, scorers: dict[str, Score]
) -> None:
    found = torch.as_tensor(scorers[name](seen_test)).detach()
    assert found[40:].mean() > found[:40].mean()


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_score_depends_neither_on_order_nor_on_company(
    name: str, seen_test: Features, scorers: dict[str, Score]
) -> None:
    score = scorers[name]
    whole = torch.as_tensor(score(seen_test))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    tolerance = {"rtol": 1e-3, "atol": 1e-4 * whole.abs().median().item()}
    torch.testing.assert_close(
        torch.as_tensor(score(select(seen_test, order))), whole[order], **tolerance
    )
    torch.testing.assert_close(
        torch.as_tensor(score(select(seen_test, torch.tensor([3])))), whole[3:4], **tolerance
    )


@pytest.mark.parametrize("name", sorted(set(DETECTORS) - {"gram"}))  # it draws what it holds out
def test_the_order_of_id_train_makes_no_difference(
    name: str,
    model: Classifier,
    seen_train: Features,
    seen_test: Features,
    scorers: dict[str, Score],
) -> None:
    order = torch.randperm(len(seen_train.labels), generator=torch.Generator().manual_seed(1))
    score = DETECTORS[name](select(seen_train, order), model)
    expected = torch.as_tensor(scorers[name](seen_test))
    tolerance = {"rtol": 1e-2, "atol": 1e-3 * expected.abs().median().item()}
    torch.testing.assert_close(torch.as_tensor(score(seen_test)), expected, **tolerance)


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_fitting_twice_gives_the_same_scores_and_leaves_no_trace(
    name: str,
    model: Classifier,
    seen_train: Features,
    seen_test: Features,
    scorers: dict[str, Score],
) -> None:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    found = torch.as_tensor(DETECTORS[name](seen_train, model)(seen_test))
    assert torch.equal(found, torch.as_tensor(scorers[name](seen_test)))
    assert not found.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["vit", "mlp"])
def test_every_detector_takes_tokens_and_vectors(name: str, test_inputs: Tensor) -> None:
    model = trained(name, 16, steps=12)
    seen, test = cached(model, digits()), cached(model, Samples.unlabelled(test_inputs))
    for one in DETECTORS.values():
        found = torch.as_tensor(one(seen, model)(test))
        assert found.shape == (80,)
        assert found.isfinite().all()


def test_a_detector_says_what_it_is() -> None:
    for one in DETECTORS.values():
        assert one.summary.endswith(".")
        assert len(one.summary) < 100
        assert one.paper.startswith("https://")
    slow = {name for name, one in DETECTORS.items() if one.slow}
    assert slow == {"odin", "gram", "adascale"}


def test_only_slow_detectors_run_the_network(
    seen_train: Features, seen_test: Features, model: Classifier
) -> None:
    calls: list[int] = []
    handle = model.blocks[0].register_forward_hook(lambda *_: calls.append(1))  # type: ignore[index]
    try:
        for one in DETECTORS.values():
            calls.clear()
            one(seen_train, model)(seen_test)
            assert bool(calls) == one.slow
    finally:
        handle.remove()


def test_the_documentation_lists_every_detector() -> None:
    page = (Path(__file__).parents[3] / "docs" / "detectors.md").read_text(encoding="utf-8")
    for name, one in DETECTORS.items():
        assert f"| `{name}` |" in page
        assert one.paper in page


# Features


def test_features_are_the_heads_input_and_logits_the_models(
    model: Classifier, train: Samples
) -> None:
    found = cached(model, train)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(train.inputs), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            found.features, Encoder(model)(train.inputs), atol=1e-5, rtol=1e-4
        )
    assert found.inputs is train.inputs
    assert torch.equal(found.labels, train.labels)
    assert torch.equal(found.predictions, found.logits.argmax(1))


@pytest.mark.parametrize(("name", "dims"), [("small_cnn", (2, 3)), ("vit", (1,)), ("mlp", ())])
def test_blocks_are_the_means_over_the_places_of_each_output(
    name: str, dims: tuple[int, ...], train: Samples
) -> None:
    model = build_model(ModelConfig(name=name, width=8, depth=2), train, CLASSES)
    kind = nn.ReLU if name == "mlp" else nn.Module
    outputs: list[Tensor] = []
    for module in model.blocks:  # type: ignore[union-attr]
        if isinstance(module, kind):
            module.register_forward_hook(lambda module, args, out: outputs.append(out))
    found = cached(model, train[:9]).blocks
    assert len(found) == len(outputs) > 1
    for block, out in zip(found, outputs, strict=True):
        torch.testing.assert_close(block, out.mean(dims) if dims else out)


def test_extraction_leaves_no_hook_after_success_or_error(
    model: Classifier, train: Samples
) -> None:
    cached(model, train)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(RuntimeError):
        cached(model, Samples.unlabelled(torch.rand(4, 2, 8, 8)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_logits_that_are_not_finite_are_refused(model: Classifier) -> None:
    bad = torch.full((3, 1, 8, 8), float("nan"))
    with pytest.raises(InputError, match="x: the network's logits hold NaN or infinity"):
        cached(model, Samples.unlabelled(bad))


def test_every_batch_is_watched_and_followed(model: Classifier, train: Samples) -> None:
    from contextlib import contextmanager

    events: list[object] = []

    @contextmanager
    def watching():  # type: ignore[no-untyped-def]
        events.append("in")
        yield
        events.append("out")

    extract(
        model,
        train[:300],
        title="x",
        watching=[watching],
        after=lambda labels: events.append(len(labels)),
        progress=Progress(),
    )
    assert events == ["in", "out", 256, "in", "out", 44]


def test_features_read_back_the_same(model: Classifier, train: Samples, tmp_path: Path) -> None:
    found = cached(model, train[:5])
    found.save(tmp_path / "f.safetensors")
    back = Features.load(tmp_path / "f.safetensors", found.inputs)
    assert torch.equal(back.logits, found.logits)
    assert torch.equal(back.features, found.features)
    assert torch.equal(back.labels, found.labels)
    assert len(back.blocks) == len(found.blocks) == 4
    assert all(map(torch.equal, back.blocks, found.blocks))
    assert back.inputs is found.inputs


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_damaged_features_are_an_artifacts_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "f.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"f\.safetensors: is missing or damaged"):
        Features.load(path, torch.empty(0))
