"""Batches: their sizes, and networks that training would find out about too late."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.errors import InputError
from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.adopted import Adopted
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import TrainConfig
from nervecode.lab.trainer.batches import batch_sizes, check_training
from nervecode.lab.trainer.trainer import Trainer

CPU = torch.device("cpu")


def adopted(*parts: nn.Module, shape: tuple[int, ...] = (4,)) -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(*parts, nn.Linear(6, 3)).eval()
    x = torch.rand(2, *shape)
    with torch.no_grad():
        model = Adopted.of(net, x, net(x))
    assert model is not None
    return model


def normed() -> Classifier:
    return adopted(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.1))


def maps() -> Classifier:
    parts = (nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return adopted(*parts, shape=(1, 8, 8))


X, IMAGES = torch.rand(33, 4), torch.rand(33, 1, 8, 8)


def test_a_last_batch_of_one_joins_the_one_before_it_where_it_could_not_be_normalised() -> None:
    config = TrainConfig(batch_size=16)
    assert batch_sizes(normed(), config, X) == [16, 17]
    assert batch_sizes(normed(), config, X[:32]) == [16, 16]
    assert batch_sizes(normed(), config, X[:31]) == [16, 15]
    # What trains without that trains as it did.
    assert batch_sizes(maps(), config, IMAGES) == [16, 16, 1]
    assert batch_sizes(adopted(nn.Linear(4, 6)), config, X) == [16, 16, 1]
    frozen = TrainConfig(batch_size=16, freeze="backbone")
    assert batch_sizes(normed(), frozen, X) == [16, 16, 1]


def test_an_epoch_of_joined_batches_is_that_of_a_bare_loop() -> None:
    samples = Samples(X, torch.arange(33) % 3)
    config = TrainConfig(batch_size=16, epochs=1, learning_rate=0.05, optimizer="sgd")
    model, bare = (adopted(nn.Linear(4, 6), nn.BatchNorm1d(6)) for _ in range(2))
    trainer = Trainer(model, {}, config, samples, seed=0, device=CPU)
    assert trainer.steps_per_epoch == 2
    row = trainer.epoch(1, Progress())
    optimizer = torch.optim.SGD(
        bare.train().parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    order, total = torch.randperm(33, generator=torch.Generator().manual_seed(0)), 0.0
    for index, rate in zip((order[:16], order[16:]), (0.05, 0.025), strict=True):
        loss = F.cross_entropy(bare(samples.inputs[index]), samples.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        total += float(loss.detach()) * len(index)
    assert row is not None
    assert row["loss"] == pytest.approx(total / 33, rel=1e-5)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, bare.state_dict()[name])


@pytest.mark.parametrize(("size", "count"), [(1, 33), (16, 1)])
def test_batches_of_one_input_alone_are_told(size: int, count: int) -> None:
    with pytest.raises(InputError) as told:
        check_training(normed(), TrainConfig(batch_size=size), X[:count])
    assert str(told.value) == (
        f"train.batch_size: found {size} for {count} inputs, allowed: batches of at least 2, since "
        "batch normalisation has one value a channel in a batch of one"
    )


class Auxiliary(nn.Module):
    """Features, and in training something beside them."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.body = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.fails:
            raise KeyError("targets")
        return self.body(x)


class Inception(nn.Module):
    """Logits, and in training auxiliary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux, self.fc = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        z = self.body(x)
        return (self.fc(z), self.aux(z)) if self.training else self.fc(z)


def inception() -> Classifier:
    net, x = Inception().eval(), torch.rand(2, 4)
    model = Adopted.of(net, x, net(x))
    assert model is not None
    return model


def test_what_differs_in_training_mode_is_told() -> None:
    allowed = "; allowed: the logits alone, as in evaluation mode, or train.freeze: backbone"
    cases = {
        f"gives tuple, as with auxiliary logits{allowed}": inception(),
        f"fails: KeyError: 'targets'{allowed}": adopted(Auxiliary(fails=True)),
    }
    for words, model in cases.items():
        with pytest.raises(InputError) as told:
            check_training(model, TrainConfig(), X)
        assert str(told.value) == f"model.name: in training mode the network {words}"
        check_training(model, TrainConfig(freeze="backbone"), X)
    check_training(adopted(Auxiliary()), TrainConfig(), X)
