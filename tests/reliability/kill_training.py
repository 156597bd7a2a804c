"""Kill a training, and the averaging of checkpoints, at random moments; see that nothing is lost.

    python tests/reliability/kill_training.py --times 200 --seed 1 --work DIR

One small training runs without interruption. Then the same training is killed (SIGKILL) and
continued, again and again; after each kill every checkpoint must load, and a training that came
to its end must have the weights and the optimizer's state of the uninterrupted one, bit by bit.
Run again with the same arguments, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import demo_training
import torch
import warm

from fairseq_cgc.core import UserError
from fairseq_cgc.support.checkpoints import safe_load
from fairseq_cgc.support.command_line import run_main
from fairseq_cgc.support.files import write_json

#: Where a kill falls: how often, in a hundred.
MOMENTS = {"save": 40, "validation": 15, "training": 25, "start": 5, "averaging": 15}
_AVERAGED = 3  # epochs


class Campaign:
    """Kills, counted in ``DIR/state.json``.

    Args:
        work: folder to work in.
        seed: of the moments.
    """

    def __init__(self, work: Path, seed: int) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.seed = work, seed
        self.state_file = work / "state.json"
        self.state: dict[str, Any] = {
            "seed": seed, "tried": 0, "survived": 0, "lost": 0,
            "pending": 0, "runs": 0, "attempts": 0, "moments": {},
        }  # fmt: skip
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())
            if self.state["seed"] != seed:
                raise UserError(f"{work} was begun with --seed {self.state['seed']}, not {seed}")
        self.data = demo_training.prepare_demo(work)
        self.reference = work / "reference"
        self.right_average = work / "reference-average.pt"
        self.killed, self.average = work / "killed", work / "average" / "average.pt"
        if not self.right_average.exists():
            self._make_reference()

    def kill_once(self) -> None:
        """Choose a moment, kill, and look at what is left."""
        self.state["attempts"] += 1
        draw = random.Random(f"{self.seed} {self.state['attempts']}")
        (moment,) = draw.choices([*MOMENTS], [*MOMENTS.values()])
        averaging = moment == "averaging"
        if not averaging and self._is_finished():
            self._settle()
        folder = self.average.parent if averaging else self.killed
        had_last = (folder / "checkpoint_last.pt").exists()
        left = _partial_files(folder)
        process = self._start_average() if averaging else self._start_training()
        if not _kill(process, moment, self._log(averaging), folder, left, draw):
            self._end(process, self._log(averaging))
            return  # it had ended before that moment
        self.state["tried"] += 1
        self.state["moments"][moment] = self.state["moments"].get(moment, 0) + 1
        good, what = self._look(folder, had_last)
        if averaging:
            good = good and self._average_is_right()
        if not good:
            self.state["lost"] += 1
            shutil.move(folder, self.work / f"lost-{self.state['tried']}")
        else:
            self.state["survived" if averaging else "pending"] += 1
        self._note(f"kill {self.state['tried']}, {moment}: {what}")

    def finish(self) -> None:
        """Let the last training and the last average come to their ends, and compare them."""
        self._end(self._start_training(), self._log(False))
        self._settle()
        self._end(self._start_average(), self._log(True))
        if not (self.average.exists() and self._average_is_right()):
            self.state["lost"] += 1
            self._note("the average is not that of the uninterrupted command")

    def _end(self, process: BaseProcess, log: Path) -> None:
        process.join()
        if process.exitcode != 0:
            raise UserError(f"the command failed by itself: {_text(log)[-2000:]}")

    def _make_reference(self) -> None:
        shutil.rmtree(self.reference, ignore_errors=True)
        result = demo_training.train(self.data, self.reference, *demo_training.SCHEDULE)
        if result.status != 0:
            raise UserError(f"the uninterrupted training failed: {result.output[-2000:]}")
        result = warm.run(
            self.work / "reference-average.log", "fairseq-cgc average",
            self.reference, "--last-epochs", str(_AVERAGED), "--output", self.right_average,
        )  # fmt: skip
        if result.status != 0:
            raise UserError(f"the uninterrupted averaging failed: {result.output[-2000:]}")

    def _log(self, averaging: bool) -> Path:
        return self.work / ("average.log" if averaging else "killed.log")

    def _start_training(self) -> BaseProcess:
        self._log(False).unlink(missing_ok=True)
        return warm.start(
            self._log(False), "train", self.data, "--save-dir", self.killed,
            *demo_training.MODEL, *demo_training.SCHEDULE,
        )  # fmt: skip

    def _start_average(self) -> BaseProcess:
        self._log(True).unlink(missing_ok=True)
        return warm.start(
            self._log(True), "fairseq-cgc average", self.reference,
            "--last-epochs", str(_AVERAGED), "--output", self.average,
        )  # fmt: skip

    def _is_finished(self) -> bool:
        last = self.killed / "checkpoint_last.pt"
        return last.exists() and _progress(safe_load(last)) == _progress(
            safe_load(self.reference / "checkpoint_last.pt")
        )

    def _settle(self) -> None:
        """Compare a training that has ended with the uninterrupted one, and begin another."""
        same = self._is_finished() and all(
            _same(safe_load(self.killed / name), safe_load(self.reference / name))
            for name in ("checkpoint_last.pt", "checkpoint_best.pt")
        )
        self.state["survived" if same else "lost"] += self.state["pending"]
        self.state["pending"] = 0
        self.state["runs"] += 1
        self._note(f"training {self.state['runs']} ended {'equal' if same else 'DIFFERENT'}")
        if not same:
            shutil.move(self.killed, self.work / f"lost-{self.state['tried']}")
        shutil.rmtree(self.killed, ignore_errors=True)

    def _look(self, folder: Path, had_last: bool) -> tuple[bool, str]:
        """Whether all checkpoints load, and what there is."""
        names = sorted(path.name for path in folder.glob("*.pt")) if folder.exists() else []
        states = {}
        for name in names:
            try:
                states[name] = safe_load(folder / name)
            except UserError as error:
                return False, str(error)
        last = states.get("checkpoint_last.pt")
        if last is None and had_last:
            return False, f"no checkpoint_last.pt beside {names}"
        at = "" if last is None else f", the last at update {_progress(last)}"
        left = len(_partial_files(folder))
        return True, f"{len(names)} checkpoints load{at}; {left} unfinished files"

    def _average_is_right(self) -> bool:
        right = safe_load(self.right_average)
        return not self.average.exists() or _same(safe_load(self.average), right)

    def _note(self, text: str) -> None:
        write_json(self.state_file, self.state)
        print(text, file=sys.stderr, flush=True)


def _kill(
    process: BaseProcess,
    moment: str,
    log: Path,
    folder: Path,
    left: set[str],
    draw: random.Random,
) -> bool:
    """Kill a process at a moment; False if it ended before.

    Args:
        process: that has just been started.
        moment: one of :data:`MOMENTS`.
        log: what it prints.
        folder: where it writes files.
        left: unfinished ones that were there before.
        draw: of what the moment leaves open.
    """
    happened: Callable[[], bool]
    if moment == "start":
        happened, delay = lambda: True, draw.uniform(0, 1)
    elif moment == "training":
        happened, delay = lambda: "Start iterating" in _text(log), draw.uniform(0, 1.5)
    elif moment == "validation":
        number, delay = draw.randint(1, 3), draw.uniform(0, 0.15)
        happened = lambda: _text(log).count("begin validation") >= number  # noqa: E731
    else:
        number = draw.randint(1, 6) if moment == "save" else 1
        delay = draw.choice([0, draw.uniform(0, 0.05)])
        seen: set[str] = set()

        def happened() -> bool:
            seen.update(_partial_files(folder) - left)
            return len(seen) >= number

    while process.is_alive() and not happened():
        time.sleep(0.0005)
    process.join(delay)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def _partial_files(folder: Path) -> set[str]:
    with contextlib.suppress(FileNotFoundError):
        return {path.name for path in folder.iterdir() if path.suffix == ".partial"}
    return set()


def _text(log: Path) -> str:
    return log.read_text("utf-8", errors="replace") if log.exists() else ""


def _progress(state: dict[str, Any]) -> Any:
    return state["optimizer_history"][-1]["num_updates"]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether weights and optimizer's state are equal, bit by bit."""
    ours, theirs = dict(_tensors(one)), dict(_tensors(other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def _tensors(state: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    yield from state["model"].items()
    for number, of_parameter in state.get("last_optimizer_state", {}).get("state", {}).items():
        for name, value in of_parameter.items():
            yield f"{number} {name}", torch.as_tensor(value)


def main() -> None:
    """Parse the command line and kill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, metavar="N", help="kills (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (%(default)s)")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder for files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    campaign = Campaign(arguments.work, arguments.seed)
    while campaign.state["tried"] < arguments.times:
        campaign.kill_once()
    campaign.finish()
    state = campaign.state
    print(f"{state['runs']} trainings ended; moments: {state['moments']}")
    print(
        f"checkpoints: tried {state['tried']}, survived {state['survived']}, lost {state['lost']}"
    )
    if state["lost"]:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
