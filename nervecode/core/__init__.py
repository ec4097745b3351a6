"""Mathematics on tensors: codebooks, codes, traces, moments, reducers. Imports torch only."""

from nervecode.core.call import BatchShape, Call
from nervecode.core.code import SoftCode
from nervecode.core.codebook import MIXTURE, Codebook, SoftAssignment
from nervecode.core.gaussian import GaussianCode
from nervecode.core.label import LabelCode
from nervecode.core.moments import ClassMoments
from nervecode.core.over_places import REDUCERS
from nervecode.core.reduce import Reducer
from nervecode.core.scatter import Spectrum, oas
from nervecode.core.temperature import CosineTemperature, FixedTemperature
from nervecode.core.trace import CodingTrace

__all__ = [
    "MIXTURE",
    "REDUCERS",
    "BatchShape",
    "Call",
    "ClassMoments",
    "Codebook",
    "CodingTrace",
    "CosineTemperature",
    "FixedTemperature",
    "GaussianCode",
    "LabelCode",
    "Reducer",
    "SoftAssignment",
    "SoftCode",
    "Spectrum",
    "oas",
]
