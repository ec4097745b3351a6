"""Data: splits that never mix, sets with a stream of their own, shifts against oracles."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.transforms import functional as V1

from nervecode.errors import InputError
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.images import fit_images
from nervecode.lab.data.names import set_name
from nervecode.lab.data.registry import DATASETS, OUTLIERS, SHIFTS
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.schema import DataConfig

HELD_OUT = (8, 9)


def config(**values: object) -> DataConfig:
    defaults = {"id": "digits", "hold_out": HELD_OUT, "near": ("held_out",)}
    return DataConfig.model_validate(defaults | values)


def ood(splits: Splits, name: str) -> Samples:
    (found,) = [one.samples for one in splits.ood if one.name == name]
    return found


def keys(inputs: Tensor) -> list[bytes]:
    return [x.numpy().tobytes() for x in inputs]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Splits


def test_digits_are_those_of_scikit_learn() -> None:
    source = DATASETS["digits"]()
    data = load_digits()
    assert source.test is None
    assert source.train.inputs.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(source.train.inputs[:, 0].numpy() * 16, data.images)
    np.testing.assert_array_equal(source.train.labels.numpy(), data.target)


def test_the_splits_are_disjoint_and_complete() -> None:
    splits = build_splits(config())
    data = load_digits()
    parts = [splits.train.inputs, splits.calibration.inputs, splits.test.inputs]
    everything = sorted(key for part in [*parts, ood(splits, "digits_8_9").inputs]
                        for key in keys(part))  # fmt: skip
    images = torch.from_numpy(data.images / 16.0).float().unsqueeze(1)
    assert everything == sorted(keys(images))
    for one, other in combinations(parts, 2):
        assert not set(keys(one)) & set(keys(other))


def test_the_fractions_are_those_of_the_kept_classes() -> None:
    splits = build_splits(config(calibration_fraction=0.1, test_fraction=0.3))
    kept = int((load_digits().target < 8).sum())
    assert len(splits.test) == round(0.3 * kept)
    assert len(splits.calibration) == round(0.1 * kept)
    assert len(splits.train) == kept - len(splits.test) - len(splits.calibration)


def test_held_out_classes_are_the_near_set_and_nowhere_else() -> None:
    splits = build_splits(config(hold_out=(0, 5)))
    data = load_digits()
    near = ood(splits, "digits_0_5")
    images = torch.from_numpy(data.images / 16.0).float().unsqueeze(1)
    assert keys(near.inputs) == keys(images[np.isin(data.target, [0, 5])])
    assert splits.num_classes == 8
    assert sorted(splits.train.labels.unique().tolist()) == list(range(8))


def test_kept_classes_are_renumbered_in_order() -> None:
    splits = build_splits(config(hold_out=(0, 5)))
    data = load_digits()
    known = {x.tobytes(): t for x, t in zip((data.images / 16).astype(np.float32), data.target,
                                            strict=True)}  # fmt: skip
    originals = [1, 2, 3, 4, 6, 7, 8, 9]
    found = [known[key] for key in keys(splits.test.inputs)]
    assert found == [originals[label] for label in splits.test.labels.tolist()]


def test_the_same_config_gives_the_same_splits() -> None:
    one, other = (
        build_splits(config(far=("uniform_noise",))),
        build_splits(config(far=("uniform_noise",))),
    )
    assert [p.fingerprint for p in one.evaluated().values()] == [
        p.fingerprint for p in other.evaluated().values()
    ]
    assert one.train.fingerprint == other.train.fingerprint
    moved = build_splits(config(far=("uniform_noise",), split_seed=1))
    assert moved.train.fingerprint != one.train.fingerprint
    assert moved.test.fingerprint != one.test.fingerprint


def test_every_set_has_a_random_stream_of_its_own() -> None:
    alone = build_splits(config(far=("uniform_noise",), shift=("noise:0.3",)))
    among = build_splits(
        config(far=("photo_patches", "gaussian_noise", "uniform_noise"),
               shift=("noise:0.1", "noise:0.3"))
    )  # fmt: skip
    assert alone.test.fingerprint == among.test.fingerprint
    for name in ("uniform_noise", "noise_0.3"):
        assert ood(alone, name).fingerprint == ood(among, name).fingerprint


def test_limits_take_the_first_and_leave_calibration_alone() -> None:
    everything = build_splits(config(far=("uniform_noise",)))
    limited = build_splits(config(far=("uniform_noise",), limit_train=40), limit_eval=10)
    assert torch.equal(limited.train.inputs, everything.train.inputs[:40])
    assert torch.equal(limited.test.inputs, everything.test.inputs[:10])
    assert torch.equal(limited.calibration.inputs, everything.calibration.inputs)
    assert [len(one.samples) for one in limited.ood] == [10, 10]


def test_what_is_evaluated_is_named_after_its_files() -> None:
    splits = build_splits(config(far=("uniform_noise",), shift=("rotate:45",)))
    assert list(splits.evaluated()) == [
        "id_calibration", "id_test", "ood_digits_8_9", "ood_uniform_noise", "ood_rotate_45",
    ]  # fmt: skip
    assert [one.group for one in splits.ood] == ["near", "far", "shift"]


@pytest.mark.parametrize(
    ("spec", "name"),
    [("held_out", "digits_8_9"), ("rotate:45", "rotate_45"), ("noise:0.3", "noise_0.3"),
     ("digits:1,2", "digits_1_2"), ("hflip", "hflip")],
)  # fmt: skip
def test_names_of_sets_are_fit_for_files(spec: str, name: str) -> None:
    assert set_name(spec, config()) == name


def test_a_publishers_test_part_stays_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(60, 1, 2, 2)
    y = torch.arange(60) % 3
    source = Dataset(Samples(x, y), Samples(x[:12] + 1, y[:12]))
    monkeypatch.setitem(DATASETS, "two_parts", lambda: source)
    splits = build_splits(config(id="two_parts", hold_out=(1,)))
    kept = y[:12] != 1
    assert torch.equal(splits.test.inputs, x[:12][kept] + 1)
    assert splits.test.labels.tolist() == [{0: 0, 2: 1}[int(c)] for c in y[:12][kept]]
    assert torch.equal(ood(splits, "two_parts_1").inputs, x[:12][~kept] + 1)
    assert len(splits.train) + len(splits.calibration) == 40


def test_another_data_set_is_fitted_to_the_shape_of_the_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Dataset(Samples(torch.rand(30, 3, 16, 16), torch.arange(30) % 3))
    monkeypatch.setitem(DATASETS, "colour", lambda: source)
    splits = build_splits(config(far=("colour", "colour:1,2")))
    expected = fit_images(source.train.inputs, (1, 8, 8))
    assert torch.equal(ood(splits, "colour").inputs, expected)
    assert torch.equal(ood(splits, "colour_1_2").inputs, expected[torch.arange(30) % 3 > 0])
    assert set(ood(splits, "colour").labels.tolist()) == {-1}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hold_out": (12,)}, "data.hold_out: digits has no class 12; allowed: 0, 1, 2"),
        ({"hold_out": tuple(range(9))}, "fewer than two classes of digits would be left"),
        ({"far": ("digits:11",)}, "the set 'digits:11' is empty: no such class"),
        ({"far": ("digits:a",)}, "the set 'digits:a': found 'a', allowed: numbers"),
        ({"near": ("held_out:3",)}, "the set 'held_out:3': found '3', allowed: no argument"),
        ({"far": ("uniform_noise:2",)}, "found '2', allowed: no argument"),
        ({"shift": ("noise:nan",)}, "the set 'noise:nan': found 'nan', allowed: numbers"),
        ({"shift": ("noise:-1",)}, "the shift 'noise': found -1, allowed: above 0"),
        (
            {"shift": ("blur:-1",)},
            "the shift 'blur': found -1, allowed for pictures of 8 x 8 pixels: above 0",
        ),
        (
            {"near": ("held_out", "digits:8,9")},
            "the OOD sets 'held_out' and 'digits:8,9' are the same",
        ),
        ({"test_fraction": 0.0001}, "the test split of 'digits' holds 0 samples"),
        ({"limit_train": 1}, "the train split of 'digits' holds 1 samples"),
    ],
)
def test_impossible_splits_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        build_splits(config(**values))
    assert words in str(caught.value)


# Shifts


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 9, 8, generator=seeded(1))


def test_flips_are_those_of_numpy(images: Tensor) -> None:
    x = images.numpy()
    np.testing.assert_array_equal(SHIFTS["hflip"](images, None, seeded()), x[..., ::-1])
    np.testing.assert_array_equal(SHIFTS["vflip"](images, None, seeded()), x[..., ::-1, :])


def test_a_quarter_turn_is_that_of_numpy() -> None:
    square = torch.rand(4, 1, 8, 8, generator=seeded(2))
    turned = SHIFTS["rotate"](square, None, seeded())
    np.testing.assert_allclose(turned, np.rot90(square.numpy(), axes=(-2, -1)), atol=1e-5)


@pytest.mark.parametrize("degrees", [10.0, 45.0, -30.0])
def test_rotation_is_bilinear_about_the_centre_into_black(images: Tensor, degrees: float) -> None:
    expected = ndimage.rotate(
        images.double().numpy(), degrees, axes=(-1, -2), reshape=False, order=1,
        mode="grid-constant",
    )  # fmt: skip
    found = SHIFTS["rotate"](images, degrees, seeded())
    np.testing.assert_allclose(found, expected, atol=1e-4)
    torch.testing.assert_close(found, V1.rotate(images, degrees, V1.InterpolationMode.BILINEAR))


@pytest.mark.parametrize("sigma", [None, 0.7, 1.3])
def test_blur_is_a_separable_gaussian(images: Tensor, sigma: float | None) -> None:
    deviation = sigma or 1.0
    radius = round(3 * deviation)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(images.double().numpy(), [(0, 0), (0, 0), (radius,) * 2, (radius,) * 2],
                    mode="reflect")  # fmt: skip
    rows = np.apply_along_axis(np.convolve, -1, padded, kernel, mode="valid")
    expected = np.apply_along_axis(np.convolve, -2, rows, kernel, mode="valid")
    np.testing.assert_allclose(SHIFTS["blur"](images, sigma, seeded()), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [None, 0.4, 2.0])
def test_contrast_is_about_each_images_own_mean(images: Tensor, factor: float | None) -> None:
    x = images.numpy()
    mean = x.reshape(5, -1).mean(1)[:, None, None, None]
    expected = np.clip(mean + (factor or 0.4) * (x - mean), 0, 1)
    np.testing.assert_allclose(SHIFTS["contrast"](images, factor, seeded()), expected, atol=1e-6)


def test_noise_is_normal_of_the_stated_deviation() -> None:
    grey = torch.full((40, 1, 16, 16), 0.5)
    found = SHIFTS["noise"](grey, 0.05, seeded()) - grey
    assert abs(float(found.mean())) < 0.002
    assert abs(float(found.std()) - 0.05) < 0.002
    strong = SHIFTS["noise"](grey, None, seeded())
    assert float(strong.min()) == 0.0
    assert float(strong.max()) == 1.0
    assert torch.equal(strong, SHIFTS["noise"](grey, 0.3, seeded()))


@pytest.mark.parametrize("name", sorted(SHIFTS))
def test_a_shift_keeps_shape_range_and_input(name: str, images: Tensor) -> None:
    before = images.clone()
    found = SHIFTS[name](images, None, seeded())
    assert found.shape == images.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1 + 1e-6
    assert torch.equal(images, before)
    assert torch.equal(found, SHIFTS[name](images, None, seeded()))


# Outliers and images


@pytest.mark.parametrize("name", sorted(OUTLIERS))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 10)])
def test_outliers_have_the_shape_of_the_inputs(name: str, shape: tuple[int, ...]) -> None:
    found = OUTLIERS[name](shape, seeded())
    assert found.shape == (100 if name == "faces" else 500, *shape)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert torch.equal(found, OUTLIERS[name](shape, seeded()))
    assert torch.equal(found, OUTLIERS[name](shape, seeded(1))) == (name == "faces")


def test_noises_have_their_moments() -> None:
    uniform = OUTLIERS["uniform_noise"]((1, 16, 16), seeded())
    assert abs(float(uniform.mean()) - 0.5) < 0.005
    assert abs(float(uniform.var()) - 1 / 12) < 0.002
    normal = OUTLIERS["gaussian_noise"]((1, 16, 16), seeded())
    assert abs(float(normal.median()) - 0.5) < 0.005
    inside = (normal - 0.5).abs() < 0.25
    assert abs(float(inside.float().mean()) - 0.6827) < 0.01


def test_patches_at_full_size_are_parts_of_the_photographs() -> None:
    from sklearn.datasets import load_sample_images

    photographs = [image / 255 for image in load_sample_images().images]
    patch = OUTLIERS["photo_patches"]((3, 64, 64), seeded())[0].permute(1, 2, 0).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(photographs[0][..., 0], (64, 64))
    corners = np.abs(windows[..., 0, 0] - patch[0, 0, 0]) < 1e-6
    hits = [(i, j) for i, j in np.argwhere(corners)
            if np.allclose(photographs[0][i : i + 64, j : j + 64], patch, atol=1e-6)]  # fmt: skip
    assert len(hits) == 1


def test_grey_is_that_of_pillow() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    grey = np.array(Image.fromarray(pixels).convert("L"))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    np.testing.assert_allclose(fit_images(x, (1, 6, 7))[0, 0] * 255, grey, atol=1.01)


def test_grey_becomes_three_equal_planes() -> None:
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(fit_images(x, (3, 4, 4)), x.repeat(1, 3, 1, 1))


def test_resizing_down_by_a_whole_factor_keeps_a_constant_and_the_mean() -> None:
    assert torch.allclose(fit_images(torch.full((1, 1, 16, 16), 0.3), (1, 4, 4)), torch.tensor(0.3))
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    found = fit_images(ramp, (1, 8, 8))[0, 0, 0]
    assert torch.all(found.diff() > 0)
    assert abs(float(found.mean()) - 0.5) < 1e-5


@pytest.mark.parametrize(("images", "shape"), [((2, 3), (1, 4, 4)), ((2, 1, 4, 4), (16,))])
def test_what_is_no_image_is_refused(images: tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="do not fit inputs"):
        fit_images(torch.rand(images), shape)


# Samples and registries


def test_the_fingerprint_is_a_hash_of_shape_inputs_and_labels() -> None:
    x, y = torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0])
    digest = hashlib.sha256(b"[(3, 2), 'torch.float32']")
    digest.update(np.arange(6, dtype=np.float32).tobytes())
    digest.update(np.array([0, 1, 0], dtype=np.int64).tobytes())
    found = Samples(x, y).fingerprint
    assert found == digest.hexdigest()
    assert Samples(x.T.contiguous().T, y).fingerprint == found
    assert Samples(x, y.flip(0) + 1).fingerprint != found
    assert Samples(x.view(3, 2, 1), y).fingerprint != found
    assert Samples(x + 1e-6, y).fingerprint != found


def test_batches_are_all_samples_in_order() -> None:
    samples = Samples(torch.arange(10.0).view(10, 1), torch.arange(10))
    batches = list(samples.batches(4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in batches]), samples.inputs)
    assert torch.equal(torch.cat([y for _, y in batches]), samples.labels)
