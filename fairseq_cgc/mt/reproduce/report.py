"""The table of an experiment: Markdown for reading, JSON with everything, pictures."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fairseq_cgc.inference.text.lines import write_lines
from fairseq_cgc.mt.evaluate.evaluation import describe_weights
from fairseq_cgc.mt.evaluate.metrics import METRICS, PlainTextScore
from fairseq_cgc.mt.evaluate.significance import SAMPLES, TESTS
from fairseq_cgc.mt.reproduce.against_baseline import Tests, compare_with_baseline
from fairseq_cgc.mt.reproduce.runs import Experiment, Run, RunResult
from fairseq_cgc.mt.reproduce.scores_figure import draw_scores
from fairseq_cgc.mt.reproduce.systems import BASELINE, SYSTEMS, published
from fairseq_cgc.mt.train.training import LOG
from fairseq_cgc.mt.train.training_log import TrainingLog, draw_curves, read_log, training_nll
from fairseq_cgc.support import tables
from fairseq_cgc.support.environment import describe_machine, versions
from fairseq_cgc.support.files import write_json


@dataclass(frozen=True)
class Row:
    """One system at one beam; lists have one entry for each seed."""

    system: str
    beam: int
    parameters: int
    seeds: list[int]
    scores: dict[str, list[float]]
    """Key of a metric -> scores."""
    p_values: list[float]
    """Paired bootstrap of sacreBLEU against LightConv of the same seed; empty without one."""
    seconds: list[float]
    """Spent in training updates."""
    tokens_per_second: list[float]
    """Target subwords in training."""
    train_nll: list[float]
    """Negative log-likelihood in training over the last whole epoch, in bits per subword."""
    valid_nll: list[float]
    """The lowest negative log-likelihood on validation data, in bits per subword."""

    def to_json(self) -> dict[str, Any]:
        """The fields, with each metric's scores as a field."""
        values = asdict(self)
        by_metric = values.pop("scores")
        return values | {name: by_metric[key] for key, (name, _) in _columns().items()}


def _columns() -> dict[str, tuple[str, str]]:
    """The metrics of the table: key -> name in the JSON, heading."""
    return {
        metric.key: (metric.column[0], metric.column[1] + metric.direction)
        for metric in METRICS
        if metric.column
    }


def write_report(experiment: Experiment, results: Sequence[RunResult], command: str) -> str:
    """Write ``results.md``, ``.json``, ``.png`` and ``curves.png`` into the experiment's folder.

    For another test set than ``test`` they are called ``results-NAME``.

    Args:
        experiment: what was run.
        results: finished runs, in the order of the table.
        command: what the user typed, for the record.

    Returns:
        The table in Markdown.
    """
    tests = {
        name: compare_with_baseline(
            results,
            lowercase=experiment.lowercase,
            target_lang=experiment.protocol.target_lang,
            test=name,
        )
        for name in TESTS
    }
    rows = summarise(results, tests["bootstrap"])
    table = markdown(rows, experiment)
    record: dict[str, Any] = {
        "command": command,
        "versions": versions(),
        "machine": describe_machine(cpu=experiment.cpu),
        "runs_at_a_time": experiment.jobs,
        "protocol": experiment.protocol.name,
        "extra_options": experiment.extra_options,
        "split": experiment.test_name,
        "last_epochs": experiment.last_epochs,
        "rows": [row.to_json() for row in rows],
        "runs": [_record(result, tests) for result in results],
    }
    test = experiment.test_name
    name = "results" if test == "test" else f"results-{test}"
    write_json(experiment.out / f"{name}.json", record)
    text = [*table.splitlines(), "", *significance_table(tests), *notes(record, results)]
    write_lines(experiment.out / f"{name}.md", text)
    draw_scores(record, experiment.out / f"{name}.png")
    logs = [_finished_log(result.run) for result in results]
    draw_curves(logs, experiment.out / "curves.png")
    return table


@functools.cache
def _finished_log(run: Run) -> TrainingLog:
    # fairseq writes every line once more with each epoch: one log can take a second to read, and a
    # report is written whenever a run ends.
    return read_log(run.folder / LOG, SYSTEMS[run.system].name)


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
    compared = [tests.get((system, result.run.seed, beam), []) for result in results]
    logs = [_finished_log(result.run) for result in results]
    losses = [[point.nll_loss for point in log.valid if point.nll_loss is not None] for log in logs]
    return Row(
        system=system,
        beam=beam,
        parameters=results[0].parameters,
        seeds=[result.run.seed for result in results],
        scores={key: [result.scores[beam][key].score for result in results] for key in _columns()},
        p_values=[test.p_value for both in compared for test in both if test.metric == "BLEU"],
        seconds=[result.speed.seconds for result in results],
        tokens_per_second=[result.speed.tokens_per_second for result in results],
        train_nll=[loss for loss in map(training_nll, logs) if loss is not None],
        valid_nll=[min(values) for values in losses if values],
    )


def _record(result: RunResult, tests: Mapping[str, Tests]) -> dict[str, Any]:
    """Everything about one run, for JSON."""
    run = result.run

    def against_lightconv(test: str, beam: int) -> list[dict[str, Any]]:
        return [asdict(found) for found in tests[test].get((run.system, run.seed, beam), [])]

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
                "against_lightconv": against_lightconv("bootstrap", beam),
                "approximate_randomization": against_lightconv("approximate-randomization", beam),
            }
            for beam, scores in result.scores.items()
        },
    }


