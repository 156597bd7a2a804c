#!/usr/bin/env bash
# Score the average of train_iwslt14.sh's last 10 epochs at beam 6: tokenised BLEU, as in the paper.
#
#   bash scripts/evaluate_iwslt14.sh                         takes options of fairseq-generate
#   SAVE_DIR=checkpoints/seed2 bash scripts/evaluate_iwslt14.sh --cpu
#
# fairseq-cgc evaluate does the same and adds sacreBLEU and chrF.
set -euo pipefail
data=${DATA:-data/iwslt14/bin} save_dir=${SAVE_DIR:-checkpoints/iwslt14}
user_dir=$(fairseq-cgc info --user-dir)
fairseq-cgc average "$save_dir" --last-epochs "${LAST_EPOCHS:-10}" --output "$save_dir/average.pt"
fairseq-generate "$data" --user-dir "$user_dir" --path "$save_dir/average.pt" \
  --gen-subset test --beam 6 --lenpen 1.0 --max-tokens 4000 --remove-bpe "$@" \
  > "$save_dir/generate.txt"
grep ^H "$save_dir/generate.txt" | cut -f 3- > "$save_dir/generate.hypotheses"
grep ^T "$save_dir/generate.txt" | cut -f 2- > "$save_dir/generate.references"
fairseq-score --sys "$save_dir/generate.hypotheses" --ref "$save_dir/generate.references"
