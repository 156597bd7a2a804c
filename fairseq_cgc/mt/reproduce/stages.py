"""Stages of extended runs: ``RUN/stage-UPDATES`` keeps what a run had reached.

Extending a run deletes the checkpoints of its last epochs. A stage has their average, the log and
the record of the settings, and is scored like a run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fairseq_cgc.mt.evaluate.evaluation import Model
from fairseq_cgc.mt.train.training import LOG, STAMP
from fairseq_cgc.support.checkpoints import load_model_state
from fairseq_cgc.support.files import new_folder

_PREFIX = "stage-"


def stage_folder(run_folder: Path, updates: int) -> Path:
    """The folder of the stage that ended after ``updates``, whether it exists or not."""
    return run_folder / f"{_PREFIX}{updates}"


def is_stage(folder: Path) -> bool:
    """Whether a run's folder is that of a stage."""
    return folder.name.startswith(_PREFIX)


def keep_stage(run_folder: Path, updates: int, model: Model) -> Path:
    """Copy what belongs to the stage that a run has ended with, unless that has been done.

    Args:
        run_folder: folder of the run.
        updates: the number of updates that it has made.
        model: what is scored of it.

    Returns:
        The stage's folder.
    """
    stage = stage_folder(run_folder, updates)
    if not stage.is_dir():
        with new_folder(stage) as partial:
            for path in (model.path, run_folder / LOG, run_folder / STAMP):
                shutil.copy2(path, partial)
    return stage


def model_of_stage(stage: Path) -> Model:
    """The checkpoint of a stage, with the names of those that it averages."""
    (path,) = stage.glob("*.pt")
    averaged = load_model_state(path).get("averaged", [[path.name]])
    return Model(path, [stage.parent / name for name, *_ in averaged])  # deleted since, perhaps
