#!/usr/bin/env bash
# Set up, then check the style, the types and run the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
setup=()
if [ "${1:-}" = --here ]; then
  setup=(--here)
  shift
fi
bash scripts/setup.sh "${setup[@]}"
[ ${#setup[@]} -gt 0 ] || export PATH="$PWD/.venv/bin:$PATH"
ruff check .
ruff format --check .
mypy
# One thread each: the tests are small, and two processes share the cores.
OMP_NUM_THREADS=1 python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadgroup "$@"
