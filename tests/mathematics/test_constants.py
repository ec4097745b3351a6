"""The numbers that the page states and the numbers in the code are the same."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from nervecode.core import centres, code, codebook, moments, precision, reduce, scatter
from nervecode.layers import fitter
from nervecode.monitor import bettors
from nervecode.scoring import code_length, combine, mondrian, rarity
from nervecode.training import CodePrice, unit

PAGE = " ".join(
    (Path(__file__).parents[2] / "docs/mathematics.md").read_text(encoding="utf-8").split()
)
FIT = inspect.signature(fitter.CodeFitter).parameters

STATED = [
    ("`fit` takes p = 1/2", reduce.LENGTH_POWER, 1 / 2),
    ("`mean_std` (default of `fit`)", FIT["reduce"].default, "mean_std"),
    ("at most 256 real places", fitter.POSITIONS, 256),
    ("Defaults: T = 1 and weights 1, 1, 0", codebook.SoftAssignment(),
     codebook.SoftAssignment(1.0, 1.0, 1.0, 0.0)),
    ("section 2 with T = 2, which is `MIXTURE`", codebook.MIXTURE.temperature, 2.0),
    ("vectors of more than 256 dimensions are multiplied in float32", scatter.EXACT, 256),
    ("in blocks of at most 2¹⁹ numbers", moments.BUFFER, 2**19),
    ("2¹⁹ numbers or 256 vectors", moments.SMALLEST_BUFFER, 256),
    ("r leading directions (128)", precision.RANK, 128),
    ("The first `rank` (128)", FIT["rank"].default, 128),
    ("S = max(256, 2r) columns", scatter.sketch_of(128), 256),
    ("S = max(256, 2r) columns", scatter.sketch_of(129), 258),
    ("columns and D > 2S", [scatter.columns(d, 256) for d in (512, 513)], [512, 256]),
    ("over the μ_i > 10⁻⁷ μ_1", scatter.DEAD, 1e-7),
    ("ε = 2⁻²³", torch.finfo(torch.float32).eps, 2**-23),
    ("the first 4096/K vectors of each class", centres.Reservoir(3).per_class, 4096 // 3),
    ("ten steps from its first vectors", centres.STEPS, 10),
    ("as there are eights of vectors in its sample", centres.LEAST, 8),
    ("`codes_per_class` (8)", FIT["codes_per_class"].default, 8),
    ("With more than 256 classes, each has one code",
     [centres.Reservoir(k).per_class for k in (256, 257)], [16, 0]),
    ("(std <= 10⁻¹² (1 + |mean|))", combine.NEGLIGIBLE, 1e-12),
    ("3/2 rarity(z(mean_l z(B_l) given k))", code_length.WEIGHT, 3 / 2),
    ("w = n_k / (n_k + 20)", code_length.PSEUDO_COUNTS, 20),
    ("the 90 % quantile", rarity.TAIL, 0.1),
    ("Classes with fewer than 99 calibration inputs", mondrian.OWN, 99),
    ("Prices are whole numbers of 2^-20", bettors.UNIT, 2**20),
    ("more than 30 interquartile ranges from the median", combine.REACH, 30),
    ("Where |z_i| is below δ = 1e-5", unit.SHORT, 1e-5),
    ("Σ_{k≠i} exp(u_i'u_k / T), T = 0.1", CodePrice().temperature, 0.1),
    ("1/ln 2 = 1.4427 bits", round(1 / code.LN2, 4), 1.4427),
]  # fmt: skip


@pytest.mark.parametrize(("words", "found", "stated"), STATED, ids=[one[0] for one in STATED])
def test_a_number_of_the_page_is_that_of_the_code(
    words: str, found: object, stated: object
) -> None:
    assert words in PAGE
    assert found == stated
