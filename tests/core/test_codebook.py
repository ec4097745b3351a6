"""Codebook and SoftCode against closed forms, SciPy and torch.distributions."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from nervecode.core import Codebook, SoftAssignment
from nervecode.errors import InputError


def random_factor(metric: str, dim: int) -> torch.Tensor | None:
    if metric == "identity":
        return None
    if metric == "diagonal":
        return torch.rand(dim, dtype=torch.float64) + 0.5
    return torch.eye(dim, dtype=torch.float64) + 0.3 * torch.randn(dim, dim, dtype=torch.float64)


def random_book(metric: str, k: int = 5, dim: int = 4) -> Codebook:
    return Codebook.from_centres(
        torch.randn(k, dim, dtype=torch.float64),
        log_priors=torch.randn(k, dtype=torch.float64),
        factor=random_factor(metric, dim),
    )


def precision(book: Codebook) -> torch.Tensor:
    if book.metric == "identity":
        return torch.eye(book.dim, dtype=torch.float64)
    return torch.diag(book.factor**2) if book.metric == "diagonal" else book.factor @ book.factor.T


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("metric", ["identity", "diagonal", "full"])
def test_bits_are_those_of_the_torch_mixture(metric: str) -> None:
    book, z = random_book(metric), 3 * torch.randn(50, 4, dtype=torch.float64)
    mixture = MixtureSameFamily(
        Categorical(logits=book.log_priors),
        MultivariateNormal(book.centres, precision_matrix=precision(book).expand(5, 4, 4)),
    )
    torch.testing.assert_close(
        book(z).bits, -mixture.log_prob(z) / math.log(2), rtol=1e-9, atol=1e-9
    )
    single = book.float()(z.float()).bits
    torch.testing.assert_close(
        single.double(), -mixture.log_prob(z) / math.log(2), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("metric", ["identity", "diagonal", "full"])
def test_parts_are_those_of_explicit_gaussians(metric: str) -> None:
    book, z = random_book(metric), torch.randn(20, 4, dtype=torch.float64)
    covariance = np.linalg.inv(precision(book).numpy())
    logs = np.stack([multivariate_normal(c.numpy(), covariance).logpdf(z) for c in book.centres], 1)
    prior = softmax(book.log_priors.numpy())
    posterior = softmax(np.log(prior) + logs, axis=1)
    code = book(z)
    np.testing.assert_allclose(code.probs, posterior, atol=1e-10)
    np.testing.assert_allclose(code.index_bits, -(posterior * np.log2(prior)).sum(1), rtol=1e-9)
    residual = -(posterior * logs).sum(1) / np.log(2)
    np.testing.assert_allclose(code.residual_bits, residual, rtol=1e-9)
    bits_back = -(posterior * np.log2(posterior)).sum(1)
    np.testing.assert_allclose(code.bits_back, bits_back, rtol=1e-8, atol=1e-12)


def test_weighted_surprise_of_recipe_v0_1_1() -> None:
    book, z = Codebook(6, 3).double(), 2 * torch.randn(30, 3, dtype=torch.float64)
    assignment = SoftAssignment(
        temperature=0.7, beta_length=1.5, beta_entropy=0.5, beta_distance=2.0
    )
    d2 = ((z[:, None] - book.centres) ** 2).sum(2).detach().numpy()
    p = softmax(-d2 / 0.7, axis=1)
    length = -np.log(p[np.arange(30), d2.argmin(1)])
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
    expected = 1.5 * length + 0.5 * entropy + 2.0 * np.log1p(d2.min(1))
    code = book(z, assignment)
    np.testing.assert_allclose(assignment.surprise(code).detach(), expected, rtol=1e-9)
    np.testing.assert_array_equal(code.best_index, d2.argmin(1))
    np.testing.assert_allclose(code.best_distance.detach(), d2.min(1), rtol=1e-9)


def test_library_defaults_are_the_documented_weights() -> None:
    a = SoftAssignment()
    assert (a.temperature, a.beta_length, a.beta_entropy, a.beta_distance) == (1.0, 1.0, 1.0, 0.0)


def test_weighted_surprise_vanishes_far_away_and_code_length_grows() -> None:
    """Why the recipe `v0_1_1` is weak, and `bits` is the default."""
    book = Codebook.from_centres(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    z = torch.tensor([[2.0, 0.0], [50.0, 0.0], [500.0, 0.0]])
    weak = SoftAssignment().surprise(book(z, SoftAssignment()))
    assert weak[1:].abs().max() < 1e-6
    assert (book(z).bits.diff() > 1000).all()


def test_a_prior_of_zero_costs_nothing_and_gives_finite_numbers() -> None:
    centres = torch.tensor([[0.0], [3.0]], requires_grad=True)
    book = Codebook.from_centres(centres.detach(), log_priors=torch.tensor([0.0, -math.inf]))
    code = book(torch.tensor([[0.5]]))
    assert code.index_bits.item() == 0.0
    assert code.bits_back.item() == 0.0
    expected = (0.5 * 0.25 + 0.5 * math.log(2 * math.pi)) / math.log(2)
    assert code.bits.item() == pytest.approx(expected, rel=1e-6)


def test_far_from_the_origin_distances_are_never_negative() -> None:
    book = Codebook.from_centres(torch.full((2, 3), 1e4))
    assert (book.squared_distances(torch.full((4, 3), 1e4)) >= 0).all()


def test_learnable_centres_are_a_parameter_and_others_a_buffer() -> None:
    assert [n for n, _ in Codebook(2, 3).named_parameters()] == ["centres"]
    assert not list(Codebook(2, 3, learnable=False).parameters())
    assert "centres" in Codebook(2, 3, learnable=False).state_dict()


def test_a_generator_decides_the_centres() -> None:
    one = Codebook(3, 2, generator=torch.Generator().manual_seed(5))
    two = Codebook(3, 2, generator=torch.Generator().manual_seed(5))
    assert torch.equal(one.centres, two.centres)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Codebook(0, 3), "Codebook num_codes: found 0, allowed: at least 1"),
        (lambda: Codebook(3, 0), "Codebook dim: found 0, allowed: at least 1"),
        (lambda: Codebook(3, 2, metric="cosine"), r"'cosine', allowed: identity, diagonal, full"),
        (lambda: Codebook.from_centres(torch.zeros(3)), r"centres: found \(3,\), allowed"),
        (lambda: Codebook.from_centres(torch.full((2, 2), math.nan)), r"centres: found NaN"),
        (
            lambda: Codebook.from_centres(torch.zeros(2, 2), log_priors=torch.zeros(3)),
            r"log_priors: found \(3,\), allowed: \(2,\)",
        ),
        (
            lambda: Codebook.from_centres(torch.zeros(2, 2), log_priors=torch.full((2,), math.nan)),
            r"log_priors: found NaN",
        ),
        (
            lambda: Codebook.from_centres(torch.zeros(2, 2), factor=torch.ones(3)),
            r"factor: found \(3,\), allowed: \(2,\) or \(2, 2\)",
        ),
        (
            lambda: Codebook.from_centres(torch.zeros(2, 2), factor=torch.tensor([1.0, 0.0])),
            r"factor: .*singular",
        ),
        (lambda: Codebook(2, 3)(torch.zeros(4, 2)), r"vectors: found \(4, 2\), allowed: \(B, 3\)"),
        (lambda: SoftAssignment(temperature=0.0), r"temperature: found 0.0, allowed: .* above 0"),
        (lambda: SoftAssignment(temperature=math.nan), r"temperature: found nan"),
        (lambda: SoftAssignment(beta_entropy=math.inf), r"beta_entropy: found inf"),
    ],
)  # fmt: skip
def test_errors_name_what_was_found(build, text: str) -> None:
    with pytest.raises(InputError, match=text):
        build()
