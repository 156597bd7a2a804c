#!/usr/bin/env bash
# IWSLT'14 German-English, as by fairseq's prepare-iwslt14.sh; data/iwslt14/bin is for training.
#
#   bash scripts/prepare_iwslt14.sh                          downloads the archive
#   bash scripts/prepare_iwslt14.sh --from de-en.tgz         any options of the command
#
# The command cleans, tokenises (Moses), lower-cases, learns 10,000 joint BPE merges, and calls
# fairseq-preprocess on data/iwslt14/bpe. It prints its counts beside those of the public archive.
set -euo pipefail
exec fairseq-cgc prepare-iwslt14 "${OUT:-data/iwslt14}" "$@"
