#!/usr/bin/env bash
# The narrow grid of 0.1.1; FAST=1 takes two values of each axis and one seed. Arguments go on.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec python "$root/scripts/ablate_grid.py" ${FAST:+--fast} "$@"
