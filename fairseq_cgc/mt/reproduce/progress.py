"""How far the runs of an experiment are."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from fairseq_cgc.mt.reproduce.runs import Experiment, Run
from fairseq_cgc.mt.train.training import LOG
from fairseq_cgc.mt.train.training_log import TrainingLog, read_log, training_speed
from fairseq_cgc.support.environment import describe_machine, versions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_file


@dataclass(frozen=True)
class Standing:
    """The progress of one run."""

    system: str
    seed: int
    name: str
    scored: bool
    """Whether everything is done."""
    updates: int
    """Updates at the last line of the log; a restart repeats up to one epoch of them."""
    max_update: int
    epoch: int
    seconds: float
    """Spent in the updates of whole epochs."""
    tokens_per_second: float
    """Target subwords."""
    train: list[tuple[int, float | None, float | None]]
    """Means of each epoch: updates at its end, loss, negative log-likelihood (bits per subword)."""
    valid: list[tuple[int, float | None, float | None]]
    """The same on the validation data, after each epoch."""

    def __str__(self) -> str:
        state = "scored" if self.scored else "not scored"
        text = f"{self.name}: {self.updates:,} of {self.max_update:,} updates"
        if self.valid:
            nll = "?" if self.valid[-1][2] is None else f"{self.valid[-1][2]:.3f}"
            text += f", epoch {self.epoch}, valid nll {nll}, {self.tokens_per_second:,.0f} tokens/s"
        return f"{text}, {state}"


def standings(experiment: Experiment, scored: Collection[Run]) -> list[Standing]:
    """Read the logs of all runs; ``scored`` are those that have ended."""
    return [_standing(run, experiment.max_update, run in scored) for run in experiment.runs()]


def write_standings(experiment: Experiment, found: list[Standing], command: str) -> None:
    """Write ``standing.json`` into the experiment's folder; ``command`` is what the user typed."""
    record = {
        "command": command,
        "versions": versions(),
        "machine": describe_machine(cpu=experiment.cpu),
        "runs_at_a_time": experiment.jobs,
        "runs": [asdict(standing) for standing in found],
    }
    with new_file(experiment.out / "standing.json") as partial:
        partial.write_text(json.dumps(record) + "\n", encoding="utf-8")


def _standing(run: Run, limit: int, scored: bool) -> Standing:
    try:
        log = read_log(run.folder / LOG)
    except UserError:  # not begun, or nothing logged yet
        log = TrainingLog(run.name, [], [], [])
    points = sorted([*log.train, *log.train_inner, *log.valid], key=lambda point: point.updates)
    speed = training_speed(log)
    return Standing(
        system=run.system,
        seed=run.seed,
        name=run.name,
        scored=scored,
        updates=points[-1].updates if points else 0,
        max_update=limit,
        epoch=points[-1].epoch if points else 0,
        seconds=speed.seconds,
        tokens_per_second=speed.tokens_per_second,
        train=[(point.updates, point.loss, point.nll_loss) for point in log.train],
        valid=[(point.updates, point.loss, point.nll_loss) for point in log.valid],
    )
