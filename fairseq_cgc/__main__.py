"""``python -m fairseq_cgc``: where ``--user-dir`` is, the versions, and the repairs made."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import fairseq_cgc
from fairseq_cgc.mt.fairseq_commands import run_main

PACKAGES = (
    "torch",
    "fairseq-fixed",
    "numpy",
    "hydra-core",
    "omegaconf",
    "sacrebleu",
    "sacremoses",
    "subword-nmt",
    "sentencepiece",
)


def main() -> None:
    description = "Show the folder for --user-dir, the versions and the repairs made to fairseq."
    argparse.ArgumentParser("python -m fairseq_cgc", description=description).parse_args()
    print(f"--user-dir {Path(fairseq_cgc.__file__).parent}")
    print(f"\nfairseq-cgc {fairseq_cgc.__version__}, Python {platform.python_version()}")
    for package in PACKAGES:
        try:
            print(f"  {package} {version(package)}")
        except PackageNotFoundError:
            print(f"  {package} is not installed")
    if find_spec("fairseq") is None:
        print("\nfairseq is not installed: nothing can be trained here (see the README)")
        return
    from fairseq_cgc import compat
    from fairseq_cgc.models.config import CONFIG_DIR, architectures

    print(f"\narchitectures: lightconv_cgc, {', '.join(architectures())}")
    print(f"configurations for fairseq-hydra-train: --config-dir {CONFIG_DIR}")
    print("\nrepairs to fairseq:")
    applied = compat.apply()
    for fix in compat.FIXES:
        print(f"  {fix.name}: {'made' if applied[fix.name] else 'not needed here'}; {fix.mends}")


if __name__ == "__main__":
    run_main(main)
