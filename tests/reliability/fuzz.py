"""Give the package hostile input, as much as one likes.

    python tests/reliability/fuzz.py --cases 10000 --work /tmp/fuzz
    python tests/reliability/fuzz.py --cases 10000 --guided 0.5 --work /tmp/fuzz

Cases come from hypothesis' strategies; a share of them (--guided) is found by coverage: bytes that
reached new lines of the package are kept and changed further. What was tried is written down after
each batch, and the same command goes on from there. The last line is
``hostile input: tried N, survived N, lost N``; a lost case is written to WORK/lost.txt.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from coverage_guided import explore
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what pytest does for the tests

from hostile_targets import TARGETS  # noqa: E402
from surroundings import Surroundings, quiet  # noqa: E402
from target import Target  # noqa: E402

from fairseq_cgc.support.settings_record import only_process_in  # noqa: E402

BATCH = 200
_MEMORY = 16 << 30  # bytes of address space, so that a bomb ends the case and not the machine


class Score:
    """How the cases of each target ended, kept in a file.

    Args:
        path: JSON file.
        settings: what the score depends on; another run's is not continued.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.targets = {
            name: {"tried": 0, "results": 0, "lost": 0, "batches": 0} for name in TARGETS
        }
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["settings"] == settings:
                self.targets.update(found["targets"])

    def save(self) -> None:
        """Write it down, all or nothing."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({"settings": self.settings, "targets": self.targets}))
        partial.replace(self.path)

    def total(self, what: str) -> int:
        """``tried`` or ``lost`` of all targets."""
        return sum(target[what] for target in self.targets.values())


def watched(
    target: Target, place: Surroundings, counts: dict[str, int], limit: int, report: Path
) -> Callable[[Any], None]:
    """A case's trial that counts and reports, but does not raise."""

    def attempt(case: Any) -> None:
        if counts["tried"] >= limit:
            return
        counts["tried"] += 1
        try:
            counts["results"] += target.attempt(place, case)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a traceback, an exit, a case that hangs
            counts["lost"] += 1
            with report.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(f"{repr(case)[:2000]}\n{traceback.format_exc()[-3000:]}\n\n")

    return attempt


def search(test: Callable[[Any], None], target: Target, seed: int, examples: int) -> Any:
    """A hypothesis test over the target's cases, ready to be called."""
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return hypothesis.seed(seed)(chosen(given(target.cases)(test)))


def main() -> None:
    """Parse the arguments and try cases until there are enough."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="other cases (%(default)s)")
    parser.add_argument(
        "--guided", type=float, default=0.3, help="share found by coverage (%(default)s)"
    )
    parser.add_argument("--only", choices=TARGETS, help="one target")
    parser.add_argument("--work", type=Path, required=True, help="folder for progress and cases")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.basicConfig(level=logging.CRITICAL)
    place = Surroundings(args.work.resolve())
    score = Score(
        place.folder / "progress.json",
        {"seed": args.seed, "guided": args.guided, "only": args.only},
    )
    report = place.folder / "lost.txt"
    targets = {name: t for name, t in TARGETS.items() if args.only in (None, name)}
    whole = sum(target.share for target in targets.values())
    with quiet(), only_process_in(place.folder):
        for name, target in targets.items():
            wanted = -(-args.cases * target.share // whole)
            counts = score.targets[name]
            while counts["tried"] < wanted:
                limit = min(wanted, counts["tried"] + BATCH)
                attempt = watched(target, place, counts, limit, report)
                seed = args.seed * 1_000_003 + counts["batches"]
                test = search(attempt, target, seed, limit - counts["tried"])
                if (counts["batches"] * args.guided) % 1 + args.guided >= 1:
                    explore(test.hypothesis.fuzz_one_input, seed, lambda: counts["tried"] >= limit)  # noqa: B023
                else:
                    test()
                counts["batches"] += 1
                score.save()
                print(f"{name}, of {wanted}: {counts}", file=sys.stderr)
    tried, lost = score.total("tried"), score.total("lost")
    if lost:
        print(f"the lost cases are in {report}", file=sys.stderr)
    print(f"hostile input: tried {tried}, survived {tried - lost}, lost {lost}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
