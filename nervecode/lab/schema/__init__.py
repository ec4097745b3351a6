"""The schema of a config, one file per section: types and ranges, as frozen models.

It knows no name: `nervecode.lab.config.names` asks the registries for names.
"""

from nervecode.lab.schema.bench import BenchConfig
from nervecode.lab.schema.config import Config, CostConfig
from nervecode.lab.schema.data import PATHS, DataConfig
from nervecode.lab.schema.model import ModelConfig
from nervecode.lab.schema.section import Section
from nervecode.lab.schema.signals import PRIMARY, SignalConfig
from nervecode.lab.schema.train import NO_LOSS, TrainConfig
from nervecode.lab.schema.validation import Problem, problems

__all__ = [
    "NO_LOSS",
    "PATHS",
    "PRIMARY",
    "BenchConfig",
    "Config",
    "CostConfig",
    "DataConfig",
    "ModelConfig",
    "Problem",
    "Section",
    "SignalConfig",
    "TrainConfig",
    "problems",
]
