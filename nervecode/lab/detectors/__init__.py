"""Baselines by name, most from pytorch-ood. Every one scores higher = more OOD.

`docs/detectors.md` lists their hyperparameters, with the source of each.
"""
