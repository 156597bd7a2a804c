#!/usr/bin/env bash
# Gather what a GPU machine without network needs, on a machine with network.
#
#   bash benchmarks/gpu/pack.sh [--data DIR] [--reference FILE] [--iwslt DIR]
#                               [--fairseq-kernel FILE] [FOLDER]
#
#   --data DIR        Multi30k as released with BPE, for training; binarised here, English to German
#   --reference FILE  raw German text of its test set (.gz too), for sacreBLEU and chrF
#   --iwslt DIR       binarised IWSLT'14 valid and test sets, to decode
#   --fairseq-kernel FILE  fairseq's lightconv_cuda.so, by build_fairseq_kernel.sh, to compare with
#   FOLDER            what travels (gpu-kit, which git ignores); made anew if it is there
#
# Run it in an environment that has this package (PYTHON=... chooses the interpreter).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
limit_mib=60

say() { printf '[pack] %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

data='' reference='' iwslt='' fairseq_kernel='' folder=''
while (($#)); do
  case "$1" in
    --data | --reference | --iwslt | --fairseq-kernel)
      [ $# -ge 2 ] || die "$1 needs a value"
      name=${1#--}
      declare "${name//-/_}=$2"
      shift
      ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit ;;
    -*) die "unknown option '$1'; allowed: --data, --reference, --iwslt, --fairseq-kernel" ;;
    *) [ -z "$folder" ] || die "two folders, '$folder' and '$1'"; folder=$1 ;;
  esac
  shift
done
folder=${folder:-$root/gpu-kit}
folder=${folder%/}
python=${PYTHON:-python3}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

if [ -n "$data" ] && ! [ -f "$data/train.en" ]; then
  die "--data $data has no train.en: not Multi30k as released with BPE"
fi
if [ -n "$reference" ]; then
  [ -f "$reference" ] || die "--reference $reference is no file"
  [ -n "$data" ] || die "--reference is for --data, which is missing"
fi
if [ -n "$iwslt" ] && ! [ -f "$iwslt/test.de-en.de.bin" ]; then
  die "--iwslt $iwslt has no test.de-en.de.bin: not binarised IWSLT'14 German-English"
fi
if [ -n "$fairseq_kernel" ] && ! [ -f "$fairseq_kernel" ]; then
  die "--fairseq-kernel $fairseq_kernel is no file"
fi
if [ -e "$folder" ] && ! [ -f "$folder/SHA256SUMS" ]; then
  die "$folder exists, but is no packed kit; it is not overwritten"
fi

partial=$folder.partial
rm -rf "$partial"
mkdir -p "$partial/wheels"

say "wheels"
pip=("$python" -m pip --disable-pip-version-check -q)
platforms=()
for tag in manylinux_2_28 manylinux_2_17 manylinux2014; do platforms+=(--platform "${tag}_x86_64"); done
"${pip[@]}" download --no-deps --require-hashes --only-binary=:all: --implementation cp \
  --python-version 3.12 "${platforms[@]}" --dest "$partial/wheels" \
  -r "$root/scripts/requirements-fairseq.txt" -r "$here/requirements.txt"
"${pip[@]}" wheel --no-deps --require-hashes --no-binary :all: --wheel-dir "$partial/wheels" \
  -r "$here/requirements-source.txt"

if [ -n "$data" ]; then
  say "binarising $data"
  "$python" - "$data" "$partial/multi30k" <<'END' || die "$data could not be binarised (above)"
import sys
from pathlib import Path
from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.mt.prepare.multi30k import binarize_multi30k
run_main(lambda: binarize_multi30k(Path(sys.argv[1]), Path(sys.argv[2]), "en", "de"))
END
  rm -f "$partial/preprocess.log"
  case "$reference" in
    '') ;;
    *.gz) gzip -dc "$reference" >"$partial/multi30k-test.de" ;;
    *) cp "$reference" "$partial/multi30k-test.de" ;;
  esac
fi
if [ -n "$iwslt" ]; then
  mkdir "$partial/iwslt14"
  cp "$iwslt"/dict.*.txt "$iwslt"/*.bin "$iwslt"/*.idx "$partial/iwslt14"
  chmod -R u+w "$partial/iwslt14"
fi
if [ -n "$fairseq_kernel" ]; then
  mkdir "$partial/fairseq-kernel"
  cp "$fairseq_kernel" "$partial/fairseq-kernel/lightconv_cuda.so"
fi
(cd "$partial" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum) \
  >"$partial.sums"
mv "$partial.sums" "$partial/SHA256SUMS"

bytes_in() { find "$@" -type f -exec cat {} + | wc -c; }
row() { awk -v n="$1" -v b="$2" 'BEGIN { printf "%-68s %8.2f MiB\n", n, b / 1048576 }'; }
for item in "$partial"/wheels/*.whl; do row "${item#"$partial/"}" "$(bytes_in "$item")"; done
for item in "$partial"/*; do
  [ "$item" = "$partial/wheels" ] || row "${item#"$partial/"}" "$(bytes_in "$item")"
done
total=$(bytes_in "$partial")
row "together" "$total"
((total <= limit_mib * 1048576)) || die "$partial has more than $limit_mib MiB; pack less"
rm -rf "$folder"
mv "$partial" "$folder"
say "ready: $folder"
