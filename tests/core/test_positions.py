"""A sample of positions: seeded, without padding, without repetition, even."""

import torch

from nervecode.core.positions import PositionSample


def test_each_input_gives_as_many_places_as_it_has() -> None:
    inputs, places = PositionSample(3).draw(4, 10)
    assert inputs.tolist() == [i for i in range(4) for _ in range(3)]
    assert all(len(set(places[inputs == i].tolist())) == 3 for i in range(4))
    assert len(PositionSample(30).draw(4, 10)[0]) == 40


def test_padding_is_not_drawn() -> None:
    real = torch.arange(10) < torch.tensor([[2], [10], [0]])
    inputs, places = PositionSample(3).draw(3, 10, real)
    assert torch.bincount(inputs, minlength=3).tolist() == [2, 3, 0]
    assert sorted(places[inputs == 0].tolist()) == [0, 1]


def test_the_draw_is_even_and_the_same_in_every_run() -> None:
    sample, again = PositionSample(1), PositionSample(1)
    counts = torch.zeros(5)
    for _ in range(100):
        _, places = sample.draw(50, 5)
        assert torch.equal(places, again.draw(50, 5)[1])
        counts += torch.bincount(places, minlength=5)
    assert (counts / 5000 - 0.2).abs().max() < 0.03  # five deviations
