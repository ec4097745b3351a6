"""docs/mathematics.md in NumPy: each function one formula of the page, with its numbers.

Nothing here is taken from the package, so that a number that is changed there disagrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


# 1. From an activation to a vector


def mean_std(x: Array) -> Array:
    """(C, S) -> the mean of each channel, then its deviation."""
    means = [sum(row) / len(row) for row in x]
    squares = [sum(value**2 for value in row) / len(row) for row in x]
    deviations = [math.sqrt(max(s - m**2, 0)) for s, m in zip(squares, means, strict=True)]
    return np.array(means + deviations)


def powered(z: Array, p: float) -> Array:
    """(D,) z |z|^(p - 1)."""
    return z * math.sqrt(z @ z) ** (p - 1)


# 2. Soft assignment and the weighted surprise


def soft(z: Array, centres: Array, priors: Array, factor: Array, t: float) -> dict[str, float]:
    """L, H and the best distance of one vector under Lambda = W W', nats."""
    d2 = np.array([sum((factor.T @ (z - c)) ** 2) for c in centres])
    weights = np.array([prior * math.exp(-d / t) for prior, d in zip(priors, d2, strict=True)])
    p = weights / weights.sum()
    best = int(d2.argmin())
    return {
        "L": -math.log(p[best]),
        "H": -sum(one * math.log(one) for one in p if one > 0),
        "d2": d2[best],
        "best": best,
    }


# 3. Code length and bits back


def normal(z: Array, centre: Array, covariance: Array) -> float:
    """Ln N(z; c, covariance)."""
    step = z - centre
    volume = np.linalg.slogdet(covariance).logabsdet
    quadratic = step @ np.linalg.solve(covariance, step)
    return float(-0.5 * (quadratic + volume + len(z) * math.log(2 * math.pi)))


def mixture_bits(z: Array, centres: Array, priors: Array, covariance: Array) -> float:
    """-log2 sum of pi_k N(z; c_k, covariance)."""
    logs = [math.log(p) + normal(z, c, covariance) for p, c in zip(priors, centres, strict=True)]
    top = max(logs)
    return -(top + math.log(sum(math.exp(one - top) for one in logs))) / math.log(2)


# 4 and 5. Moments and shrinkage


