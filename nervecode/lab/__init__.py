"""The laboratory: configs, data, models, stages, runs. Stages meet through files."""

from nervecode.errors import need_lab

need_lab("nervecode.lab")
