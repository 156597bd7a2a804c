#!/usr/bin/env bash
# Set up, then check the style and the types and run the tests that take little time.
#
#   bash scripts/test.sh           with .venv, which it makes
#   bash scripts/test.sh --all     every test; this is what continuous integration runs
#   bash scripts/test.sh --here    with the active Python environment
#
# Other arguments go to pytest. PYTEST_WORKERS=4 sets the number of processes (default: the cores).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=0 selection=(-m "not slow")
while [ $# -gt 0 ]; do
  case "$1" in
    --here) here=1 ;;
    --all) selection=() ;;
    *) break ;;
  esac
  shift
done
if ((here)); then
  bash scripts/setup.sh --here
else
  bash scripts/setup.sh
  export PATH="$PWD/.venv/bin:$PATH"
fi
ruff check .
ruff format --check .
mypy
# One thread each: the tests are small, and the processes share the cores.
workers=${PYTEST_WORKERS:-$(python -c 'import os; print(os.cpu_count())')}
OMP_NUM_THREADS=1 python -m pytest -n "$workers" --dist loadgroup "${selection[@]}" "$@"