def markdown(rows: Sequence[Row], experiment: Experiment) -> str:
    """The table; mean and sample standard deviation where there are several seeds."""
    headings = [heading for _, heading in _columns().values()]
    # The published score stands beside the one that it is compared with.
    head = ("system", "beam", "parameters", headings[0], "published", *headings[1:], "p",
            "training", "tokens/s", "train nll", "valid nll")  # fmt: skip
    cells = []
    for row in rows:
        known = published(row.system, experiment.protocol.name, experiment.test_name, row.beam)
        means = [_mean(row.scores[key]) for key in _columns()]
        cells.append(
            (
                SYSTEMS[row.system].name,
                str(row.beam),
                f"{row.parameters:,}",
                means[0],
                f"{known.bleu:.2f}" if known else "",
                *means[1:],
                ", ".join(f"{value:.3f}" for value in row.p_values),
                _duration(statistics.fmean(row.seconds)),
                f"{statistics.fmean(row.tokens_per_second):,.0f}",
                _mean(row.train_nll, digits=3),
                _mean(row.valid_nll, digits=3),
            )
        )
    return "\n".join(tables.markdown(head, cells))


def significance_table(tests: Mapping[str, Tests]) -> list[str]:
    """The difference of every run from LightConv of its seed, with both p-values; or nothing."""
    rows = [
        (
            SYSTEMS[system].name,
            str(beam),
            str(seed),
            one.metric,
            f"{one.difference:+.2f}",
            f"{one.p_value:.3f}",
            f"{other.p_value:.3f}",
        )
        for (system, seed, beam), bootstrap in tests["bootstrap"].items()
        for one, other in zip(
            bootstrap, tests["approximate-randomization"][system, seed, beam], strict=True
        )
    ]
    head = ("system", "beam", "seed", "metric", f"against {SYSTEMS[BASELINE].name}",
            "p, bootstrap", "p, randomisation")  # fmt: skip
    return [*tables.markdown(head, rows, "lrrlrrr"), ""] if rows else []


def notes(record: dict[str, Any], results: Sequence[RunResult]) -> list[str]:
    """What a reader must know to compare the numbers."""
    several = len({result.run.seed for result in results}) > 1
    updates = sorted({result.speed.updates for result in results})
    all_scores = [scores for result in results for scores in result.scores.values()]
    signatures = {
        f"{metric.column[1]}: `{score.signature}`"
        for scores in all_scores
        for metric in METRICS
        if metric.column and isinstance(score := scores[metric.key], PlainTextScore)
    }
    extra = " ".join(record["extra_options"])
    of_versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    lines = [
        (
            f"Mean and sample standard deviation over the seeds {_seeds(results)}. "
            if several
            else f"One seed ({results[0].run.seed}). "
        )
        + f"Split: {record['split']}. Updates trained: {_listed(updates)}.",
        _weights_scored(results, record["last_epochs"]),
        "BLEU-4 is fairseq's over tokens, as the paper reports it; compounds are not split. "
        f"p: paired bootstrap of sacreBLEU ({SAMPLES:,} samples; in effect one-sided) against "
        f"{SYSTEMS[BASELINE].name} of the same seed; approximate randomisation ({SAMPLES:,} "
        "trials) is two-sided. Training: time in updates; tokens/s: target subwords per second, "
        f"runs at a time: {record['runs_at_a_time']}. Nll: the negative log-likelihood in bits per "
        "subword, in training over the last whole epoch, and the lowest in validation.",
        *sorted(signatures),
        *sorted({scores.note for scores in all_scores if scores.note}),
        f"Protocol: `fairseq_cgc/config/{record['protocol']}.yaml`"
        + (f", with `{extra}`." if extra else "."),
        f"Made by `{record['command']}`; {record['machine']}; {of_versions}.",
    ]
    return [line for text in lines for line in (text, "")][:-1]


def _seeds(results: Sequence[RunResult]) -> str:
    """The seeds; those of each system where some runs are missing."""
    seeds: dict[str, list[int]] = {}
    for result in results:
        seeds.setdefault(SYSTEMS[result.run.system].name, []).append(result.run.seed)
    first, *others = seeds.values()
    if all(other == first for other in others):
        return _listed(first)
    return "; ".join(f"{_listed(found)} ({name})" for name, found in seeds.items())


def _weights_scored(results: Sequence[RunResult], last_epochs: int) -> str:
    """Which checkpoints were scored, once for all runs that have the same."""
    runs: dict[str, list[str]] = {}
    for result in results:
        text = describe_weights(list(result.weights), list(result.weights.values()))
        if len(result.weights) < last_epochs:
            text += f", as there are not {last_epochs} whole epochs to average"
        runs.setdefault(text, []).append(result.run.name)
    if len(runs) == 1:
        return f"Weights scored: {next(iter(runs))}."
    listed = "; ".join(f"{text} ({'; '.join(names)})" for text, names in runs.items())
    return f"Weights scored: {listed}."


def _mean(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
