"""The targets of fuzz.py under atheris (libFuzzer), where that is installed.

    pip install atheris
    python tests/reliability/fuzz_atheris.py tokens --work DIR -atheris_runs=2000

Arguments with one dash are atheris's and libFuzzer's. It ends at the first lost case and prints it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what pytest does for the tests

with atheris.instrument_imports(include=["fairseq_cgc", "sacremoses", "subword_nmt"]):
    from fuzz import search
    from hostile_targets import TARGETS
    from surroundings import Surroundings, quiet


def main() -> None:
    """Parse the arguments and hand over to libFuzzer, which ends the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--work", type=Path, required=True, help="folder for cases and corpus")
    args, others = parser.parse_known_args()
    place = Surroundings(args.work.resolve())
    corpus = place.folder / "found"
    corpus.mkdir(exist_ok=True)
    target = TARGETS[args.target]

    def attempt(case: Any) -> None:
        target.attempt(place, case)

    test = search(attempt, target, seed=1, examples=1)
    with quiet():
        atheris.Setup(
            [sys.argv[0], str(corpus), "-len_control=0", "-max_len=4096", *others],
            lambda content: test.hypothesis.fuzz_one_input(content) and None,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
