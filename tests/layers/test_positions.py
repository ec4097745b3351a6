"""Codes by position: one surprise per token, pixel, place or box."""

from __future__ import annotations

import time
import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError

SIDE = 12


class Segmenter(nn.Module):
    """(B, 3, H, W) -> (B, 2, H/2, W/2), with a layer at full resolution and one at half."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Conv2d(3, 6, 3, padding=1)
        self.coarse = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.coarse(self.fine(x).relu()).relu())


def pictures(number: int, seed: int) -> Tensor:
    return torch.randn(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def segmenter(layers: list[str]) -> nervecode.WrappedModel:
    wrapped = nervecode.wrap(Segmenter().eval(), layers)
    wrapped.fit([pictures(50, s) for s in range(3)], by_position=True)
    return wrapped.calibrate([pictures(100, s) for s in range(5, 8)])


def test_a_segmentation_model_gives_a_map_that_shows_where() -> None:
    wrapped = segmenter(["fine", "coarse"])
    x = pictures(4, 99)
    x[2, :, 3:5, 8:10] = 8.0  # a corner of one picture is far away
    with torch.no_grad():
        output, surprise = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    assert surprise.surprise.shape == surprise.p_value.shape == (4, SIDE, SIDE)
    assert surprise.valid.shape == surprise.flag(0.05).shape == (4, SIDE, SIDE)
    assert surprise.by_layer.shape == (4, SIDE, SIDE, 2)
    assert surprise.layer("coarse").shape == (4, SIDE, SIDE)
    picture, row, column = torch.unravel_index(surprise.surprise.argmax(), surprise.surprise.shape)
    assert int(picture) == 2
    assert 2 <= int(row) <= 5
    assert 7 <= int(column) <= 10


def test_a_coarser_layer_is_repeated_over_its_places() -> None:
    wrapped = segmenter(["fine", "coarse"])
    with torch.no_grad():
        coarse = wrapped.score(pictures(3, 98))[1].layer("coarse")
    assert torch.equal(coarse, coarse[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_p_values_hold_for_every_position() -> None:
    """One random place of each calibration input: a random place of a new one is like it."""
    wrapped = segmenter(["fine"])
    with torch.no_grad():
        p = wrapped.score(pictures(300, 97))[1].p_value
    middle = p[:, 2:-2, 2:-2]
    assert float((p <= 0.05).double().mean()) == pytest.approx(0.05, abs=0.04)
    assert float((middle <= 0.05).double().mean()) == pytest.approx(0.05, abs=0.04)


class Tagger(nn.Module):
    """(B, T) words -> (B, T, 3)."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(30, 16)
        self.lstm = nn.LSTM(16, 8, bidirectional=True, batch_first=batch_first)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.words(input_ids)
        first = self.lstm.batch_first
        states = self.lstm(x if first else x.transpose(0, 1))[0]
        return self.head(states if first else states.transpose(0, 1))


def words(number: int, seed: int, length: int = 9) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 25, (number, length), generator=generator)
    lengths = torch.randint(3, length + 1, (number, 1), generator=generator)
    return {"input_ids": ids, "attention_mask": 1 * (torch.arange(length) < lengths)}


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_token_classifier_gives_one_value_per_token(batch_first: bool) -> None:
    wrapped = nervecode.wrap(Tagger(batch_first), ["words", "lstm", "head"])
    wrapped.fit([words(60, s) for s in range(3)], by_position=True)
    wrapped.calibrate([words(60, s) for s in range(4, 6)])
    batch = words(5, 9)
    batch["input_ids"][3, 2] = 29  # a word that training never showed
    with torch.no_grad():
        _, surprise = wrapped.score(**batch)
    assert surprise.surprise.shape == (5, 9)
    assert surprise.layer("words").argmax() == 3 * 9 + 2
    assert wrapped.score(**words(5, 10, length=4))[1].p_value.shape == (5, 4)


