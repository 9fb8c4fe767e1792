#!/usr/bin/env bash
# Mutants of kernels: every fault of fixed.txt must be caught. See docs/mutation.md and --help.
set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/mutate.py" "$@"
