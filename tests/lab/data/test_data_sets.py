"""Data sets: the catalogue, sets in files, tables of features, and outliers from pictures."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_wine
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5

from nervecode.errors import InputError, MissingExtraError, NervecodeError
from nervecode.lab.config.presets import presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data import locate as locating
from nervecode.lab.data import wheels
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.fetch import fetch
from nervecode.lab.data.images import fit_images
from nervecode.lab.data.locate import EXTRA, data_root, locate, places, require
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS, OUTLIERS, SHIFTS
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.doctor import examine
from nervecode.lab.models.build import build_model
from nervecode.lab.models.registry import MODELS
from nervecode.lab.schema import PATHS, DataConfig, ModelConfig
from tests.command_line import invoke
from tests.lab.data.archives import arrays, own_root, shrink, write

IDX = [name for name, entry in CATALOGUE.items() if entry.files]


def config(**values: object) -> DataConfig:
    return DataConfig.model_validate({"id": "wine", "hold_out": (1,)} | values)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty data folder, and no data of the system."""
    return own_root(monkeypatch, tmp_path / "data")


@pytest.fixture
def no_skimage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)


# The catalogue


def test_the_catalogue_lists_every_set_and_no_other() -> None:
    assert set(CATALOGUE) == {*DATASETS, *IMAGE_SETS, *OUTLIERS, *PATHS}


def test_data_live_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NERVECODE_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert places("kmnist") == [tmp_path / "kmnist", tmp_path / "KMNIST/raw"]
    assert places("fashion_mnist")[-1] == Path("/usr/share/datasets/fashion-mnist")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for empty in ("", None):
        if empty is None:
            monkeypatch.delenv("NERVECODE_DATA")
        else:
            monkeypatch.setenv("NERVECODE_DATA", empty)
        assert data_root() == tmp_path / "home/.cache/nervecode/data"


def test_a_user_without_a_home_has_no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NERVECODE_DATA", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", raising_key_error)
    assert data_root() is None
    assert places("kmnist") == places("cifar10") == []
    assert places("fashion_mnist") == [Path("/usr/share/datasets/fashion-mnist")]
    words = "no home folder for data; NERVECODE_DATA names a folder"
    with pytest.raises(InputError, match=f"kmnist is absent from {words}; get it"):
        require(["kmnist"])
    for name in ("kmnist", "cifar10"):
        with pytest.raises(InputError, match=f"data: this user has {words}"):
            fetch(name)
    parts = examine(Path("runs"))
    assert parts["data"]["folder"] == words
    assert parts["disk"].keys() == {"runs"}
    assert words in invoke("data").out + invoke("data").err
    assert json.loads(invoke("data", "--json").out)["folder"] is None
    monkeypatch.setenv("NERVECODE_DATA", "~/data")
    assert data_root() is None
    monkeypatch.setenv("NERVECODE_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")