def test_padding_is_neither_fitted_nor_calibrated() -> None:
    """Garbage at padded positions changes no code."""

    def garbage(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        padded = batch["attention_mask"] == 0
        return {**batch, "input_ids": batch["input_ids"].masked_fill(padded, 27)}

    results = []
    for change in (dict, garbage):
        wrapped = nervecode.wrap(Tagger(), ["words"])
        wrapped.fit([change(words(60, s)) for s in range(3)], by_position=True)
        wrapped.calibrate([change(words(60, s)) for s in range(4, 6)])
        results.append(wrapped.score(**words(5, 9))[1].p_value)
    assert torch.equal(*results)


class Packed(nn.Module):
    """An encoder that packs its sequences, as PyTorch's does in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.lstm = nn.Embedding(30, 8), nn.LSTM(8, 8, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        lengths = attention_mask.sum(1)
        rows = nn.utils.rnn.pack_padded_sequence(
            self.words(input_ids), lengths, batch_first=True, enforce_sorted=False
        )
        return self.lstm(rows)[1][0][-1]


def test_packed_sequences_by_position_are_as_long_as_their_mask() -> None:
    wrapped = nervecode.wrap(Packed(), ["words", "lstm"])
    wrapped.fit([words(60, s) for s in range(3)], by_position=True)
    wrapped.calibrate([words(60, s) for s in range(4, 6)])
    batch = words(4, 9)
    batch["attention_mask"][:, 7:] = 0  # no text is as long as the mask
    assert wrapped.score(**batch)[1].by_layer.shape == (4, 9, 2)
    mask = batch["attention_mask"]
    message = "layer 'lstm' is not coded: .* a ragged sequence of 7 steps"
    with pytest.warns(UserWarning, match=message):
        assert not wrapped.score(batch["input_ids"], mask, mask=mask[:, :5])[1].valid.any()


class Boxes(nn.Module):
    """A detector's end: each picture gives three boxes, and these are classified in one row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.box = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        boxes = self.body(x)[:, :, :3, 0].transpose(1, 2)  # (B, 3, 8)
        return self.box(boxes.reshape(-1, 8))


def test_a_layer_whose_rows_are_boxes_gives_one_per_box() -> None:
    wrapped = nervecode.wrap(Boxes().eval(), ["box"])
    wrapped.fit([pictures(40, s) for s in range(2)], by_position=True)
    wrapped.calibrate([pictures(40, 3)])
    with torch.no_grad():
        output, surprise = wrapped.score(pictures(5, 4))
    assert surprise.p_value.shape == (len(output),) == (15,)


def test_a_layer_without_positions_beside_others_is_refused_by_name() -> None:
    class Both(Segmenter):
        def __init__(self) -> None:
            super().__init__()
            self.vector = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.coarse(self.fine(x))
            return self.vector(maps.mean((2, 3)))

    wrapped = nervecode.wrap(Both().eval(), ["fine", "vector"])
    with pytest.warns(UserWarning, match=r"layer 'vector' is not coded: .* of other layers"):
        wrapped.fit([pictures(40, 0)], by_position=True)
    wrapped.calibrate([pictures(40, 1)])
    assert wrapped.score(pictures(2, 2))[1].by_layer.shape == (2, SIDE, SIDE, 1)


def test_codes_by_position_are_saved(tmp_path) -> None:
    wrapped = segmenter(["fine", "coarse"])
    wrapped.save(tmp_path / "codes.safetensors")
    again = nervecode.load(tmp_path / "codes.safetensors", Segmenter().eval())
    x = pictures(2, 5)
    assert torch.equal(again.score(x)[1].p_value, wrapped.score(x)[1].p_value)


def test_labels_of_pixels_are_refused_with_a_hint() -> None:
    wrapped = nervecode.wrap(Segmenter(), ["fine"])
    labels = torch.zeros(4, SIDE, SIDE, dtype=torch.long)
    with pytest.raises(InputError, match="labels"):
        wrapped.fit([(pictures(4, 0), labels)], by_position=True)
    wrapped.fit([(pictures(40, 0), labels)], by_position=True, labels=lambda batch: None)


@pytest.mark.slow
def test_deeplab_fits_sixteen_pictures_in_seconds() -> None:
    torch.manual_seed(0)
    model = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21
    ).eval()
    wrapped = nervecode.wrap(model, ["backbone.4", "backbone.16", "classifier.0", "classifier.4"])
    data = [torch.randn(4, 3, 160, 160) for _ in range(8)]
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 16 pictures are too few for an alpha of 1 %
        wrapped.fit(data[:4], by_position=True).calibrate(data[4:])
    assert time.perf_counter() - start < 60
    with torch.no_grad():
        output, surprise = wrapped.score(data[0])
    assert output["out"].shape == (4, 21, 160, 160)
    assert surprise.p_value.shape == (4, 20, 20)


def test_sequences_without_a_place_leave_the_model_its_answer() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    wrapped = nervecode.wrap(model).fit([torch.randn(50, 6, 8)], by_position=True)
    wrapped.calibrate([torch.randn(120, 6, 8)])
    assert wrapped(torch.randn(2, 0, 8)).shape == (2, 0, 3)
    output, surprise = wrapped.score(torch.randn(2, 0, 8))
    assert output.shape == (2, 0, 3) and surprise.score.numel() == 0


def test_weights_and_classes_are_those_of_inputs_with_a_real_place() -> None:
    """An input that is all padding has no place to draw."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, real = torch.randn(200, 6, 8), torch.ones(200, 6)
    real[7] = 0
    wrapped = nervecode.wrap(model).fit([x], by_position=True, mask=lambda _: real)
    wrapped.calibrate([x], mask=lambda _: real, weights=lambda batch: 1.0 + torch.arange(200))
    assert wrapped.calibration is not None and wrapped.calibration.weights is not None
    assert wrapped.calibration.weights[6:8].tolist() == [7, 9]


def test_a_layer_of_other_places_than_the_mask_is_refused_and_the_others_fitted() -> None:
    """It ended the fit."""

    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv1d(8, 8, 3, padding=1), nn.Conv1d(8, 8, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)).mean(2)

    x, real = torch.randn(200, 8, 11), torch.arange(11) < torch.randint(4, 12, (200, 1))
    wrapped = nervecode.wrap(Strided().eval(), ["first", "second"])
    with pytest.warns(UserWarning, match="layer 'second' is not coded"):
        wrapped.fit([x], by_position=True, mask=lambda _: real)
    wrapped.calibrate([x], mask=lambda _: real)
    assert wrapped.calibration is not None and list(wrapped.calibration.layers) == ["first"]
