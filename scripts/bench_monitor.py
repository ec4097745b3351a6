#!/usr/bin/env python
"""What the monitor promises and what it sees.

    python scripts/bench_monitor.py null [--streams 1000] [--length 10000]
    python scripts/bench_monitor.py ties [--streams 1000] [--length 10000]
    python scripts/bench_monitor.py speed
    python scripts/bench_monitor.py change [--streams 40] [--calibration 1000] [--others CUSUM,MMD]

`null`: shares of streams without a change that raise an alarm, and run lengths, beside a plain
martingale, which takes p-values of one calibration set for independent.

`ties`: the same shares for scores of which many are equal, by a monitor that was given the
calibration scores, and by one that was given their number alone.

`speed`: processor time of one update.

`change`: a small network learns eight classes of Fashion-MNIST (`nervecode data fetch`); a stream
of held-out inputs changes at a known place. Median delays of the monitor stand beside CUSUM,
ADWIN, KSWIN (river) and the online MMD (alibi-detect; MMD over 20 inputs, MMD-100 over 100) on the
same scores, each with its threshold set for the same share of false alarms. They run in an
environment of their own, which is made the first time (`--environment DIR`). `--others ""` leaves
them out; on 20 streams KSWIN and each MMD take five to ten minutes.
"""

from __future__ import annotations

import argparse
import json
import site
import subprocess
import time
import venv
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np

from nervecode.monitor import ClassRanks, Monitor
from nervecode.monitor.bettors import LOG_WEIGHTS, UNIT, prices

SIZES = (100, 1000, 10_000)  # calibration inputs
HELD_OUT = (2, 8)  # pullovers and bags
BEFORE, AFTER = 500, 3000  # inputs before and after the change
RUN_LENGTH = 10_000
STRENGTHS = np.round(np.arange(1, 11) * 0.05, 2)  # of noise, in units of the pixels' range
RIVALS = Path(__file__).with_name("bench_monitor_rivals.py")


def p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    n = len(calibration)
    return (1 + n - np.searchsorted(np.sort(calibration), scores)) / (n + 1)


def first(raised: np.ndarray, otherwise: int) -> int:
    return int(raised.argmax()) + 1 if raised.any() else otherwise


def null(streams: int, length: int) -> None:
    print(f"{streams} streams of {length:,} inputs without a change\n")
    print("| n | alarms at alpha 0.05 | plain martingale | inputs to an alarm, 1,000 stated |")
    print("| ---: | ---: | ---: | ---: |")
    for n in SIZES:
        rng = np.random.default_rng(n)
        grid = prices(np.arange(1, n + 2) / (n + 1)).mean(0) / UNIT
        ever, plain, lengths = [], [], []
        for _ in range(streams):
            p = p_values(rng.normal(size=n), rng.normal(size=length))
            ever.append((Monitor(n, alpha=0.05).update_many(p) >= np.log10(20)).any())
            wealth = np.log(prices(p) / UNIT / grid).cumsum(0) + LOG_WEIGHTS
            plain.append((np.logaddexp.reduce(wealth, 1) >= np.log(20)).any())
            lengths.append(first(Monitor(n, run_length=1000).update_many(p) >= 3, length))
        print(
            f"| {n:,} | {np.mean(ever):.3f} +- {np.std(ever) / streams**0.5:.3f} | "
            f"{np.mean(plain):.3f} | at least {np.mean(lengths):,.0f}, median "
            f"{np.median(lengths):,.0f} |",
            flush=True,
        )


def _harmonic(rng: np.random.Generator, n: int) -> np.ndarray:
    """-log2 of the harmonic combination of the p-values of four dependent layers, cut at p = 1."""
    surprise = rng.normal(size=(n, 4)) + rng.normal(size=(n, 1))
    p = np.vectorize(NormalDist(0, 2**0.5).cdf)(-surprise)
    return -np.log2(np.minimum(np.e * np.log(4) * 4 / (1 / p).sum(1), 1.0))


