"""The table of an experiment: Markdown for reading, JSON with everything, pictures."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.text.lines import write_lines
from fairseq_cgc.mt.evaluate.evaluation import describe_weights
from fairseq_cgc.mt.evaluate.significance import SAMPLES
from fairseq_cgc.mt.reproduce.against_baseline import Tests, compare_with_baseline
from fairseq_cgc.mt.reproduce.runs import Experiment, Run, RunResult
from fairseq_cgc.mt.reproduce.systems import BASELINE, PUBLISHED, SYSTEMS, Published
from fairseq_cgc.mt.train.training import LOG
from fairseq_cgc.mt.train.training_log import TrainingLog, draw_curves, read_log
from fairseq_cgc.support import tables
from fairseq_cgc.support.environment import describe_machine, versions
from fairseq_cgc.support.figures import new_figure, save_figure
from fairseq_cgc.support.files import write_json

_COLUMNS = ("system", "beam", "parameters", "BLEU-4", "published", "sacreBLEU", "chrF2", "p",
            "training", "tokens/s")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One system at one beam; lists have one entry for each seed."""

    system: str
    beam: int
    parameters: int
    seeds: list[int]
    bleu: list[float]
    """Tokenised BLEU-4, as the paper reports it."""
    sacrebleu: list[float]
    chrf: list[float]
    p_values: list[float]
    """Paired bootstrap of sacreBLEU against LightConv of the same seed; empty without one."""
    seconds: list[float]
    """Spent in training updates."""
    tokens_per_second: list[float]
    """Target subwords in training."""


def parameter_table(experiment: Experiment) -> str:
    """Parameters of every system beside the published ones, as Markdown."""
    published = PUBLISHED[experiment.protocol.name]
    rows = [
        (
            SYSTEMS[system],
            f"{number:,}",
            published[system].parameters if system in published else "",
        )
        for system, number in experiment.parameters().items()
    ]
    return "\n".join(tables.markdown(("system", "parameters", "published"), rows))


def write_report(experiment: Experiment, results: Sequence[RunResult], command: str) -> str:
    """Write ``results.md``, ``.json``, ``.png`` and ``curves.png`` into the experiment's folder.

    Of another split than ``test`` they are called ``results-SPLIT``.

    Args:
        experiment: what was run.
        results: finished runs, in the order of the table.
        command: what the user typed, for the record.

    Returns:
        The table in Markdown.
    """
    tests = compare_with_baseline(
        results,
        lowercase=experiment.lowercase,
        target_lang=experiment.protocol.target_lang,
    )
    rows = summarise(results, tests)
    table = markdown(rows, experiment)
    record: dict[str, Any] = {
        "command": command,
        "versions": versions(),
        "machine": describe_machine(cpu=experiment.cpu),
        "runs_at_a_time": experiment.jobs,
        "protocol": experiment.protocol.name,
        "extra_options": experiment.extra_options,
        "split": experiment.split,
        "last_epochs": experiment.last_epochs,
        "rows": [asdict(row) for row in rows],
        "runs": [_record(result, tests) for result in results],
    }
    name = "results" if experiment.split == "test" else f"results-{experiment.split}"
    write_json(experiment.out / f"{name}.json", record)
    write_lines(experiment.out / f"{name}.md", [*table.splitlines(), "", *notes(record, results)])
    draw_scores(rows, experiment, experiment.out / f"{name}.png")
    logs = [_finished_log(result.run) for result in results]
    draw_curves(logs, experiment.out / "curves.png")
    return table


@functools.cache
def _finished_log(run: Run) -> TrainingLog:
    # fairseq writes every line once more with each epoch: one log can take a second to read, and a
    # report is written whenever a run ends.
    return read_log(run.folder / LOG, SYSTEMS[run.system])


def summarise(results: Sequence[RunResult], tests: Tests) -> list[Row]:
    """Rows by beam, then in the order of the systems."""
    systems = list(dict.fromkeys(result.run.system for result in results))
    beams = list(dict.fromkeys(beam for result in results for beam in result.scores))
    return [
        _row(system, beam, [result for result in results if result.run.system == system], tests)
        for beam in beams
        for system in systems
    ]


def _row(system: str, beam: int, results: Sequence[RunResult], tests: Tests) -> Row:
    scores = [result.scores[beam] for result in results]
    compared = [tests.get((system, result.run.seed, beam), []) for result in results]
    return Row(
        system=system,
        beam=beam,
        parameters=results[0].parameters,
        seeds=[result.run.seed for result in results],
        bleu=[score.tokenized.score for score in scores],
        sacrebleu=[score.sacrebleu.score for score in scores],
        chrf=[score.chrf.score for score in scores],
        p_values=[test.p_value for both in compared for test in both if test.metric == "BLEU"],
        seconds=[result.speed.seconds for result in results],
        tokens_per_second=[result.speed.tokens_per_second for result in results],
    )


