"""The length penalty that suits a model best, found on the validation split.

Never on a test split: the best of several scores of the same test set is not a score of it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.search_options import LARGEST_LENPEN, SearchOptions
from fairseq_cgc.mt.evaluate.evaluation import Model, default_output, evaluate
from fairseq_cgc.mt.evaluate.metrics import Scores
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.tables import markdown

TUNING_SPLIT = "valid"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """The validation split translated with one length penalty."""

    lenpen: float
    scores: Scores
    output: Path
    """Folder with the translations and all scores."""

    @property
    def length_ratio(self) -> float:
        """Tokens of the translations for one of the references."""
        bleu = self.scores.tokenized
        return bleu.system_length / bleu.reference_length


@dataclass(frozen=True)
class Tuning:
    """Several length penalties compared on the validation split."""

    trials: list[Trial]

    @property
    def best(self) -> Trial:
        """The highest tokenised BLEU-4; of equal ones that nearest to 1, where nothing is tuned."""
        return max(self.trials, key=lambda trial: (trial.scores.tokenized.score, _nearness(trial)))

    def table(self) -> str:
        """An aligned Markdown table, the chosen row marked; a hint below it if there is one."""
        head = ("lenpen", "tokenised BLEU-4", "sacreBLEU", "length ratio", "")
        cells = [
            (
                f"{trial.lenpen:g}",
                f"{trial.scores.tokenized.score:.2f}",
                f"{trial.scores.sacrebleu.score:.2f}",
                f"{trial.length_ratio:.3f}",
                "best" if trial is self.best else "",
            )
            for trial in self.trials
        ]
        lines = [*markdown(head, cells, "rrrrl", aligned=True)]
        tried = sorted(trial.lenpen for trial in self.trials)
        if len(tried) > 1 and self.best.lenpen in (tried[0], tried[-1]):
            beyond = "less" if self.best.lenpen == tried[0] else "more"
            lines.append(f"\nthe best is at the end of the range; {beyond} may be better still")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Only dictionaries, lists, strings and numbers."""
        return {
            "split": TUNING_SPLIT,
            "chosen_by": "tokenised BLEU-4",
            "trials": [
                {
                    "lenpen": trial.lenpen,
                    "tokenized_bleu": trial.scores.tokenized.score,
                    "sacrebleu": trial.scores.sacrebleu.score,
                    "length_ratio": trial.length_ratio,
                    "output": str(trial.output),
                }
                for trial in self.trials
            ],
        }


def parse_lenpens(text: str) -> list[float]:
    """Read ``0.6,0.8,1.0``.

    Raises:
        UserError: if a value is no number or out of range, or the same as another to six digits
            (results are named after that many).
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not -LARGEST_LENPEN <= value <= LARGEST_LENPEN:
            raise UserError(
                f"--sweep-lenpen has {part.strip()!r}, but must be numbers from -{LARGEST_LENPEN} "
                f"to {LARGEST_LENPEN} separated by commas, for example 0.6,0.8,1.0"
            )
        if f"{value:g}" in values:
            raise UserError(f"--sweep-lenpen has {value:g} twice")
        values[f"{value:g}"] = value
    return list(values.values())


def sweep_lenpen(
    model: Model,
    data_dir: Path,
    lenpens: Sequence[float],
    *,
    options: SearchOptions | None = None,
    output: Path | None = None,
    command: Sequence[str] = (),
) -> Tuning:
    """Translate and score the validation split with every length penalty.

    What is there from an earlier sweep is not translated again.

    Args:
        model: see :func:`prepare_model`.
        data_dir: folder of binarised data.
        lenpens: the values to try; see :func:`parse_lenpens`.
        options: beam search; its length penalty does not count.
        output: folder in which every value gets a folder; beside the checkpoint if missing.
        command: what the user typed, for the record.

    Raises:
        UserError: if the data has no such split, or model and data do not fit together.
    """
    options = options or SearchOptions()
    trials = []
    for number, lenpen in enumerate(lenpens, start=1):
        _log.info("lenpen %g on %s (%d of %d)", lenpen, TUNING_SPLIT, number, len(lenpens))
        tried = dataclasses.replace(options, lenpen=lenpen)
        folder = default_output(model, TUNING_SPLIT, tried)
        scores, folder = evaluate(
            model,
            data_dir,
            split=TUNING_SPLIT,
            options=tried,
            output=folder if output is None else output / folder.name,
            command=command,
        )
        trials.append(Trial(lenpen, scores, folder))
    return Tuning(trials)


def _nearness(trial: Trial) -> float:
    return -abs(trial.lenpen - 1.0)
