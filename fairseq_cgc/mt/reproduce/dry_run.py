"""What ``fairseq-cgc reproduce --dry-run`` prints: sizes of models, and commands for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from fairseq_cgc.inference.text.pipeline import find_pipeline
from fairseq_cgc.mt.fairseq_commands import shown_command
from fairseq_cgc.mt.reproduce.runs import Experiment
from fairseq_cgc.mt.reproduce.systems import SYSTEMS
from fairseq_cgc.mt.train.training import training_arguments
from fairseq_cgc.support.tables import markdown


def parameter_table(experiment: Experiment) -> str:
    """Parameters of every system beside the published ones, as Markdown."""
    rows = []
    for key, number in experiment.parameters().items():
        published = SYSTEMS[key].published.get(experiment.protocol.name)
        rows.append((SYSTEMS[key].name, f"{number:,}", published.parameters if published else ""))
    return "\n".join(markdown(("system", "parameters", "published"), rows))


def commands(experiment: Experiment) -> Iterator[str]:
    """The commands that do the same in a shell, with a comment before those of each run."""
    source, target = experiment.languages
    pipeline = find_pipeline(experiment.test_dir, experiment.languages)
    subwords = pipeline.subwords if pipeline else "subword_nmt"  # of the released files
    for run in experiment.runs():
        yield f"# {run.name}"
        arguments = training_arguments(run.folder, experiment.train_options(run))
        yield shown_command("train", [experiment.data_dir, *arguments])
        epochs = str(experiment.last_epochs)
        model = str(run.folder / f"average-last-epochs-{epochs}.pt")
        average = ["fairseq-cgc", "average", str(run.folder)]
        yield shlex.join([*average, "--last-epochs", epochs, "--output", model])
        for search in map(experiment.search, experiment.beams):
            yield shown_command(
                "generate",
                [
                    *(experiment.test_dir, "--path", model, "--gen-subset", experiment.split),
                    *("--source-lang", source, "--target-lang", target),
                    *("--beam", str(search.beam), "--lenpen", str(search.lenpen)),
                    *("--max-tokens", str(search.max_tokens), "--post-process", subwords),
                    *(["--cpu"] if search.cpu else []),
                ],
            )
