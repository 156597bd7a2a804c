#!/usr/bin/env bash
# LightConv with and without the context gate, side by side, on Multi30k de-en from raw text:
# one seed, the same number of updates, one CPU thread each. Run again, it continues.
#
#   bash benchmarks/multi30k_short.sh OUT [UPDATES] [PATH_TO_RAW_MULTI30K]
#
# Draws OUT/curves.png and prints the scores on test_2016_flickr. Needs an active environment with
# this package (scripts/setup.sh makes one).
set -euo pipefail
out=${1:?"usage: bash benchmarks/multi30k_short.sh OUT [UPDATES] [PATH_TO_RAW_MULTI30K]"}
updates=${2:-1476}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export OMP_NUM_THREADS=1

python "$here/scripts/prepare_multi30k.py" "$out/data" ${3:+--from "$3"}

train() { # NAME ARCHITECTURE [OPTION...]
  local save_dir=$out/$1 arch=$2
  shift 2
  mkdir -p "$save_dir"
  fairseq-train "$out/data/bin" --user-dir "$here/fairseq_cgc" --arch "$arch" "$@" \
    --share-all-embeddings --dropout 0.3 \
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 25 \
    --lr 0.005 --lr-scheduler inverse_sqrt --warmup-updates 500 --warmup-init-lr 1e-7 \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
    --max-tokens 4096 --max-update "$updates" --keep-last-epochs 10 --seed 1 --cpu \
    --save-dir "$save_dir" --no-progress-bar --log-format json --log-interval 50 \
    --log-file "$save_dir/train.log" >>"$save_dir/output.log" 2>&1
}
train cgc lightconv_cgc_tiny &
train lightconv lightconv \
  --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 \
  --decoder-attention-heads 4 --encoder-layers 4 --decoder-layers 4 --input-dropout 0 \
  --encoder-kernel-size-list '[3,7,15,31]' --decoder-kernel-size-list '[3,7,15,31]' \
  --encoder-glu 0 --decoder-glu 0 \
  --encoder-conv-type lightweight --decoder-conv-type lightweight &
wait -n && wait -n

for system in lightconv cgc; do
  echo "$system:"
  python "$here/scripts/evaluate.py" "$out/$system" --data "$out/data/bin" --last-epochs 5 --cpu \
    --output "$out/$system/test"
done
python - "$out" <<'PYTHON'
import sys
from pathlib import Path

from fairseq_cgc.mt.curves import draw_curves, read_log

out = Path(sys.argv[1])
names = {"lightconv": "LightConv (fairseq)", "cgc": "LightConv + CGC encoder"}
draw_curves([read_log(out / key / "train.log", name) for key, name in names.items()], out / "curves.png")
PYTHON
