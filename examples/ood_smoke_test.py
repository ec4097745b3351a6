"""Calibrated percentiles and a threshold on made-up scores: no network, no data.

Run: python examples/ood_smoke_test.py
"""

import torch

from nervecode.scoring import EmpiricalPercentileCalibrator


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(2000, generator=generator)
    strange = torch.randn(1000, generator=generator) + 2.5
    calibrator = EmpiricalPercentileCalibrator(threshold_quantiles=(0.95,))
    calibrator.fit(known[:1000])
    print(f"threshold at the 95th percentile: {calibrator.threshold_for():.3f}")
    for name, scores in {"in distribution": known[1000:], "out of it": strange}.items():
        print(f"{name:<20}{calibrator.is_ood(scores).double().mean():>7.1%} above it")


if __name__ == "__main__":
    main()
