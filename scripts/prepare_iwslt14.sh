#!/usr/bin/env bash
# Prepare IWSLT'14 German-English as fairseq's prepare-iwslt14.sh does, into data/iwslt14/bin.
#
#   bash scripts/prepare_iwslt14.sh                          downloads the archive
#   bash scripts/prepare_iwslt14.sh --from de-en.tgz         any options of the command
#
# It tokenises (Moses), cleans, lower-cases, learns 10,000 joint BPE merges, calls
# fairseq-preprocess, and prints its counts beside those of the public archive.
set -euo pipefail
exec fairseq-cgc prepare-iwslt14 "${OUT:-data/iwslt14}" "$@"