def _record(result: RunResult, tests: Tests) -> dict[str, Any]:
    """Everything about one run, for JSON."""
    run = result.run
    return {
        "system": run.system,
        "seed": run.seed,
        "folder": str(run.folder),
        "parameters": result.parameters,
        "weights": result.weights,
        "training": asdict(result.speed),
        "beams": {
            beam: {
                "scores": scores.to_json(),
                "against_lightconv": [
                    asdict(test) for test in tests.get((run.system, run.seed, beam), [])
                ],
            }
            for beam, scores in result.scores.items()
        },
    }


def markdown(rows: Sequence[Row], experiment: Experiment) -> str:
    """The table; mean and sample standard deviation where there are several seeds."""
    published = _published(experiment)
    cells = []
    for row in rows:
        known = published.get(row.system)
        cells.append(
            (
                SYSTEMS[row.system],
                str(row.beam),
                f"{row.parameters:,}",
                _mean(row.bleu),
                f"{known.bleu:.2f}" if known and known.beam == row.beam else "",
                _mean(row.sacrebleu),
                _mean(row.chrf),
                ", ".join(f"{value:.3f}" for value in row.p_values),
                _duration(statistics.fmean(row.seconds)),
                f"{statistics.fmean(row.tokens_per_second):,.0f}",
            )
        )
    return "\n".join(tables.markdown(_COLUMNS, cells))


def notes(record: dict[str, Any], results: Sequence[RunResult]) -> list[str]:
    """What a reader must know to compare the numbers."""
    seeds = sorted({result.run.seed for result in results})
    updates = sorted({result.speed.updates for result in results})
    signatures = {
        f"{name}: `{score.signature}`"
        for result in results
        for scores in result.scores.values()
        for name, score in (("sacreBLEU", scores.sacrebleu), ("chrF2", scores.chrf))
    }
    scores_note = {s.note for result in results for s in result.scores.values() if s.note}
    extra = " ".join(record["extra_options"])
    of_versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    lines = [
        (
            f"Mean and sample standard deviation over the seeds {_listed(seeds)}. "
            if len(seeds) > 1
            else f"One seed ({_listed(seeds)}). "
        )
        + f"Split: {record['split']}. Updates trained: {_listed(updates)}.",
        _weights_scored(results, record["last_epochs"]),
        "BLEU-4 is fairseq's over tokens, as the paper reports it; compounds are not split. "
        f"p: paired bootstrap of sacreBLEU ({SAMPLES:,} samples; in effect one-sided) against "
        f"{SYSTEMS[BASELINE]} of the same seed. Training: time in updates; tokens/s: target "
        f"subwords a second, runs at a time: {record['runs_at_a_time']}.",
        *sorted(signatures),
        *sorted(scores_note),
        f"Protocol: `fairseq_cgc/config/{record['protocol']}.yaml`"
        + (f", with `{extra}`." if extra else "."),
        f"Made by `{record['command']}`; {record['machine']}; {of_versions}.",
    ]
    return [line for text in lines for line in (text, "")][:-1]


def _weights_scored(results: Sequence[RunResult], last_epochs: int) -> str:
    """Which checkpoints the scores are of, once for all runs that have the same."""
    runs: dict[str, list[str]] = {}
    for result in results:
        text = describe_weights(list(result.weights), list(result.weights.values()))
        if len(result.weights) < last_epochs:
            text += f", as there are not {last_epochs} whole epochs to average"
        runs.setdefault(text, []).append(result.run.name)
    if len(runs) == 1:
        return f"Weights scored: {next(iter(runs))}."
    return "Weights scored: " + "; ".join(
        f"{text} ({'; '.join(names)})" for text, names in runs.items()
    ) + "."  # fmt: skip


def draw_scores(rows: Sequence[Row], experiment: Experiment, output: Path) -> None:
    """Draw BLEU-4 of every row: a dot for each seed, a bar at the mean, a ring where published."""
    published = _published(experiment)
    figure = new_figure(7.2, 1.4 + 0.42 * len(rows))
    axis = figure.subplots()
    several_beams = len({row.beam for row in rows}) > 1
    systems = list(dict.fromkeys(row.system for row in rows))
    labels, marks = [], "dots: seeds; bar: mean"
    for place, row in enumerate(rows):
        colour = f"C{systems.index(row.system)}"  # as in the curves
        axis.plot(row.bleu, [place] * len(row.bleu), "o", color=colour, alpha=0.6)
        axis.plot([statistics.fmean(row.bleu)], [place], "|", color=colour, ms=18, mew=2.5)
        known = published.get(row.system)
        if known and known.beam == row.beam:
            axis.plot([known.bleu], [place], "o", mfc="none", mec="black", ms=9)
            marks = "dots: seeds; bar: mean; ring: published"
        labels.append(SYSTEMS[row.system] + (f", beam {row.beam}" if several_beams else ""))
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.margins(y=0.6 / max(len(rows), 1))
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel(f"BLEU-4 over tokens ({marks})")
    save_figure(figure, output)


def _published(experiment: Experiment) -> Mapping[str, Published]:
    """What the table is compared with: papers tell the scores of the test split."""
    return PUBLISHED[experiment.protocol.name] if experiment.split == "test" else {}


def _mean(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
