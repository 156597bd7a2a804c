#!/usr/bin/env bash
# Set up, then prepare a generated corpus, train, search with beam 6 and score.
#
#   bash scripts/demo.sh           with .venv, which it makes
#   bash scripts/demo.sh --here    with the active Python environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh "$@"
python=python3
[ "${1:-}" = --here ] || python=.venv/bin/python
echo "[demo] about 2 minutes on 2 cores and 100 MB of disk in demo/" >&2
exec "$python" -m fairseq_cgc demo
