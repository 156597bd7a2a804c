#!/usr/bin/env bash
# Train LightConv + CGC on IWSLT'14 German-English by the paper's protocol (Table 6).
#
#   bash scripts/train_iwslt14.sh                            takes options of fairseq-train
#   SEED=2 SAVE_DIR=checkpoints/seed2 bash scripts/train_iwslt14.sh --fp16
#
# fairseq-cgc reproduce table6 --dry-run prints the baselines' commands.
set -euo pipefail
data=${DATA:-data/iwslt14/bin} save_dir=${SAVE_DIR:-checkpoints/iwslt14}
user_dir=$(fairseq-cgc info --user-dir)
fairseq-train "$data" --user-dir "$user_dir" \
  --arch lightconv_cgc_iwslt_de_en --task translation --source-lang de --target-lang en \
  --dropout 0.3 --attention-dropout 0.1 --max-tokens 4000 \
  --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
  --optimizer adam --adam-betas '(0.9, 0.98)' --weight-decay 0.0001 --clip-norm 0.0 \
  --lr 0.0005 --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-07 \
  --max-update 50000 --keep-last-epochs 10 --log-interval 100 --seed "${SEED:-1}" \
  --save-dir "$save_dir" --log-format json --log-file "$save_dir/train.log" "$@"