TIED: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "four values": lambda rng, n: rng.integers(0, 4, n).astype(float),
    "four values, the highest 2 %": lambda rng, n: rng.choice(4, n, p=[0.7, 0.2, 0.08, 0.02]),
    "half at the lowest value": lambda rng, n: np.maximum(rng.normal(size=n), 0),
    "half at the highest value": lambda rng, n: np.minimum(rng.normal(size=n), 0),
    "harmonic, cut at 0 bits": _harmonic,
    "no ties": lambda rng, n: rng.normal(size=n),
}


def ties(streams: int, length: int) -> None:
    print(f"{streams} streams of {length:,} inputs without a change, alpha 0.05\n")
    print("| score | n | given the scores | given n alone |\n| --- | ---: | ---: | ---: |")
    for name, draw in TIED.items():
        for n in SIZES[:2]:
            rng = np.random.default_rng(n)
            told, counted = [], []
            for _ in range(streams):
                calibration = draw(rng, n)
                p = p_values(calibration, draw(rng, length))
                for monitor, alarms in ((calibration, told), (n, counted)):
                    evidence = Monitor(monitor, alpha=0.05).update_many(p)
                    alarms.append((evidence >= np.log10(20)).any())
            print(f"| {name} | {n:,} | {np.mean(told):.3f} | {np.mean(counted):.3f} |", flush=True)


def speed() -> None:
    rng = np.random.default_rng(0)
    names = [f"layer{i}" for i in range(10)]
    p = (rng.integers(1, 1002, 20_000) / 1001).tolist()
    layers = list(rng.integers(1, 1002, (20_000, 10)) / 1001)
    classes = {c: 1000 for c in range(10)}

    def timed(name: str, monitor: Monitor, inputs: list[dict[str, object]]) -> None:
        begin = time.process_time()
        for value, more in zip(p, inputs, strict=True):
            monitor.update(value, **more)  # type: ignore[arg-type]
        print(f"{name:<24}{(time.process_time() - begin) / len(p) * 1e6:8.1f} us an update")

    timed("one number", Monitor(1000, run_length=1e9), [{}] * len(p))
    timed("one number, alpha", Monitor(1000, alpha=1e-6), [{}] * len(p))
    timed("ten layers", Monitor(1000, layers=names), [{"layers": row} for row in layers])
    timed("ten classes", Monitor(classes), [{"predicted": i % 10} for i in range(len(p))])
    begin = time.process_time()
    Monitor(1000, run_length=1e9).update_many(np.array(p))
    print(f"{'many at once':<24}{(time.process_time() - begin) / len(p) * 1e6:8.1f} us an input")