def raising_key_error(number: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {number}")


def test_every_set_that_is_absent_is_told_with_its_command(root: Path, no_skimage: None) -> None:
    with pytest.raises(InputError) as caught:
        require(["kmnist", "digits", "textures", "mnist", "kmnist"])
    lines = str(caught.value).splitlines()
    assert lines == [
        f"data: kmnist is absent from {root}/kmnist, {root}/KMNIST/raw; "
        "get it: nervecode data fetch kmnist",
        "data: textures is absent from scikit-image, which is not installed; "
        "get it: pip install -e '.[data]' in the checkout",
        f"data: mnist is absent from {root}/mnist, {root}/MNIST/raw; "
        "get it: nervecode data fetch mnist",
    ]
    require(["digits", "wine", "uniform_noise", "a set of one's own"])


def test_splits_tell_all_that_is_absent_before_anything_else(root: Path) -> None:
    wanted = config(id="mnist", hold_out=(77,), near=("kmnist",), far=("emnist_letters:1",))
    with pytest.raises(InputError) as caught:
        build_splits(wanted)
    assert [line.split()[1] for line in str(caught.value).splitlines()] == [
        "mnist", "kmnist", "emnist_letters",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["textures", "faces"])
def test_without_scikit_image_one_sentence_says_what_to_install(
    name: str, no_skimage: None
) -> None:
    with pytest.raises(MissingExtraError) as caught:
        OUTLIERS[name]((1, 8, 8), seeded())
    assert str(caught.value).endswith("; get it: pip install -e '.[data]' in the checkout")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(MissingExtraError):
        build_splits(config(id="digits", far=(name,)))
    assert locate(name).command == EXTRA


def test_a_scikit_image_without_the_files_downloads_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(wheels, "find_spec", lambda name: spec)
    with pytest.raises(MissingExtraError, match=f"textures is absent from {tmp_path}/data"):
        require(["textures"])


def test_optional_sets_are_settled_when_a_config_is_resolved(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nmodel: {name: mlp}\n"
        'data: {id: digits, near: ["mnist:1,2?"], far: ["kmnist?", "wine?", uniform_noise]}\n'
    )
    found = resolve(file=file)
    assert found.left_out == ("mnist:1,2", "kmnist")
    assert found.config.data.near == ()
    assert found.config.data.far == ("wine", "uniform_noise")
    write(root / "kmnist", arrays(shrink(monkeypatch, "kmnist")), gzipped=True)
    found = resolve(file=file)
    assert found.left_out == ("mnist:1,2",)
    assert found.config.data.far == ("kmnist", "wine", "uniform_noise")
    file.write_text("name: mine\nmodel: {name: mlp}\ndata: {id: digits, far: ['kmnits?']}\n")
    with pytest.raises(InputError, match=r"unknown dataset 'kmnits'; did you mean 'kmnist'"):
        resolve(file=file)


# Sets in files


@pytest.mark.parametrize("name", IDX)
@pytest.mark.parametrize(("where", "gzipped"), [("own", True), ("own", False), ("theirs", False)])
def test_a_set_in_files_is_that_of_torchvision(
    name: str, where: str, gzipped: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = arrays(shrink(monkeypatch, name))
    files = CATALOGUE[name].files
    assert files is not None
    theirs = root / files.torchvision / "raw"
    write(root / name if where == "own" else theirs, made, gzipped=gzipped)
    source = DATASETS[name]()
    write(theirs, made, gzipped=False)
    assert source.test is not None
    for part, train in ((source.train, True), (source.test, False)):
        oracle = getattr(datasets, files.torchvision)(root, train=train, **files.options)
        images = oracle.data.float() / 255
        if name == "emnist_letters":  # torchvision leaves them lying on their side
            images = images.transpose(1, 2)
        torch.testing.assert_close(part.inputs[:, 0], images)
        assert torch.equal(part.labels, oracle.targets)
        assert part.inputs.dtype == torch.float32


def test_the_publishers_parts_stay_apart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = arrays(shrink(monkeypatch, "mnist"), classes=5)
    write(root / "mnist", made, gzipped=True)
    splits = build_splits(config(id="mnist", hold_out=(2,), near=("held_out",)))
    images, labels = (made[f"t10k-{part}-ubyte"] for part in ("images-idx3", "labels-idx1"))
    test = (splits.test.inputs[:, 0] * 255).round().numpy()
    np.testing.assert_array_equal(test, images[labels != 2])
    near = (splits.ood[0].samples.inputs[:, 0] * 255).round().numpy()
    np.testing.assert_array_equal(near, images[labels == 2])


def test_a_damaged_file_names_the_command_that_gets_it_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "kmnist", arrays(shrink(monkeypatch, "kmnist")), gzipped=False)
    path = root / "kmnist/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError) as caught:
        DATASETS["kmnist"]()
    assert str(caught.value).startswith(f"{path}: is cut short")
    assert str(caught.value).endswith("get it again: nervecode data fetch kmnist")


# Fetching


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Let torchvision's KMNIST come from a server of this machine, which serves a folder."""
    folder = tmp_path / "mirror"
    handler = partial(Quiet, directory=str(folder))
    monkeypatch.setenv("no_proxy", "*")

    def fill(made: dict[str, np.ndarray]) -> None:
        write(folder, made, gzipped=True)
        names = [f"{file}.gz" for file in made]
        resources = [(name, calculate_md5(str(folder / name))) for name in names]
        monkeypatch.setattr(datasets.KMNIST, "resources", resources)

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.KMNIST, "mirrors", [url])
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield fill
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def test_a_download_is_torchvisions_and_leaves_only_the_files(
    root: Path,
    mirror: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = arrays(shrink(monkeypatch, "kmnist"))
    mirror(made)
    assert fetch("kmnist") == str(root / "kmnist")
    assert [path.name for path in root.iterdir()] == ["kmnist"]
    assert {path.name.removesuffix(".gz") for path in (root / "kmnist").iterdir()} == set(made)
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(
        (DATASETS["kmnist"]().train.inputs[:, 0] * 255).round().numpy(),
        made["train-images-idx3-ubyte"],
    )


def test_what_is_here_is_not_fetched_again_unless_it_is_damaged(
    root: Path, mirror: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = arrays(shrink(monkeypatch, "kmnist"))
    write(root / "kmnist", made, gzipped=True)
    assert fetch("kmnist") == str(root / "kmnist")  # the server has nothing yet
    mirror(made)
    path = root / "kmnist/train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-4])
    assert fetch("kmnist") == str(root / "kmnist")
    assert len(DATASETS["kmnist"]().train) == len(made["train-labels-idx1-ubyte"])


def test_without_a_network_one_sentence_says_what_to_do(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink(monkeypatch, "kmnist")
    monkeypatch.setattr(datasets.KMNIST, "mirrors", [f"{(tmp_path / 'nowhere').as_uri()}/"])
    with pytest.raises(NervecodeError) as caught:
        fetch("kmnist")
    assert caught.value.exit_status == 1
    assert str(caught.value).startswith("data: kmnist could not be downloaded (")
    assert str(caught.value).endswith("nervecode data fetch kmnist --from DIR")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("gzipped", [False, True])
def test_files_are_copied_as_they_are(
    gzipped: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = arrays(shrink(monkeypatch, "mnist"))
    source = write(tmp_path / "source", made, gzipped=gzipped)
    write(root / "mnist", made, gzipped=not gzipped)  # an earlier copy of the other kind
    assert fetch("mnist", source=source) == str(root / "mnist")
    copied = {path.name: path.read_bytes() for path in (root / "mnist").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in source.iterdir()}
    assert fetch("mnist", source=root / "mnist") == str(root / "mnist")


@pytest.mark.parametrize("damage", ["absent", "cut", "wrong"])
def test_nothing_is_copied_from_a_folder_with_a_bad_file(
    damage: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "source", arrays(shrink(monkeypatch, "mnist")), gzipped=True)
    path = source / "t10k-labels-idx1-ubyte.gz"
    if damage == "absent":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte"):
        fetch("mnist", source=source)
    assert not root.exists()


def test_a_file_of_another_set_or_changed_content_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = shrink(monkeypatch, "mnist")
    shrink(monkeypatch, "fashion_mnist")
    made = arrays(shapes)
    source = write(tmp_path / "source", made, gzipped=False)
    digests = {file: sha256((source / file).read_bytes()).hexdigest() for file in shapes}
    entry = CATALOGUE["fashion_mnist"]
    assert entry.files is not None
    published = replace(entry, files=replace(entry.files, sha256=digests))
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", published)
    with pytest.raises(InputError, match="found a file of fashion_mnist, allowed: that of mnist"):
        fetch("mnist", source=source)
    assert fetch("fashion_mnist", source=source) == str(root / "fashion_mnist")
    changed = made | {"train-labels-idx1-ubyte": 2 - made["train-labels-idx1-ubyte"]}
    write(source, changed, gzipped=False)
    with pytest.raises(InputError, match="found other content than published"):
        fetch("fashion_mnist", source=source)


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_found_and_is_the_published_one(root: Path) -> None:
    assert fetch("fashion_mnist") == str(DEBIAN)  # checks the content
    source = DATASETS["fashion_mnist"]()
    assert source.test is not None
    for part, each in ((source.train, 6000), (source.test, 1000)):
        assert part.inputs.shape == (10 * each, 1, 28, 28)
        assert part.labels.bincount().tolist() == [each] * 10
        assert (float(part.inputs.min()), float(part.inputs.max())) == (0.0, 1.0)
    # Mean and deviation of the training images, as its users have published them.
    assert float(source.train.inputs.mean()) == pytest.approx(0.2860, abs=1e-4)
    assert float(source.train.inputs.std()) == pytest.approx(0.3530, abs=1e-4)


# Tables of features


@pytest.mark.parametrize(
    ("name", "load"), [("wine", load_wine), ("breast_cancer", load_breast_cancer)]
)
def test_tables_are_those_of_scikit_learn(name: str, load: object) -> None:
    features, labels = load(return_X_y=True)  # type: ignore[operator]
    source = DATASETS[name]()
    assert source.test is None
    assert source.train.inputs.dtype == torch.float32
    np.testing.assert_allclose(source.train.inputs.numpy(), features, rtol=1e-6)
    np.testing.assert_array_equal(source.train.labels.numpy(), labels)


def table(**values: object) -> Splits:
    return build_splits(config(**values))


def test_noise_of_features_is_in_units_of_each_ones_deviation() -> None:
    splits = table(shift=("noise:0.5",))
    x = splits.test.inputs.double()
    step = (splits.ood[0].samples.inputs.double() - x) / x.std(0, correction=0)
    assert abs(float(step.mean())) < 0.08
    assert abs(float(step.std()) - 0.5) < 0.08
    alone = SHIFTS["noise"](x[:1].float(), 1.0, seeded())
    assert torch.equal(alone, x[:1].float())  # one input has no deviation, and stays finite


def test_noise_sets_fill_the_range_of_each_feature_in_train() -> None:
    splits = table(far=("uniform_noise", "gaussian_noise"))
    low, high = splits.train.inputs.amin(0), splits.train.inputs.amax(0)
    for one in splits.ood:
        unit = (one.samples.inputs - low) / (high - low)
        assert unit.shape == (500, 13)
        assert float(unit.min()) > -1e-5
        assert float(unit.max()) < 1 + 1e-5
        assert torch.allclose(unit.mean(0), torch.full((13,), 0.5), atol=0.06)
    deviation = ((splits.ood[0].samples.inputs - low) / (high - low)).std(0)
    assert torch.allclose(deviation, torch.full((13,), 12**-0.5), atol=0.03)


@pytest.mark.parametrize("name", sorted(set(SHIFTS) - {"noise"}))
def test_shifts_of_images_refuse_features(name: str) -> None:
    with pytest.raises(InputError) as caught:
        table(shift=(name,))
    assert str(caught.value) == (
        f"data: the shift {name!r} is for images, found inputs of shape (13,); "
        "allowed for features: noise"
    )


@pytest.mark.parametrize(
    ("far", "shape"),
    [("digits", "(1, 8, 8)"), ("photo_patches", "(3, 64, 64)"), ("breast_cancer", "(30,)")],
)
def test_sets_of_another_form_refuse_features(far: str, shape: str) -> None:
    with pytest.raises(InputError) as caught:
        table(far=(far,))
    pictures = shape.count(",") == 2
    what, why = ("pictures", ", which are no pictures; the presets table and series are for such")
    words = f"{what if pictures else 'inputs'} of shape {shape} do not fit inputs of (13,)"
    assert str(caught.value) == f"data: the set {far!r}: {words}{why if pictures else ''}"


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"mlp", "embedding"}))
def test_models_of_images_and_series_refuse_features(name: str) -> None:
    with pytest.raises(InputError, match=rf"'{name}' takes (images|series) .* shape \(13,\)"):
        build_model(ModelConfig(name=name), DATASETS["wine"]().train, 3)


# Outliers from pictures


def test_textures_at_full_size_are_parts_of_the_pictures() -> None:
    folder = locating.pictures_folder()
    assert folder is not None
    found = OUTLIERS["textures"]((1, 64, 64), seeded())
    for index, name in enumerate(("brick", "grass", "gravel")):
        picture = np.array(Image.open(folder / f"{name}.png")) / 255
        patch = found[index, 0].numpy()
        windows = np.lib.stride_tricks.sliding_window_view(picture, (64, 64))
        corners = np.argwhere(np.abs(windows[..., 0, 0] - patch[0, 0]) < 1e-5)
        assert sum(np.allclose(windows[i, j], patch, atol=1e-5) for i, j in corners) == 1


def test_faces_are_the_first_hundred_of_scikit_image() -> None:
    from skimage.data import lfw_subset

    expected = torch.from_numpy(lfw_subset()[:100]).float().unsqueeze(1)
    found = OUTLIERS["faces"]((1, 25, 25), seeded())
    torch.testing.assert_close(found, expected)
    assert torch.equal(OUTLIERS["faces"]((1, 8, 8), seeded(3)), fit_images(expected, (1, 8, 8)))


# Presets


OWN = {
    "table": ["data.id=table:my.csv", "data.target=kind"],
    "series": ["data.id=series:my.ts"],
    "pictures": ["data.id=folder:mine"],
}


@pytest.mark.parametrize("name", OWN)
def test_presets_for_ones_own_data_ask_for_it(name: str) -> None:
    with pytest.raises(InputError, match=r"data\.id: the set '\w+' needs a path"):
        resolve(preset=name)
    with pytest.raises(InputError, match="command line: data: the set 'held_out' needs classes"):
        resolve(preset=name, overrides=[*OWN[name], "data.near=[held_out]"])
    plain = resolve(preset=name, overrides=OWN[name])
    assert plain.config.data.near == ()
    assert plain.left_out == ()
    held = resolve(preset=name, overrides=[*OWN[name], "data.hold_out=[ant]"])
    assert held.config.data.near == ("held_out",)


def test_presets_of_one_benchmark_share_their_protocol() -> None:
    base = resolve(preset="digits").config
    for name in presets():
        if name == "transfer_clipart" and find_spec("timm") is None:
            continue
        found = resolve(preset=name, overrides=OWN.get(name, ())).config
        assert found.name == name.rpartition("/")[2]
        if name.startswith(("digits", "fashion", "wine")):
            assert found.seeds == base.seeds
            assert found.signals == base.signals
            assert found.bench.detectors == base.bench.detectors
            assert found.bench.accuracy_gate > 0.5
            assert found.data.far
            assert found.data.shift


def test_the_presets_hold_out_what_their_names_say() -> None:
    for name in ("fashion_37", "fashion_28", "fashion_06", "fashion_59", "digits_05", "digits_37"):
        data = resolve(preset=name).config.data
        assert "".join(map(str, data.hold_out)) == name.rpartition("_")[2]
        assert data.near == ("held_out",)
    assert resolve(preset="fashion_10").config.data.hold_out == ()
