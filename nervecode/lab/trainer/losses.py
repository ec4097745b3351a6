"""Task losses: cross-entropy, and what others train with so that inputs from elsewhere stand out.

Each gives the mean over a batch. What it does to features or logits, it does in training alone: a
network is scored as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.errors import InputError
from nervecode.lab.trainer.forward import ForwardPass
from nervecode.training.unit import unit_vectors

TINY = 1e-7  # added to a norm, as LogitNorm's authors do
PROJECTED = 128  # numbers that CIDER's losses read, as its authors have them


class TaskLoss(nn.Module):
    """What a classifier is trained by: what was seen of a batch, its labels -> () nats.

    Args:
        head: the linear layer that gives the logits.

    Attributes:
        reads_features: whether it asks for the input of the head.
        whole_batch: whether its value is not a mean over inputs, so that a batch cannot be cut.
    """

    reads_features = False
    whole_batch = False

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self._head = (head,)  # in a tuple: it is a part of the model, not of the loss

    @property
    def head(self) -> nn.Linear:
        """The linear layer that gives the logits."""
        return self._head[0]

    def settle(self) -> None:
        """What is left to do after each step of the optimiser."""


class CrossEntropy(TaskLoss):
    """-ln p_y of the softmax, with a part of the label spread over all classes.

    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567.
    """

    def __init__(self, head: nn.Linear, *, smoothing: float = 0.0) -> None:
        super().__init__(head)
        self.smoothing = smoothing

    def forward(self, seen: ForwardPass, labels: Tensor) -> Tensor:
        """() mean over a batch."""
        return F.cross_entropy(seen.logits, labels, label_smoothing=self.smoothing)


class LogitNorm(TaskLoss):
    """Cross-entropy of l / (temperature |l|): the length of the logits l can gain nothing.

    Wei et al. 2022, equation 5, https://arxiv.org/abs/2205.09310.
    """

    def __init__(self, head: nn.Linear, *, temperature: float) -> None:
        super().__init__(head)
        self.temperature = temperature

    def forward(self, seen: ForwardPass, labels: Tensor) -> Tensor:
        """() mean over a batch."""
        length = torch.linalg.vector_norm(seen.logits, dim=1, keepdim=True) + TINY
        return F.cross_entropy(seen.logits / (self.temperature * length), labels)


class T2FNorm(TaskLoss):
    """Cross-entropy of the head on f / (temperature |f|), f the features, as they are at test.

    Regmi et al. 2023, https://arxiv.org/abs/2305.17797.
    """

    reads_features = True

    def __init__(self, head: nn.Linear, *, temperature: float) -> None:
        super().__init__(head)
        self.temperature = temperature

    def forward(self, seen: ForwardPass, labels: Tensor) -> Tensor:
        """() mean over a batch."""
        unit = unit_vectors(seen.features.to(seen.logits.dtype))
        return F.cross_entropy(self.head(unit / self.temperature), labels)


class Cider(TaskLoss):
    """Dispersion + weight * compactness of projected features around a prototype a class.

    With u = h / |h|, h a linear projection of the features, m_c prototypes, C classes and T the
    temperature:

        compactness = mean_i -ln (exp(u_i' m_y(i) / T) / sum_c exp(u_i' m_c / T))
        dispersion = mean_c ln (1/(C - 1) sum_{k != c} exp(m_c' m_k / T))
        m_c <- normalised momentum m_c + (1 - momentum) u_i, for each input i of class c in turn

    Ming, Sun, Dia and Li 2023, equations 4 to 7, https://arxiv.org/abs/2203.04450; as in their
    code, the gradient of the dispersion goes through every move of the batch. The head is what the
    losses compare by: its logits are m_c' h / T, so that the class is that of equation 3. They
    project by a perceptron and train a head afterwards; their prototypes begin as the class means
    of the untrained network, here as the first u of the class.

    Raises:
        InputError: the weight of the head is no parameter.

    Attributes:
        projection: (B, D) features -> (B, `PROJECTED`), trained with the network.
    """

    reads_features = True
    whole_batch = True
    prototypes: Tensor  # (C, PROJECTED); 0 of a class that was not met yet

    def __init__(
        self, head: nn.Linear, *, temperature: float, momentum: float, weight: float
    ) -> None:
        super().__init__(head)
        if "weight" not in head._parameters:  # what is written to it would be lost
            raise InputError(
                "train.loss: cider: found a head whose weight is made of other parameters, as by "
                "weight norm; allowed: one whose weight is a parameter"
            )
        self.temperature, self.momentum, self.weight = temperature, momentum, weight
        has_bias = head.bias is not None
        self.projection = nn.Linear(head.in_features, PROJECTED, bias=has_bias).to(head.weight)
        self.register_buffer("prototypes", head.weight.new_zeros(head.out_features, PROJECTED))

    def forward(self, seen: ForwardPass, labels: Tensor) -> Tensor:
        """() mean over a batch; the prototypes move."""
        features = seen.features.to(seen.logits.dtype)
        unit, classes = unit_vectors(self.projection(features)), len(self.prototypes)
        prototypes = self._moved(unit, labels)
        compact = F.cross_entropy(unit @ prototypes.detach().T / self.temperature, labels)
        others = prototypes @ prototypes.T / self.temperature
        own = torch.eye(classes, dtype=torch.bool, device=others.device)
        others = others.masked_fill(own, -torch.inf)
        dispersion = (others.logsumexp(1) - math.log(classes - 1)).mean()
        self.prototypes = prototypes.detach()
        return dispersion + self.weight * compact

    @torch.no_grad()
    def settle(self) -> None:
        """Make the head that of the prototypes."""
        scaled = self.prototypes / self.temperature
        self.head.weight.copy_(scaled @ self.projection.weight)
        if self.head.bias is not None:
            self.head.bias.copy_(scaled @ self.projection.bias)

    def _moved(self, unit: Tensor, labels: Tensor) -> Tensor:
        """(C, D) prototypes after a batch, whose gradient reaches its features.

        Classes do not meet, so that the first inputs of all classes move together, then the second.
        """
        turns = (labels.unsqueeze(1) == labels).tril(-1).sum(1)  # earlier inputs of the class
        rounds = turns.argsort().split(turns.bincount().tolist())
        pull = self.momentum / (1 - self.momentum)
        prototypes = self.prototypes
        for inputs in rounds:
            classes = labels[inputs]
            moved = unit_vectors(pull * prototypes[classes] + unit[inputs])
            prototypes = prototypes.index_copy(0, classes, moved)
        return prototypes
