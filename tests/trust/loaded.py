"""What the processes of the trust tests need, loaded once. Nothing of it is run here."""

import matplotlib.figure
import pytorch_ood.detector
import sklearn.covariance
import sklearn.datasets
import torch
import torchvision

import nervecode.cli.main
import nervecode.lab.stages.bench
import nervecode.lab.stages.reproduce
import nervecode.viz.report
import tests.command_line

__all__ = ["matplotlib", "nervecode", "pytorch_ood", "sklearn", "tests", "torch", "torchvision"]
