"""Show the folder for --user-dir, versions and repairs.

    fairseq-cgc info
    fairseq-train DATA --user-dir "$(fairseq-cgc info --user-dir)" --arch lightconv_cgc ...

The repairs make fairseq run on this Python and torch. fairseq itself makes them when it loads this
folder as its --user-dir.
"""

from __future__ import annotations

import argparse
import platform
from importlib.util import find_spec
from pathlib import Path

import fairseq_cgc

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--user-dir", action="store_true", help="print only the folder")


def run(arguments: argparse.Namespace) -> None:
    """Print what is installed."""
    folder = Path(fairseq_cgc.__file__).parent
    if arguments.user_dir:
        print(folder)
        return
    from fairseq_cgc.support.environment import versions

    print(f"--user-dir {folder}")
    print(f"\nfairseq-cgc {fairseq_cgc.__version__}, Python {platform.python_version()}")
    found = versions({package: package for package in PACKAGES})
    for package in PACKAGES:
        print(f"  {package} {found.get(package, 'is not installed')}")
    if find_spec("fairseq") is None:
        print("\nfairseq is not installed: nothing can be trained here (see docs/install.md)")
        return
    from fairseq_cgc import compat
    from fairseq_cgc.models.config import CONFIG_DIR, architectures

    print(f"\narchitectures: lightconv_cgc, {', '.join(architectures())}")
    print(f"configurations for fairseq-hydra-train: --config-dir {CONFIG_DIR}")
    print("\nrepairs to fairseq:")
    applied = compat.apply()
    for fix in compat.FIXES:
        state = "made" if applied[fix.name] else "not needed here"
        print(f"  {fix.name}: {state}. {fix.description}")
