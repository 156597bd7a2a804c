"""Choose the length penalty on the validation split.

Never on a test split: the best of several scores on a test set is not a score on that test set.
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
from fairseq_cgc.mt.evaluate.metrics import Scores, TokenizedBleu
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
    def tokenized(self) -> TokenizedBleu:
        """The score that decides."""
        score = self.scores["tokenized"]
        assert isinstance(score, TokenizedBleu)
        return score

    def to_json(self) -> dict[str, Any]:
        """Only strings and numbers."""
        return {
            "lenpen": self.lenpen,
            "tokenized_bleu": self.tokenized.score,
            "sacrebleu": self.scores["sacrebleu"].score,
            "length_ratio": self.tokenized.length_ratio,
            "output": str(self.output),
        }


@dataclass(frozen=True)
class Tuning:
    """Several length penalties compared on the validation split."""

    trials: list[Trial]

    @property
    def best(self) -> Trial:
        """The trial with the highest tokenised BLEU-4; of equal ones, that nearest to lenpen 1."""
        return max(self.trials, key=lambda t: (t.tokenized.score, -abs(t.lenpen - 1.0)))

    def table(self) -> str:
        """An aligned Markdown table that marks the best row, and a hint where one is due."""
        head = ("lenpen", "tokenised BLEU-4", "sacreBLEU", "length ratio", "")
        cells = []
        for trial in self.trials:
            values = trial.to_json()
            scores = f"{values['tokenized_bleu']:.2f}", f"{values['sacrebleu']:.2f}"
            mark = "best" if trial is self.best else ""
            cells.append((f"{trial.lenpen:g}", *scores, f"{values['length_ratio']:.3f}", mark))
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
            "trials": [trial.to_json() for trial in self.trials],
        }


def parse_lenpens(text: str) -> list[float]:
    """Read ``0.6,0.8,1.0``.

    Raises:
        UserError: if a value is no number, out of range, or equal to another in the six digits
            that results are named after.
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

    Translations of an earlier sweep are used again.

    Args:
        model, data_dir, command: see :func:`evaluate`.
        lenpens: the values to try.
        options: beam search; its length penalty is ignored.
        output: folder in which every value gets a folder; by default, that of the checkpoint.

    Raises:
        UserError: if the data have no such split, or model and data do not fit together.
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
