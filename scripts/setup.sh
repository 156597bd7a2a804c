#!/usr/bin/env bash
# Install torch, fairseq and this package. Safe to run again: what is installed already stays.
#
#   bash scripts/setup.sh           into .venv beside this folder
#   bash scripts/setup.sh --here    into the active Python environment
#
#   PYTHON=python3.12   the interpreter that .venv is made with (default: python3)
#   TORCH=torch==2.9.1  another torch, 2.6 or later (default: torch==2.13.0; the number suffices)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '[setup] %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

here=0
for argument in "$@"; do
  case "$argument" in
    --here) here=1 ;;
    *) die "unknown argument '$argument'; allowed: --here" ;;
  esac
done

# Run a command with its output in a log, and print the elapsed time now and then.
quietly() {
  local what=$1 log started pid
  shift
  log=$(mktemp)
  started=$SECONDS
  say "$what"
  "$@" >"$log" 2>&1 &
  pid=$!
  trap 'kill "$pid" 2>/dev/null || true; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if (((SECONDS - started) % 20 == 19)); then say "  ... $((SECONDS - started)) s"; sleep 1; fi
  done
  trap - INT TERM
  if ! wait "$pid"; then
    tail -n 30 "$log" >&2
    die "$what: failed; the whole log is $log"
  fi
  rm -f "$log"
  say "  done in $((SECONDS - started)) s"
}

python=${PYTHON:-python3}
if ((here)); then
  python=python3
elif [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
command -v "$python" >/dev/null || die "PYTHON is '$python', which is not on the PATH"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "$("$python" --version) is too old; 3.11 or later is needed (PYTHON=python3.12 chooses one)"
if ((!here)) && [ ! -x .venv/bin/python ]; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv .venv || {
    rm -rf .venv
    die "$python cannot make environments; install its venv package"
  }
fi
((here)) || python=.venv/bin/python
pip=("$python" -m pip --disable-pip-version-check)
# Whether modules are installed, found without importing them; -P: not in the working folder.
has() {
  "$python" -P -c 'import sys
from importlib.util import find_spec
sys.exit(not all(map(find_spec, sys.argv[1:])))' "$@"
}
package_is_installed() {
  [ "$("$python" -P -c 'from importlib.util import find_spec
print(find_spec("fairseq_cgc").origin)' 2>/dev/null)" = "$PWD/fairseq_cgc/__init__.py" ]
}

torch=${TORCH:-torch==2.13.0}
case "$torch" in [0-9]*) torch="torch==$torch" ;; esac

needs_compiler() { ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))'; }
if ! has torch || ! has fairseq; then
  say "this needs about 1.5 GB of disk (several more with CUDA) and, besides the download,"
  if needs_compiler; then
    say "about 4 minutes on 2 cores, most of it to compile fairseq"
    command -v c++ >/dev/null || command -v g++ >/dev/null ||
      die "fairseq must be compiled for this Python: install a C++ compiler, or use Python 3.12"
  else
    say "about 2 minutes"
  fi
fi

install_torch() {
  # Without a GPU, the CPU build saves gigabytes. On Linux it has its own package index.
  if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null &&
    [[ $torch =~ ^torch==[0-9.]+$ ]]; then
    "${pip[@]}" install --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu \
      "$torch+cpu" && return
    echo "no CPU build of $torch was found; installing the default one"
  fi
  "${pip[@]}" install "$torch"
}
if ! has torch; then
  quietly "installing $torch" install_torch
elif [ -n "${TORCH:-}" ]; then
  say "torch $("$python" -c 'import torch; print(torch.__version__)') is there already; TORCH is for a new environment"
fi
# CUDA builds of torch bring Triton. Elsewhere, its interpreter runs the tests of the GPU kernels,
# which are skipped without it.
install_triton() { "${pip[@]}" install --no-deps triton==3.9.0 || true; }
if [ "$(uname -s)" = Linux ] && ! has triton; then
  quietly "installing triton" install_triton
fi
if ! has fairseq; then
  quietly "installing what fairseq needs" "${pip[@]}" install cffi cython hydra-core==1.3.2 \
    omegaconf==2.3.0 numpy regex sacrebleu tqdm bitarray scikit-learn packaging setuptools wheel tensorboardX
  # With CUDA_HOME set, the build needs sources that the release does not contain.
  quietly "installing fairseq-fixed 0.12.3.1" env -u CUDA_HOME "${pip[@]}" install \
    --no-deps --no-build-isolation --require-hashes -r scripts/requirements-fairseq.txt
fi
if ! package_is_installed || ! has hypothesis matplotlib mkdocs mypy PIL pytest ruff sacremoses sentencepiece xdist; then
  quietly "installing this package, editable" "${pip[@]}" install --no-build-isolation -e ".[dev]"
fi
say "ready: $("$python" -c 'import sys; print(sys.executable)')"
