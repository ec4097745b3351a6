"""The CIFAR ResNet-18 runner of 0.1.1: `nervecode bench` by its old name, with its old flags.

python -m benchmarks.ood.cifar_resnet18 --preset demo --limit-eval 256
"""

import sys

from nervecode.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["bench", *sys.argv[1:]]))