def make_scores(path: Path) -> None:
    """Scores of held-out inputs by a small network: ID, near-OOD, and under noise."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    import nervecode
    from nervecode.lab.data.registry import DATASETS

    torch.manual_seed(0)
    samples = DATASETS["fashion_mnist"]().train
    x, labels = samples.inputs.float().div(255 if samples.inputs.max() > 1 else 1), samples.labels
    kept = [c for c in range(10) if c not in HELD_OUT]
    known = torch.isin(labels, torch.tensor(kept)).nonzero()[:, 0]
    known = known[torch.randperm(len(known))]
    y = torch.tensor([kept.index(c) if c in kept else -1 for c in range(10)])[labels]
    train, score, rest = known[:10_000], known[10_000:12_000], known[12_000:]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(kept)),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(10):
        for images, target in DataLoader(TensorDataset(x[train], y[train]), 64, shuffle=True):
            loss = nn.functional.cross_entropy(model(images), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    wrapped = nervecode.wrap(model)
    wrapped.fit(DataLoader(TensorDataset(x[train], y[train]), 256))
    wrapped.calibrate(DataLoader(TensorDataset(x[score], y[score]), 256))

    def scored(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        scores, predicted = [], []
        with torch.no_grad():
            for batch in images.split(500):
                predicted.append(wrapped(batch).argmax(1))
                scores.append(wrapped.surprise().surprise)
        return torch.cat(scores).double().numpy(), torch.cat(predicted).numpy()

    arrays: dict[str, np.ndarray] = {"label": y[rest].numpy()}
    arrays["id"], arrays["id_class"] = scored(x[rest])
    strange = torch.isin(labels, torch.tensor(HELD_OUT))
    arrays["near"], arrays["near_class"] = scored(x[strange][:6000])
    for strength in STRENGTHS:
        noisy = x[rest[:6000]] + strength * torch.randn(6000, *x.shape[1:])
        arrays[f"noise {strength:g}"], arrays[f"noise {strength:g}_class"] = scored(noisy)
    accuracy = (arrays["id_class"] == arrays["label"]).mean()
    print(f"accuracy {accuracy:.3f} on {len(rest):,} held-out inputs of {len(kept)} classes")
    np.savez_compressed(path, **arrays)


Stream = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray
]  # calibration, its classes, stream, ...


def draw(arrays: dict[str, np.ndarray], scenario: str, n: int, seed: int) -> Stream:
    """A calibration set and a stream that share no input, with predicted classes of both."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(arrays["id"]))
    calibration, order = order[:n], order[n : n + BEFORE + AFTER]
    scores, classes = arrays["id"][order].copy(), arrays["id_class"][order].copy()
    late, t = np.arange(BEFORE + AFTER) >= BEFORE, np.arange(BEFORE + AFTER) - BEFORE
    kind, _, amount = scenario.partition(" ")
    if kind == "near":
        _replace(
            scores, classes, late & (rng.random(len(t)) < float(amount) / 100), arrays, "near", rng
        )
    elif kind == "noise" and amount == "growing":
        for step, strength in enumerate(STRENGTHS):
            within = late & (t // 200 == step) if step < 9 else late & (t // 200 >= 9)
            _replace(scores, classes, within, arrays, f"noise {strength:g}", rng)
    elif kind == "noise":
        _replace(scores, classes, late, arrays, scenario, rng)
    elif kind == "balance":
        used = np.concatenate([calibration, order])
        spare = np.setdiff1d(np.flatnonzero(arrays["label"] == int(amount)), used)
        where = np.flatnonzero(late & (rng.random(len(t)) < 0.5))[: len(spare)]
        chosen = rng.permutation(spare)[: len(where)]
        scores[where], classes[where] = arrays["id"][chosen], arrays["id_class"][chosen]
        end = where[-1] + 1 if len(where) == len(spare) else len(scores)
        scores, classes = scores[:end], classes[:end]
    return arrays["id"][calibration], arrays["id_class"][calibration], scores, classes


def _replace(
    scores: np.ndarray, classes: np.ndarray, where: np.ndarray, arrays: dict[str, np.ndarray],
    name: str, rng: np.random.Generator,
) -> None:  # fmt: skip
    chosen = rng.integers(0, len(arrays[name]), int(where.sum()))
    scores[where], classes[where] = arrays[name][chosen], arrays[f"{name}_class"][chosen]


SCENARIOS = (
    "near 100", "near 20", "near 5", "near 1",
    "noise 0.1", "noise 0.2", "noise 0.4", "noise growing", "balance 4", "balance 0",
)  # fmt: skip


def monitored(stream: Stream, by_class: bool) -> int:
    """The input at which the monitor raises its alarm; 0 for none."""
    calibration, calibration_classes, scores, classes = stream
    p = p_values(calibration, scores)
    if not by_class:
        raised = Monitor(len(calibration), run_length=RUN_LENGTH).update_many(p)
    else:
        ranks = ClassRanks(calibration, calibration_classes, classes=list(range(8)))
        own = np.array(
            [ranks.p_value(x, c) for x, c in zip(p.tolist(), classes.tolist(), strict=True)]
        )
        raised = Monitor(ranks.counts, run_length=RUN_LENGTH).update_many(own, predicted=classes)
    return first(raised >= np.log10(RUN_LENGTH), 0)


def change(streams: int, environment: Path, scores: Path, n: int, others: str) -> None:
    if not scores.exists():
        make_scores(scores)
    with np.load(scores) as file:
        arrays = dict(file)
    near = (arrays["near"][:, None] > arrays["id"][None, :3000]).mean()
    print(
        f"near-OOD AUROC of the score {near:.3f}; {n:,} calibration inputs; {streams} streams each"
    )
    drawn = {
        name: [draw(arrays, name, n, seed) for seed in range(streams)]
        for name in ("none", *SCENARIOS)
    }
    found = {
        "monitor": {k: [monitored(s, False) for s in v] for k, v in drawn.items()},
        "monitor, by class": {k: [monitored(s, True) for s in v] for k, v in drawn.items()},
    }
    share = float(np.mean(np.array(found["monitor"]["none"]) > 0))
    if others:
        work = scores.with_name("bench_monitor_streams.npz")
        found |= rivals(environment, work, drawn, share, others)
    print(f"\nmedian inputs from the change to the alarm (false alarms within {BEFORE + AFTER:,} "
          f"inputs: the monitor's share, {share:.2f}, for all)\n")  # fmt: skip
    print("| change | " + " | ".join(found) + " |\n| --- |" + " ---: |" * len(found))
    for name in ("none", *SCENARIOS):
        print(
            f"| {name} | " + " | ".join(_cell(name, each[name]) for each in found.values()) + " |"
        )


def rivals(
    environment: Path, work: Path, drawn: dict[str, list[Stream]], share: float, others: str
) -> dict[str, dict[str, list[int]]]:
    """Detector -> change -> the input of each stream's alarm, by bench_monitor_rivals.py."""
    np.savez(work, **{
        f"{name}/{i}/{part}": stream[at]
        for name, streams_of in drawn.items()
        for i, stream in enumerate(streams_of)
        for part, at in (("calibration", 0), ("stream", 2))
    })  # fmt: skip
    command = [str(rivals_python(environment)), str(RIVALS), str(work), f"{share}", others]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _cell(name: str, alarms: list[int]) -> str:
    at = np.array(alarms)
    if name == "none":
        return f"false alarms {np.mean(at > 0):.2f}"
    clean = at[(at == 0) | (at > BEFORE)]
    delays = np.where(clean == 0, np.inf, clean - BEFORE)
    middle = float(np.median(delays))
    seen = f" ({np.isfinite(delays).mean():.0%})" if not np.isfinite(delays).all() else ""
    return (f"{middle:,.0f}" if np.isfinite(middle) else f"over {AFTER:,}") + seen


def rivals_python(environment: Path) -> Path:
    """The interpreter of an environment with river and alibi-detect, made where it is missing.

    PyTorch is read from where this one has it.
    """
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
        wanted = ["alibi-detect==0.13.0", "river>=0.21"]
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", *wanted],
            check=True,
        )
    folder = next((environment / "lib").glob("python*/site-packages"))
    (folder / "torch_of_the_caller.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=("null", "ties", "speed", "change"))
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--length", type=int, default=10_000)
    parser.add_argument("--calibration", type=int, default=1000)
    parser.add_argument("--others", default="CUSUM,ADWIN,KSWIN,MMD")
    parser.add_argument("--environment", type=Path, default=Path("build/rivals"))
    parser.add_argument("--scores", type=Path, default=Path("build/bench_monitor_scores.npz"))
    given = parser.parse_args()
    if given.part == "null":
        null(given.streams, given.length)
    elif given.part == "ties":
        ties(given.streams, given.length)
    elif given.part == "speed":
        speed()
    else:
        given.scores.parent.mkdir(parents=True, exist_ok=True)
        change(given.streams, given.environment, given.scores, given.calibration, given.others)


if __name__ == "__main__":
    main()
