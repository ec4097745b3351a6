"""Models by name."""

from nervecode.lab.models import mlp, resnet, small_cnn, vit  # noqa: F401  (they fill the registry)
from nervecode.lab.models.borrowed import check_name
from nervecode.lab.models.classifier import MODELS, Classifier, build_model

__all__ = ["MODELS", "Classifier", "build_model", "check_name"]
