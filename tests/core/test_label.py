"""The label code against pytorch-ood's PNML, and against its formula."""

import math

import numpy as np
import pytest
import torch
from mpmath import exp, log, mp, mpf
from pytorch_ood.detector import PNML
from torch import nn

from nervecode.core import ClassMoments, LabelCode
from nervecode.core.label import LabelDistribution
from nervecode.errors import InputError, NotReadyError


def moments(features: torch.Tensor) -> ClassMoments:
    unit = LabelCode.unit(features)
    return ClassMoments.of(unit, torch.zeros(len(unit), dtype=torch.long), 1)


def test_regret_is_pytorch_oods_where_the_head_sees_the_same_features() -> None:
    torch.manual_seed(0)
    train, test = torch.randn(300, 6) + 1, 3 * torch.randn(40, 6)
    head = nn.Linear(6, 4)
    reference = PNML(None, head).fit_features(train, torch.zeros(300, dtype=torch.long))
    unit = LabelCode.unit(test)
    found = LabelCode.fit(moments(train))(unit, head(unit).detach())
    # Theirs is in units of log K nats.
    expected = reference.predict_features(test) * math.log(4) / math.log(2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_regret_by_hand() -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(50, 3)), random.normal(size=(7, 3))
    logits = random.normal(size=(7, 5))
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    second = train.T @ train
    inverse = np.linalg.inv(second + 1e-6 * np.trace(second) / 3 * np.eye(3))
    expected = []
    for f, row in zip(test, logits, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        q = f @ inverse @ f
        g = q / (1 + q)
        expected.append(np.log2(sum(one / (one + (1 - one) * one**g) for one in p)))
    code = LabelCode.fit(moments(torch.from_numpy(train)))
    found = code(torch.from_numpy(test).float(), torch.from_numpy(logits).float())
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("gap", [0.0, 1.0, 8.0, 20.0, 60.0, 400.0])
def test_regret_of_a_sure_head_is_no_rounding(gap: float) -> None:
    """Against the formula in 60 digits: what a sure head loses is far below the rounding of 1."""
    mp.dps = 60
    random = np.random.default_rng(1)
    code = LabelCode.fit(moments(torch.from_numpy(random.normal(size=(50, 3)))))
    features = torch.from_numpy(random.normal(size=(5, 3))).float()
    logits = torch.from_numpy(random.normal(size=(5, 4))).float()
    logits[:, 2] += gap
    inverse = code.isotropic * torch.eye(3) + code.sign * code.factors @ code.factors.T
    for f, row, regret in zip(features, logits, code(features, logits), strict=True):
        unit = LabelCode.unit(f.double().unsqueeze(0))[0]
        q = mpf(float(unit @ inverse.double() @ unit))
        g = q / (1 + q)
        weights = [exp(mpf(value)) for value in row.tolist()]
        p = [weight / sum(weights) for weight in weights]
        expected = log(sum(one / (one + (1 - one) * one**g) for one in p), 2)
        assert float(regret) == pytest.approx(float(expected), rel=1e-4, abs=0)


def test_regret_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    code = LabelCode.fit(moments(torch.randn(500, 300)))
    features, head = torch.randn(64, 300), nn.Linear(300, 10)
    for scale in (1, 30, 300):
        logits = scale * head(features).detach()
        alone = [code(f, row) for f, row in zip(features.split(1), logits.split(1), strict=True)]
        together = code(features, logits)
        torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=0)


def test_regret_is_low_for_a_sure_head_and_high_away_from_the_data() -> None:
    train = torch.zeros(200, 3)
    train[:, 0] = 1
    train[:, 1] = 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    code = LabelCode.fit(moments(train))
    seen, unseen = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 0, 1]])
    sure, torn = torch.tensor([[20.0, 0]]), torch.tensor([[0.0, 0]])
    assert code(seen, sure) < 0.01
    assert code(seen, torn) < code(unseen, torn)
    assert 0 <= code(unseen, torn) <= 1.0001  # one bit tells two classes apart


def test_a_smaller_rank_keeps_the_leading_directions() -> None:
    torch.manual_seed(0)
    train = torch.randn(400, 10) * torch.logspace(0, -2, 10)
    full, thin = (LabelCode.fit(moments(train), rank=rank) for rank in (10, 4))
    assert thin.factors.shape == (10, 4)
    lead = torch.eye(10)[:1]
    torch.testing.assert_close(
        thin(lead, torch.zeros(1, 3)), full(lead, torch.zeros(1, 3)), rtol=0.05, atol=0.01
    )


def test_bad_input_is_named() -> None:
    code = LabelCode.fit(moments(torch.randn(20, 4)))
    with pytest.raises(InputError, match=r"features: found \(3, 5\), allowed: \(B, 4\)"):
        code(torch.randn(3, 5), torch.randn(3, 2))
    with pytest.raises(NotReadyError, match="needs at least 2"):
        LabelCode.fit(moments(torch.randn(1, 4)))
    assert LabelCode.fit(moments(torch.randn(2, 4))).factors.isfinite().all()


def test_the_class_is_that_of_the_largest_logit_where_rounding_hides_it() -> None:
    logits = torch.tensor([[1.0, 1e-9, 2e-9, 0.0], [0.0, 1e-9, 2e-9, 0.0]])
    code = LabelDistribution(logits)
    assert code.best_index.tolist() == [0, 2]
    torch.testing.assert_close(code.probs, logits.softmax(1))
    torch.testing.assert_close(code.squared_distances, -2 * logits.log_softmax(1))
    torch.testing.assert_close(code.bits, torch.zeros(2), atol=1e-6, rtol=0)  # the p_k sum to 1


def test_many_classes_are_read_in_blocks_that_change_nothing() -> None:
    """Of so many logits that a few inputs fill a block, with a gradient as before."""
    random = torch.Generator().manual_seed(0)
    code = LabelCode.fit(
        ClassMoments.of(
            LabelCode.unit(torch.randn(50, 4, generator=random)), torch.zeros(50).long(), 1
        )
    )
    features = torch.randn(7, 4, generator=random)
    logits = (3 * torch.randn(7, 30_000, generator=random)).requires_grad_()
    whole = code(features, logits)
    alone = torch.cat([code(features[i : i + 1], logits[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(whole, alone, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(whole.sum(), logits)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
