"""Baselines on cached features against pytorch-ood, called with a model and a loader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_ood import detector as library
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.data import Samples, build_splits
from nervecode.lab.detectors import DETECTORS
from nervecode.lab.features import EVAL_BATCH, Features, extract
from nervecode.lab.models import Classifier, build_model
from nervecode.lab.progress import Progress
from nervecode.lab.schema import DataConfig, ModelConfig

CLASSES = 8


class Encoder(nn.Module):
    """A classifier without its head."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.features((x - self.model.mean) / self.model.std)


@pytest.fixture(scope="module")
def model() -> Classifier:
    """A network after a few steps, so that its features are not those of noise."""
    torch.manual_seed(0)
    train = build_splits(DataConfig(id="digits", hold_out=(8, 9))).train
    found = build_model(ModelConfig(name="small_cnn", width=8), train, CLASSES)
    optimiser = torch.optim.Adam(found.parameters(), 0.01)
    for x, y in [batch for _ in range(8) for batch in train.batches(128)]:
        optimiser.zero_grad()
        nn.functional.cross_entropy(found(x), y).backward()
        optimiser.step()
    return found.eval()


@pytest.fixture(scope="module")
def train() -> Samples:
    return build_splits(DataConfig(id="digits", hold_out=(8, 9))).train


@pytest.fixture(scope="module")
def test_inputs() -> Tensor:
    digits = build_splits(DataConfig(id="digits", hold_out=(8, 9))).test.inputs[:40]
    return torch.cat([digits, torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))])


def cached(model: Classifier, samples: Samples) -> Features:
    return extract(model, samples, title="x", progress=Progress())


LOGITS: dict[str, Callable[[nn.Module], object]] = {
    "msp": library.MaxSoftmax,
    "maxlogit": library.MaxLogit,
    "energy": library.EnergyBased,
    "entropy": library.Entropy,
    "gen": library.GEN,
}
FEATURES: dict[str, Callable[[nn.Module, nn.Linear], object]] = {
    "mahalanobis": lambda encoder, head: library.Mahalanobis(encoder),
    "rmd": lambda encoder, head: library.RMD(encoder),
    "knn": lambda encoder, head: library.KNN(encoder, k=50, normalize=True),
    "gmm": lambda encoder, head: library.GMM(encoder),
    "pnml": lambda encoder, head: library.PNML(encoder, head),
    "vim": lambda encoder, head: library.ViM(
        encoder, d=head.in_features // 2, w=head.weight.detach(), b=head.bias.detach()
    ),
}


def test_every_registered_baseline_is_compared_here() -> None:
    assert set(DETECTORS) == {*LOGITS, *FEATURES}


@pytest.mark.parametrize("name", LOGITS)
def test_a_detector_on_logits_is_that_of_pytorch_ood(
    name: str, model: Classifier, train: Samples, test_inputs: Tensor
) -> None:
    with torch.no_grad():
        expected = LOGITS[name](model).predict(test_inputs)  # type: ignore[attr-defined]
    score = DETECTORS[name](cached(model, train), model.head)
    found = score(cached(model, Samples.unlabelled(test_inputs)))
    assert found.shape == (80,)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FEATURES)
def test_a_detector_on_features_is_that_of_pytorch_ood(
    name: str, model: Classifier, train: Samples, test_inputs: Tensor
) -> None:
    direct = FEATURES[name](Encoder(model), model.head)
    loader = DataLoader(TensorDataset(train.inputs, train.labels), batch_size=EVAL_BATCH)
    with torch.no_grad():
        direct.fit(loader)  # type: ignore[attr-defined]
        expected = torch.as_tensor(direct.predict(test_inputs))  # type: ignore[attr-defined]
    score = DETECTORS[name](cached(model, train), model.head)
    found = torch.as_tensor(score(cached(model, Samples.unlabelled(test_inputs)))).detach()
    assert found.shape == (80,)
    torch.testing.assert_close(found.double(), expected.detach().double(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_higher_score_means_more_ood(
    name: str, model: Classifier, train: Samples, test_inputs: Tensor
) -> None:
    score = DETECTORS[name](cached(model, train), model.head)
    found = torch.as_tensor(score(cached(model, Samples.unlabelled(test_inputs)))).detach()
    assert found[40:].mean() > found[:40].mean()


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
    assert torch.equal(found.labels, train.labels)
    assert torch.equal(found.predictions, found.logits.argmax(1))


def test_extraction_leaves_no_hook_after_success_or_error(
    model: Classifier, train: Samples
) -> None:
    cached(model, train)
    assert not model.head._forward_pre_hooks
    with pytest.raises(RuntimeError):
        cached(model, Samples.unlabelled(torch.rand(4, 2, 8, 8)))
    assert not model.head._forward_pre_hooks


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
    back = Features.load(tmp_path / "f.safetensors")
    assert torch.equal(back.logits, found.logits)
    assert torch.equal(back.features, found.features)
    assert torch.equal(back.labels, found.labels)


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_damaged_features_are_an_artifacts_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "f.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"f\.safetensors: is missing or damaged"):
        Features.load(path)
