#!/usr/bin/env python
"""The smoke run of 0.1.1: a tiny network on made-up data, trained and calibrated in seconds.

python scripts/train_minimal.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ood.simple import main

if __name__ == "__main__":
    main(["--epochs", "2", *sys.argv[1:]])
