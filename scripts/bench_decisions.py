#!/usr/bin/env python
"""Whether the promises of decisions are kept: by simulation, and on the digits.

    python scripts/bench_decisions.py [--repeats 2000] [--real 200]

`one set`: the share of calibration sets whose rate of false alarms stays below the bound of 95 %
confidence, and the rate of `flag(alpha, confidence=0.95)`'s alpha.

`classes`: false alarms of each class by p-values within classes and by plain ones, of scores whose
spread differs from class to class, with their standard errors.

`batch`: mean shares of ID inputs among those that Benjamini and Hochberg's procedure selects.

`layers`: false alarms of the default score where six layers know nothing of one another, and
where one input in a hundred, of calibration and of those judged, is a million times further away.

`bulk`: the same at larger p-values, of one layer that is very skewed, of two whose scores lie in
three clusters, and of one that says nothing of 96 inputs in 100 beside a head that hesitates; with
`calibrate(exact=True)` too; and how many streams of 2,000 of the second raise an alarm of the
monitor at alpha 0.05.

`digits`: a small network that learned eight of the ten digits; what it is calibrated on and
judged by is drawn anew each time from inputs that fitted neither.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from scipy.stats import beta
from sklearn.datasets import load_digits
from torch import Tensor, nn

import nervecode
from nervecode.layers.batch.batches import read_batches
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.checks.recorded_calls import CallRecorder
from nervecode.layers.passes.calibration_readings import read_calibration
from nervecode.monitor import Monitor
from nervecode.scoring import (
    alpha_within,
    conformal_p_values,
    false_alarm_bound,
    made_exact,
    select,
)
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.mondrian import OWN, Mondrian

ALPHA, RATE, CONFIDENCE = 0.05, 0.1, 0.95
HELD_OUT = (8, 9)
STREAMS = 400
BATCH, UNSEEN = 100, 60  # digits of a batch, and held-out ones


def with_error(values: list[float]) -> str:
    return f"{100 * np.mean(values):6.2f} ± {100 * np.std(values) / len(values) ** 0.5:.2f}"


def one_set(repeats: int) -> None:
    print("\n| n | alpha | bound (%) | sets below it (%) | alpha that keeps it | sets (%) |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    rng = np.random.default_rng(0)
    for n in (299, 1000, 10_000):
        for alpha in (0.01, ALPHA):
            bound, kept = false_alarm_bound(n, alpha), alpha_within(n, alpha)
            shares = []
            for threshold, most in ((alpha, bound), (kept, alpha)):
                k = int(threshold * (n + 1) + 1e-9)
                # The k-th smallest of n uniform scores: the rate itself, without test inputs.
                rates = [np.partition(rng.random(n), k - 1)[k - 1] for _ in range(repeats)]
                shares.append(with_error([float(rate <= most) for rate in rates]))
            print(f"| {n} | {alpha} | {100 * bound:.2f} | {shares[0]} | {kept:.4f} | {shares[1]} |")


def classes(repeats: int) -> None:
    print(f"\n| class | calibration inputs | within classes, {100 * ALPHA:g} % | plain |")
    print("| --- | ---: | ---: | ---: |")
    generator = torch.Generator().manual_seed(1)
    sizes, spread = torch.tensor([400, 150, OWN, 40]), torch.tensor([1.0, 1.5, 3.0, 3.0])
    of = torch.arange(len(sizes)).repeat_interleave(sizes)
    new_of = torch.arange(len(sizes)).repeat_interleave(200)
    within: list[list[float]] = [[] for _ in sizes]
    plain: list[list[float]] = [[] for _ in sizes]
    for _ in range(repeats):
        scores = torch.randn(len(of), generator=generator) * spread[of]
        new = (torch.randn(len(new_of), generator=generator) * spread[new_of]).double()
        groups = Mondrian.of(scores, of)
        for found, p in (
            (within, groups.p_values(new, groups.group(new_of))),
            (plain, conformal_p_values(scores, new)),
        ):
            for k in range(len(sizes)):
                found[k].append(float((p[new_of == k] <= ALPHA).double().mean()))
    for k, size in enumerate(sizes.tolist()):
        name = f"{k}" if size >= OWN else f"{k}, pooled"
        print(f"| {name} | {size} | {with_error(within[k])} | {with_error(plain[k])} |")


def batch(repeats: int) -> None:
    print(f"\n| outliers of 200 | ID among the selected, at most {100 * RATE:g} % | found |")
    print("| ---: | ---: | ---: |")
    generator = torch.Generator().manual_seed(2)
    for outliers in (0, 10, 40):
        false, true = [], []
        for _ in range(repeats):
            known = torch.randn(1000, generator=generator)
            scores = torch.randn(200, generator=generator)
            scores[:outliers] += 3
            chosen = select(conformal_p_values(known, scores), RATE)
            false.append(float(chosen[outliers:].sum() / chosen.sum().clamp_min(1)))
            true.append(float(chosen[:outliers].double().mean()) if outliers else float("nan"))
        print(f"| {outliers} | {with_error(false)} | {with_error(true) if outliers else ''} |")


def layers(repeats: int) -> None:
    """Code length and regret of a layer are log-normal, and so are those of the inputs judged."""
    print("\n| calibration inputs | alpha (%) | false alarms (%) | with broken inputs (%) |")
    print("| ---: | ---: | ---: | ---: |")
    random = torch.Generator().manual_seed(6)

    def drawn(count: int, broken: float) -> dict[str, Tensor]:
        scores = torch.randn(6, count, 2, generator=random).mul(1.5).exp()
        scores[:, torch.rand(count, generator=random) < broken] *= 1e6
        return {f"layer {number}": layer for number, layer in enumerate(scores)}

    for n, alpha in ((19, 0.1), (39, 0.05), (99, 0.01), (299, 0.01)):
        cells = []
        for broken in (0.0, 0.01):
            rates = []
            for _ in range(repeats):
                calibration = LayerCalibration(drawn(n, broken), "code_length")
                scores = calibration.scores_of(drawn(200, broken))
                p_values = calibration.p_values(scores)
                rates.append(float((p_values <= alpha).double().mean()))
            cells.append(with_error(rates))
        print(f"| {n} | {100 * alpha:.0f} | {' | '.join(cells)} |")


def bulk(repeats: int) -> None:
    """Laws that are hard for the default score, for which no theorem holds."""
    alphas = (0.05, 0.1, 0.2, 0.3, 0.5)
    print(f"\n| law | inputs | {' | '.join(f'{100 * alpha:.0f} %' for alpha in alphas)} |")
    print(f"| --- | ---: |{' ---: |' * len(alphas)}")
    random = torch.Generator().manual_seed(7)
    share, centres = torch.tensor([0.75, 0.2, 0.05]), torch.tensor([0.0, 1.0, 50.0])

    def skewed(count: int) -> dict[str, Tensor]:
        return {"layer": torch.randn(count, 2, generator=random).double().mul(3).exp()}

    def clustered(count: int) -> dict[str, Tensor]:
        own = centres[torch.multinomial(share, count, True, generator=random)].double()
        noise = torch.randn(2, count, 2, generator=random).double().mul(0.01)
        return {f"layer {number}": own[:, None] + noise[number] for number in range(2)}

    def idle(count: int) -> dict[str, Tensor]:
        drawn = torch.rand(count, 3, generator=random).double()
        lengths = torch.where(drawn[:, 0] < 0.04, drawn[:, 1], 0.0)
        none = torch.zeros_like(lengths)
        return {
            "layer": torch.stack([lengths, none], dim=1),
            "head:label": torch.stack([drawn[:, 2], none], dim=1),
        }

    laws = {"log-normal": skewed, "clusters": clustered, "idle": idle}
    for kind, calibrated in KINDS.items():
        for name, drawn in laws.items():
            for n in (19, 99, 299):
                rates: list[list[float]] = [[] for _ in alphas]
                for _ in range(repeats):
                    calibration = calibrated(drawn(n))
                    p_values = calibration.p_values(calibration.scores_of(drawn(200)))
                    for alpha, found in zip(alphas, rates, strict=True):
                        found.append(float((p_values <= alpha + 1e-9).double().mean()))
                print(f"| {name}{kind} | {n} | {' | '.join(map(with_error, rates))} |")
    print("\n| streams of 2,000, clusters, 299 calibration inputs | alarms at alpha 0.05 (%) |")
    print("| --- | ---: |")
    for kind, calibrated in KINDS.items():
        alarms = []
        for _ in range(min(repeats, STREAMS)):
            calibration = calibrated(clustered(299))
            monitor = Monitor(calibration.scores.numpy(), alpha=ALPHA)
            monitor.update_many(
                calibration.p_values(calibration.scores_of(clustered(2000))).numpy()
            )
            alarms.append(float(monitor.alarm is not None))
        print(f"| {kind.lstrip(', ') or 'as by default'} | {with_error(alarms)} |")


def jackknife(readings: dict[str, Tensor]) -> LayerCalibration:
    return LayerCalibration(readings, "code_length")


def split(readings: dict[str, Tensor]) -> LayerCalibration:
    return made_exact(jackknife(readings))


KINDS = {"": jackknife, ", exact": split}


def digits(repeats: int) -> None:
    """Scores are standardised on each calibration set anew, as in use."""
    x, y, near = digit_images()
    wrapped, start = fitted(x, y)
    readings = [(x[start:], y[start:]), (near, torch.zeros(len(near), dtype=torch.long))]
    known, outliers = ({n: t.float() for n, t in read(wrapped, r).items()} for r in readings)
    rng = np.random.default_rng(3)
    total, size = len(x) - start, 400
    rates: dict[str, list[float]] = {name: [] for name in ("plain", "covered", "false", "found")}
    most = upper(size, total - size)
    for _ in range(repeats):
        order = torch.from_numpy(rng.permutation(total))
        calibration = LayerCalibration(rows(known, order[:size]), "code_length")
        p_values = calibration.p_values
        p = p_values(calibration.scores_of(rows(known, order[size:])))
        rates["plain"].append(float((p <= ALPHA).double().mean()))
        rates["covered"].append(float(rates["plain"][-1] <= most))
        drawn = torch.from_numpy(rng.choice(len(near), UNSEEN, replace=False))
        unseen = p_values(calibration.scores_of(rows(outliers, drawn)))
        chosen = select(torch.cat([unseen, p[:BATCH]]), RATE)
        rates["false"].append(float(chosen[UNSEEN:].sum() / chosen.sum().clamp_min(1)))
        rates["found"].append(float(chosen[:UNSEEN].double().mean()))
    print(f"\nDigits without {HELD_OUT}: {size} calibration inputs, {total - size} others")
    print(f"false alarms at {ALPHA}: {with_error(rates['plain'])} %")
    print(f"sets with fewer than their 95 % bound: {with_error(rates['covered'])} %")
    print(f"of {BATCH} digits and {UNSEEN} unseen ones, selected at a rate of {RATE}:")
    print(f"digits among the selected: {with_error(rates['false'])} %")
    print(f"unseen ones selected: {with_error(rates['found'])} %")


def rows(readings: dict[str, Tensor], some: Tensor) -> dict[str, Tensor]:
    return {name: values[some] for name, values in readings.items()}


def upper(n: int, others: int) -> float:
    """What 95 % of sets of n stay below on a finite number of other inputs: a beta-binomial law."""
    k = int(ALPHA * (n + 1) + 1e-9)
    rates = beta.rvs(k, n + 1 - k, size=20_000, random_state=np.random.default_rng(4))
    counts = np.random.default_rng(5).binomial(others, rates)
    return float(np.quantile(counts, CONFIDENCE, method="higher")) / others


def digit_images() -> tuple[Tensor, Tensor, Tensor]:
    """ID images, their labels and images of held-out digits, in a random order."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = torch.from_numpy(data.data[order] / 16).float()
    y = torch.from_numpy(data.target[order])
    held_out = torch.isin(y, torch.tensor(HELD_OUT))
    return x[~held_out], y[~held_out], x[held_out]


def fitted(x: Tensor, y: Tensor) -> tuple[nervecode.WrappedModel, int]:
    """A trained and fitted network, and how many of the inputs it has seen."""
    torch.manual_seed(0)
    start, model = 600, nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:start]), y[:start]).backward()
        optimizer.step()
    return nervecode.wrap(model.eval()).fit([(x[:start], y[:start])]), start


def read(wrapped: nervecode.WrappedModel, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """The readings of one batch."""
    with torch.no_grad():
        batches = read_batches([batch], wrapped.model)
        return read_calibration(wrapped, batches, None, CallRecorder(), InputSketch()).layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--real", type=int, default=200, help="draws from the digits")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    one_set(options.repeats)
    classes(options.repeats)
    batch(options.repeats)
    layers(options.repeats)
    bulk(options.repeats)
    digits(options.real)


if __name__ == "__main__":
    main()
