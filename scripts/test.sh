#!/usr/bin/env bash
# Set up, then check the style, the types and run the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --here ]; then
  bash scripts/setup.sh --here
  shift
else
  bash scripts/setup.sh
  export PATH="$PWD/.venv/bin:$PATH"
fi
ruff check .
ruff format --check .
mypy
# One thread each: the tests are small, and two processes share the cores.
OMP_NUM_THREADS=1 python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadgroup "$@"
