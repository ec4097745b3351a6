"""What holds of every codebook, whatever its centres, priors, metric and inputs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nervecode.core import Codebook, Reducer, SoftAssignment, SoftCode
from nervecode.layers import LearnedCoder
from nervecode.training import CodingLoss

MIXTURE_PARTS = ("bits", "index_bits", "residual_bits", "bits_back", "entropy", "best_length")


@st.composite
def books_and_batches(draw: st.DrawFn) -> tuple[Codebook, Tensor]:
    k, dim, batch = draw(st.integers(1, 8)), draw(st.integers(1, 6)), draw(st.integers(1, 9))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = 10.0 ** draw(st.integers(-3, 3))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    metric = draw(st.sampled_from(["identity", "diagonal", "full"]))
    factors = {
        "identity": None,
        "diagonal": normal(dim).abs() + 0.1,
        "full": normal(dim, dim) + 3 * torch.eye(dim, dtype=torch.float64),
    }
    book = Codebook.from_centres(
        normal(k, dim), log_priors=3 * normal(k), factor=factors[metric], learnable=True
    )
    return book, scale * normal(batch, dim)


def everything(code: SoftCode) -> Tensor:
    """(B, parts) all that a code says of an input."""
    return torch.stack([getattr(code, part) for part in MIXTURE_PARTS], dim=1)


@given(books_and_batches())
def test_bits_back_identity(case: tuple[Codebook, Tensor]) -> None:
    book, z = case
    code = book(z)
    parts = code.index_bits + code.residual_bits - code.bits_back
    torch.testing.assert_close(parts, code.bits, rtol=1e-9, atol=1e-9)


@given(books_and_batches(), st.floats(0.3, 20))
def test_any_other_assignment_costs_its_divergence_from_the_posterior(
    case: tuple[Codebook, Tensor], temperature: float
) -> None:
    book, z = case
    posterior, code = book(z), book(z, SoftAssignment(temperature))
    gap = code.log_probs - posterior.log_probs
    divergence = torch.where(code.probs > 0, code.probs * gap, 0.0).sum(1) / math.log(2)
    paid = code.index_bits + code.residual_bits - code.bits_back
    torch.testing.assert_close(paid, code.bits + divergence, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(code.bits, posterior.bits)


@given(books_and_batches(), st.floats(0.05, 20))
def test_assignment_sums_to_one(case: tuple[Codebook, Tensor], temperature: float) -> None:
    book, z = case
    probs = book(z, SoftAssignment(temperature)).probs
    torch.testing.assert_close(probs.sum(1), torch.ones(len(z), dtype=z.dtype))
    assert (probs >= 0).all()


@given(books_and_batches())
def test_every_part_is_finite_and_the_entropy_within_its_bounds(
    case: tuple[Codebook, Tensor],
) -> None:
    book, z = case
    code = book(z)
    assert everything(code).isfinite().all()
    assert (code.bits_back >= -1e-12).all()
    limit = torch.tensor(float(book.num_codes), dtype=z.dtype).log2()
    assert (code.bits_back <= limit + 1e-9).all()


@given(books_and_batches(), st.randoms(use_true_random=False))
def test_order_of_centres_does_not_matter(case: tuple[Codebook, Tensor], random) -> None:
    book, z = case
    order = torch.tensor(random.sample(range(book.num_codes), book.num_codes))
    factor = book.factor if book.metric != "identity" else None
    shuffled = Codebook.from_centres(
        book.centres.detach()[order], log_priors=book.log_priors[order], factor=factor
    )
    torch.testing.assert_close(everything(shuffled(z)), everything(book(z)), rtol=1e-9, atol=1e-9)


@given(books_and_batches(), st.randoms(use_true_random=False))
def test_order_of_the_batch_does_not_matter(case: tuple[Codebook, Tensor], random) -> None:
    book, z = case
    order = torch.tensor(random.sample(range(len(z)), len(z)))
    found, expected = everything(book(z[order])), everything(book(z))[order]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@given(books_and_batches())
def test_splitting_the_batch_does_not_matter(case: tuple[Codebook, Tensor]) -> None:
    book, z = case
    one_by_one = torch.cat([everything(book(row.unsqueeze(0))) for row in z])
    torch.testing.assert_close(one_by_one, everything(book(z)), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@given(books_and_batches())
def test_gradients_of_a_code(case: tuple[Codebook, Tensor]) -> None:
    book, z = case
    z = (z / z.abs().max().clamp_min(1)).requires_grad_()  # finite differences need a sane scale
    assert torch.autograd.gradcheck(lambda z, _: everything(book(z)), (z, book.centres))


@pytest.mark.slow
@given(st.integers(0, 2**31), st.sampled_from(["mean", "mean_std"]), st.floats(0, 1))
def test_gradients_of_coder_and_loss(seed: int, reduce: str, power: float) -> None:
    torch.manual_seed(seed)
    channels = 3 if reduce == "mean" else 6
    assignment = SoftAssignment(beta_distance=1.0)
    reducer = Reducer(reduce, channel_dim=1, length_power=power)
    coder = LearnedCoder(
        channels, num_codes=4, coding_dim=2, assignment=assignment, reducer=reducer
    ).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: coder(x).surprise, (x,))
    assert torch.autograd.gradcheck(lambda x: CodingLoss()({"layer": coder(x)}), (x,))
