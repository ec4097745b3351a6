"""The laboratory: configs, data, models, stages, runs. Stages meet through files."""
