#!/usr/bin/env bash
# Set up, check style and types, and run the quick tests.
#
#   bash scripts/test.sh           with .venv, which it makes
#   bash scripts/test.sh --all     every test, as in continuous integration
#   bash scripts/test.sh --here    with the active Python environment
#
# Other arguments go to pytest. PYTEST_WORKERS=4 sets the number of processes (default: one a core).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=0 all=0 selection=(-m "not slow")
while [ $# -gt 0 ]; do
  case "$1" in
    --here) here=1 ;;
    --all) all=1 selection=() ;;
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
export OMP_NUM_THREADS=1
python -m pytest -n "$workers" --dist loadgroup "${selection[@]}" "$@"
if ((all)) && [ $# -eq 0 ]; then  # translating must not come to need fairseq
  python -m pytest -n "$workers" --dist loadgroup tests/inference --without-fairseq
fi
