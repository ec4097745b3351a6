"""Coders: specs, errors, and the learned coder by hand."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from nervecode.core import ClassMoments, GaussianCode, Reducer, SoftAssignment
from nervecode.errors import InputError
from nervecode.layers import FittedCoder, LearnedCoder
from nervecode.layers.coders.spec import coder_from_spec


def test_learned_coder_by_hand() -> None:
    """Recipe `v0_1_1`: mean over space, projection, soft assignment, weighted surprise in nats."""
    torch.manual_seed(0)
    assignment = SoftAssignment(1.3, beta_length=1.0, beta_entropy=1.0, beta_distance=1.0)
    coder = LearnedCoder(
        3, num_codes=5, coding_dim=2, assignment=assignment, reducer=Reducer(channel_dim=1)
    )
    x = torch.randn(7, 3, 4, 4)
    z = x.mean((2, 3)).numpy() @ coder.projection.weight.detach().numpy().T
    d2 = ((z[:, None] - coder.codebook.centres.detach().numpy()) ** 2).sum(2)
    p = softmax(-d2 / 1.3, 1)
    expected = -np.log(p.max(1)) - (p * np.log(p)).sum(1) + np.log1p(d2.min(1))
    np.testing.assert_allclose(coder(x).surprise.detach(), expected, rtol=1e-4, atol=1e-5)


def test_learned_and_fitted_specs_rebuild_their_coders() -> None:
    learned = LearnedCoder(6, num_codes=3, coding_dim=2, detach=True, reducer=Reducer("max"))
    moments = ClassMoments.of(torch.randn(30, 6), torch.arange(30) % 3, 3)
    fitted = FittedCoder(GaussianCode.fit(moments), reducer=Reducer("mean_std", length_power=0.5))
    for coder in (learned, fitted):
        twin = coder_from_spec(coder.spec())
        twin.load_state_dict(coder.state_dict())
        x = torch.randn(4, 6)
        assert torch.equal(twin(x).surprise, coder(x).surprise)
        assert twin.spec() == coder.spec()

    with pytest.raises(
        InputError, match="coder kind: found 'odd', allowed: fitted, label, learned"
    ):
        coder_from_spec({**learned.spec(), "kind": "odd"})


@pytest.mark.parametrize(("unit_norm", "power"), [(False, 1.0), (True, 0.0)])
def test_a_spec_from_before_the_power_of_the_length_is_understood(
    unit_norm: bool, power: float
) -> None:
    spec = LearnedCoder(6, reducer=Reducer("max")).spec()
    del spec["reducer"]["length_power"]
    spec["reducer"]["unit_norm"] = unit_norm
    assert coder_from_spec(spec).reducer.length_power == power


def test_projection_of_unknown_width_is_drawn_without_touching_the_random_state() -> None:
    coder, x = LearnedCoder(None), torch.randn(4, 6)
    torch.manual_seed(3)
    coder(x)
    found = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(1))
    assert coder.projection.in_features == 6


def test_a_vector_of_another_width_is_named() -> None:
    with pytest.raises(InputError, match="vector: found width 5, allowed: 6"):
        LearnedCoder(6)(torch.randn(4, 5))