def class_means(z: Array, labels: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """(K, D) means and (K,) shares of the classes."""
    classes = range(labels.max() + 1)
    means = [sum(z[labels == k]) / sum(labels == k) for k in classes]
    return np.array(means), np.array([np.mean(labels == k) for k in classes])


def within(z: Array, labels: npt.NDArray[np.int64]) -> Array:
    """(D, D) the covariance within classes, divided by N."""
    means, _ = class_means(z, labels)
    total = np.zeros((z.shape[1],) * 2)
    for row, k in zip(z, labels, strict=True):
        total += np.outer(row - means[k], row - means[k])
    return total / len(z)


def shrunk(c: Array, n: int) -> Array:
    """Oracle approximating shrinkage of a covariance of n vectors."""
    d = len(c)
    mu = np.trace(c) / d
    alpha = sum(value**2 for value in c.ravel()) / d**2
    rho = min(1.0, (alpha + mu**2) / ((n + 1) * (alpha - mu**2 / d)))
    return (1 - rho) * c + rho * mu * np.eye(d)


def floored(c: Array, mean: Array) -> Array:
    """With f = max(10^-6 mu, eps^2 |m|^2 / D, 10^-20) on the diagonal."""
    d = len(c)
    f = max(1e-6 * np.trace(c) / d, (2.0**-23) ** 2 * (mean @ mean) / d, 1e-20)
    return c + f * np.eye(d)


def led(c: Array, rank: int = 128) -> Array:
    """The leading `rank` variances stay, all others share their mean."""
    values, axes = np.linalg.eigh(c)
    others = len(values) - rank
    if others > 0:
        values[:others] = sum(values[:others]) / others
    return axes @ np.diag(values) @ axes.T


def code_covariance(z: Array, labels: npt.NDArray[np.int64], mean: Array, rank: int) -> Array:
    """The covariance of a code: within groups, shrunk, with a floor, of the rank."""
    return led(floored(shrunk(within(z, labels), len(z)), mean), rank)


# 6. Class code, background code, regret


def clusters(z: Array, metric: Array) -> npt.NDArray[np.int64]:
    """K-means of one class: ten steps, a centre for each eight vectors, eight at most."""
    number = min(8, max(1, len(z) // 8))
    centres = z[:number].copy()
    nearest = np.zeros(len(z), dtype=np.int64)
    for _ in range(10):
        for i, row in enumerate(z):
            steps = [(row - c) @ metric @ (row - c) for c in centres]
            nearest[i] = int(np.argmin(steps))
        for j in range(number):
            if (nearest == j).any():
                centres[j] = z[nearest == j].mean(0)
    return nearest


class Codes:
    """B(z) and R(z) of one layer, fitted to (N, D) vectors and their classes."""

    def __init__(self, z: Array, labels: npt.NDArray[np.int64], rank: int = 128) -> None:
        self.means, self.shares = class_means(z, labels)
        self.mean = self.shares @ self.means
        self.within = code_covariance(z, labels, self.mean, rank)
        spread = self.means - self.mean
        scatter = sum(s * np.outer(d, d) for s, d in zip(self.shares, spread, strict=True))
        self.background = self.within + scatter
        kept = 4096 // len(self.means)
        rows = np.concatenate([np.flatnonzero(labels == k)[:kept] for k in range(len(self.means))])
        rows = np.sort(rows)
        vectors, classes = z[rows], labels[rows]
        metric = np.linalg.inv(self.within)
        code = np.zeros(len(rows), dtype=np.int64)
        for k in range(len(self.means)):
            code[classes == k] = 8 * k + clusters(vectors[classes == k], metric)
        code = np.unique(code, return_inverse=True)[1]
        self.centres, parts = class_means(vectors, code)
        owner = [classes[code == j][0] for j in range(len(self.centres))]
        sizes = [np.mean(classes == k) for k in owner]
        self.priors = np.array([self.shares[k] * p / s
                                for k, p, s in zip(owner, parts, sizes, strict=True)])  # fmt: skip
        self.covariance = code_covariance(vectors, code, self.priors @ self.centres, rank)

    def bits(self, z: Array) -> float:
        """B(z)."""
        return mixture_bits(z, self.centres, self.priors, self.covariance)

    def regret(self, z: Array) -> float:
        """R(z) = B_class(z) - B_background(z)."""
        background = -normal(z, self.mean, self.background) / math.log(2)
        return mixture_bits(z, self.means, self.shares, self.within) - background


def label_regret(f: Array, logits: Array, known: Array, rank: int = 128) -> float:
    """N of a head with features f, from the (N, D) features of training data, bits."""
    second = sum(np.outer(row, row) for row in map(unit, known))
    inverse = np.linalg.inv(led(floored(second, np.zeros(len(f))), rank))
    q = unit(f) @ inverse @ unit(f)
    g = q / (1 + q)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    return math.log2(sum(one / (one + (1 - one) * one**g) for one in p if one > 0))


def unit(f: Array) -> Array:
    """At unit length; what is dead stays 0."""
    length = math.sqrt(f @ f)
    return f / length if length else f


# 7. From layers to one number


def standard(known: Array, score: float) -> float:
    """(s - mean) / std, with the population's deviation."""
    mean = sum(known) / len(known)
    return float((score - mean) / math.sqrt(sum((k - mean) ** 2 for k in known) / len(known)))


def within_reach(known: Array) -> Array:
    """What is further than 30 interquartile ranges from the median, brought there."""
    ordered, last = sorted(known), len(known) - 1
    low, middle, high = (ordered[math.floor(last * k / 4)] for k in (1, 2, 3))
    reach = 30 * (high - low) if high > low else math.inf
    return np.array([min(max(k, middle - reach), middle + reach) for k in known])


def rarity(known: Array, score: float) -> float:
    """Bits of the p-value up to the 90 % quantile, of an exponential tail above it."""
    ordered = sorted(known)
    start = ordered[math.floor(0.9 * (len(known) - 1))]
    if score > start:
        excess = [k - start for k in known if k > start]
        return math.log2(10) + (score - start) / (sum(excess) / len(excess) * math.log(2))
    return min(-math.log2(p_value(known, score)), math.log2(10))


# 8. Percentiles, thresholds, p-values


def percentile(known: Array, score: float) -> float:
    """The share of calibration scores at or below it."""
    return sum(k <= score for k in known) / len(known)


def threshold(known: Array, q: float) -> float:
    """a_j with j = ceil(q (n - 1)) + 1, from 1."""
    return float(sorted(known)[math.ceil(q * (len(known) - 1))])


def p_value(known: Array, score: float) -> float:
    """(1 + how many calibration scores are at least as high) / (n + 1)."""
    return (1 + sum(k >= score for k in known)) / (len(known) + 1)


# 9. A stream of p-values


def share(s: float, density: Callable[[float], float]) -> Callable[[float], float]:
    """1 - s + s f(p): the price list of a bettor on a share s of inputs."""
    return lambda p: 1 - s + s * density(p)


def power(x: float) -> Callable[[float], float]:
    """(1 + x) p^x."""
    return lambda p: (1 + x) * p**x


BETTORS: list[tuple[str, Callable[[float], float], float]] = [
    ("burst", share(0.95, power(-0.95)), 0.15),
    ("burst", share(0.9, power(-0.8)), 0.1),
    ("rise", share(0.9, power(-0.5)), 0.1),
    ("rise", share(0.4, power(-0.5)), 0.08),
    ("rise", share(0.95, lambda p: 4 * (1 - p) ** 3), 0.06),
    ("rise", share(0.5, lambda p: 2 * (1 - p)), 0.12),
    ("few", share(0.25, power(-0.9)), 0.08),
    ("few", share(0.1, power(-0.9)), 0.08),
    ("few", share(0.05, power(-0.9)), 0.05),
    ("few", share(0.01, power(-0.95)), 0.02),
    ("fall", share(0.3, power(1)), 0.06),
    ("fall", share(0.8, power(3)), 0.03),
    ("spread", share(0.5, lambda p: 3 * (1 - 2 * p) ** 2), 0.04),
    ("narrow", share(0.35, lambda p: 6 * p * (1 - p)), 0.03),
]


class Urn:
    """What every bettor gets for a rank, when each rank seen makes it more likely to come again."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.seen = [rank / (n + 1) for rank in range(1, n + 2)]

    def e_values(self, rank: int) -> Array:
        """The price of a rank over the mean price of the calibration ranks and those before."""
        p = rank / (self.n + 1)
        won = [b(p) / (sum(map(b, self.seen)) / len(self.seen)) for _, b, _ in BETTORS]
        self.seen.append(p)
        return np.array(won)


class Wealth:
    """W <- (W + stake) e of every bettor, and since when each gains: G <- max(G, 0) + ln e."""

    def __init__(self) -> None:
        self.money = np.zeros(len(BETTORS))
        self.gain = np.zeros(len(BETTORS))
        self.began = np.zeros(len(BETTORS), dtype=np.int64)

    def take(self, e: Array, stake: float, number: int) -> None:
        """One input, by its number from 1."""
        for i in range(len(BETTORS)):
            if self.gain[i] <= 0:
                self.began[i] = number
            self.gain[i] = max(self.gain[i], 0) + math.log(e[i])
            self.money[i] = (self.money[i] + stake) * e[i]

    @property
    def mean(self) -> float:
        """Over the bettors, with their weights."""
        return sum(w * m for (_, _, w), m in zip(BETTORS, self.money, strict=True))

    @property
    def leader(self) -> int:
        """The bettor that has won most."""
        return int(np.argmax([w * m for (_, _, w), m in zip(BETTORS, self.money, strict=True)]))


def stake(t: int) -> float:
    """Of the t-th input, from 1, under `alpha`."""
    return 1 / math.log2(t + 1) - 1 / math.log2(t + 2)
