"""Baselines by name, from pytorch-ood. Every one scores higher = more OOD.

`docs/detectors.md` lists their hyperparameters, with the source of each.
"""
