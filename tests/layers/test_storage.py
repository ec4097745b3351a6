"""save and load: round trips, other architectures, damaged files."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import nervecode
from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.layers import WrappedModel
from nervecode.layers.state import coder_specs
from nervecode.layers.storage import FORMAT, metadata, read_tensors
from tests.layers.zoo import ZOO, mlp


def fitted(model: nn.Module | None = None) -> WrappedModel:
    wrapped = nervecode.wrap(model or mlp(), "all_linear")
    batches = [(torch.randn(40, 6), torch.arange(40) % 4)]
    return wrapped.fit(batches).calibrate(batches)


def rewrite(path: Path, **changes: object) -> None:
    """Change the header of a file, and keep its tensors."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        about = {**json.loads(file.metadata()["nervecode"]), **changes}
    save_file(load_file(path), path, metadata={"nervecode": json.dumps(about)})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "codes.safetensors"
    fitted().save(path)
    return path


@pytest.mark.parametrize("kind", ["fitted", "learned", "shared"])
def test_round_trip(kind: str, tmp_path: Path) -> None:
    model = ZOO["shared"].build() if kind == "shared" else mlp()
    wrapped = nervecode.wrap(model, "all_linear") if kind == "learned" else fitted(model)
    path, x = tmp_path / "codes.safetensors", torch.randn(5, 6)
    wrapped.save(path)
    twin = nervecode.load(path, model)
    assert twin.layer_names == wrapped.layer_names
    (output, found), (expected_output, expected) = twin.score(x), wrapped.score(x)
    assert torch.equal(output, expected_output)
    assert torch.equal(found.surprise, expected.surprise)
    if kind != "learned":
        assert torch.equal(found.percentile, expected.percentile)
        assert torch.equal(found.p_value, expected.p_value)
    assert coder_specs(twin.coders) == coder_specs(wrapped.coders)


def test_saving_replaces_the_file_and_leaves_nothing_else(saved: Path) -> None:
    fitted().save(saved)
    assert os.listdir(saved.parent) == [saved.name]


def test_the_model_itself_is_not_in_the_file(saved: Path) -> None:
    own = ("coders.", "calibration.", "fit_hashes")
    assert all(key.startswith(own) for key in load_file(saved))


def test_a_coder_whose_width_is_not_known_yet_is_saved_as_such(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    nervecode.wrap(model, "1").save(tmp_path / "codes.safetensors")
    again = nervecode.load(tmp_path / "codes.safetensors", model)
    assert not again.coder("1").settled
    again(torch.randn(3, 6))
    assert again.coder("1").settled and again.surprise().num_layers == 1


def test_another_architecture_is_refused_with_the_first_difference(saved: Path) -> None:
    with pytest.raises(InputError, match=r"made for a model with a layer '4'.*Allowed: 0, 1, 2"):
        nervecode.load(saved, nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8)))
    wide = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    with pytest.raises(InputError, match="a layer '2' of width 8; Sequential has one of width 9"):
        nervecode.load(saved, wide)


def test_missing_and_foreign_files(saved: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        nervecode.load(saved.with_name("absent.safetensors"), mlp())
    saved.write_bytes(b"not a safetensors file at all")
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        nervecode.load(saved, mlp())
    save_file({"x": torch.zeros(1)}, saved)
    with pytest.raises(ArtifactError, match="found format None, allowed: 'nervecode-1'"):
        nervecode.load(saved, mlp())


def test_every_cut_is_found(saved: Path) -> None:
    whole = saved.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        saved.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=str(saved)):
            nervecode.load(saved, mlp())


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("{", "the header is damaged"),
        ({}, "do not fit their description"),
        ({"coders": {"0": {"kind": "fitted"}}}, "do not fit their description"),
    ],
)
def test_a_damaged_header_is_named(saved: Path, header: object, text: str) -> None:
    rewrite(saved, header=header)
    with pytest.raises(ArtifactError, match=text):
        nervecode.load(saved, mlp())


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    wrapped = fitted()
    paths = [tmp_path / f"{i}.safetensors" for i in range(6)]
    for path in paths:
        wrapped.save(path)
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_missing_tensor_is_named(saved: Path) -> None:
    header, _ = read_tensors(saved, FORMAT)
    del header["sha256"]  # as in files from before
    for lost, text in (
        ("coders.0.codes.mean", '"0.codes.mean"'),
        ("calibration.4", "calibration.4"),
    ):
        tensors = load_file(saved)
        del tensors[lost]
        path = saved.with_name("lost.safetensors")
        save_file(tensors, path, metadata=metadata(FORMAT, header))
        with pytest.raises(ArtifactError, match=text):
            nervecode.load(path, mlp())


def test_a_flipped_bit_in_the_header_is_a_clear_error_or_harmless(saved: Path) -> None:
    whole = bytearray(saved.read_bytes())
    end = 8 + int.from_bytes(whole[:8], "little")
    failed = 0
    for place in range(0, end, max(1, end // 150)):
        broken = whole.copy()
        broken[place] ^= 1 << (place % 7)
        saved.write_bytes(broken)
        try:
            nervecode.load(saved, mlp())
        except NervecodeError:
            failed += 1
    assert failed > 50


def test_a_flipped_bit_in_the_tensors_is_damage(saved: Path) -> None:
    whole = bytearray(saved.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole), max(1, (len(whole) - start) // 100)):
        broken = whole.copy()
        broken[place] ^= 1 << (place % 7)
        saved.write_bytes(broken)
        with pytest.raises(ArtifactError, match=rf"{saved}: is damaged \(its SHA-256 is not the o"):
            nervecode.load(saved, mlp())


def test_a_changed_number_in_the_header_is_damage(saved: Path) -> None:
    header, _ = read_tensors(saved, FORMAT)
    header["coders"]["0"]["reducer"]["length_power"] = 0.25
    rewrite(saved, header=header)
    with pytest.raises(ArtifactError, match="is damaged"):
        nervecode.load(saved, mlp())


@pytest.mark.filterwarnings("ignore:.*the model has other weights")
def test_a_file_from_before_has_no_hash(saved: Path) -> None:
    header, _ = read_tensors(saved, FORMAT)
    del header["sha256"]
    rewrite(saved, header=header)
    assert nervecode.load(saved, mlp()).calibration is not None
