"""Paired tests of each system against LightConv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairseq_cgc.inference.text.lines import read_lines
from fairseq_cgc.mt.evaluate.evaluation import HYPOTHESES, REFERENCES
from fairseq_cgc.mt.evaluate.significance import SAMPLES, PairedTest, paired_bootstrap
from fairseq_cgc.mt.reproduce.runs import RunResult
from fairseq_cgc.mt.reproduce.systems import BASELINE
from fairseq_cgc.support.files import sha256_of, write_json
from fairseq_cgc.support.settings_record import read_record

#: (system, seed, beam) -> a test of each metric.
Tests = Mapping[tuple[str, int, int], list[PairedTest]]


def compare_with_baseline(
    results: Sequence[RunResult], *, lowercase: bool, target_lang: str, test: str = "bootstrap"
) -> Tests:
    """Compare every run with the baseline of the same seed and beam, where there is one.

    Args:
        results: finished runs.
        lowercase: ignore case.
        target_lang: language code of the translations.
        test: see :func:`paired_bootstrap`.
    """
    baselines = {
        (result.run.seed, beam): folder
        for result in results
        if result.run.system == BASELINE
        for beam, folder in result.outputs.items()
    }
    return {
        (result.run.system, result.run.seed, beam): _test(
            folder, baselines[result.run.seed, beam], lowercase, target_lang, test
        )
        for result in results
        if result.run.system != BASELINE
        for beam, folder in result.outputs.items()
        if (result.run.seed, beam) in baselines
    }


def _test(
    folder: Path, baseline: Path, lowercase: bool, target_lang: str, test: str
) -> list[PairedTest]:
    """The tests of one output. They take a while, so they are kept beside it."""
    texts = [folder / HYPOTHESES, baseline / HYPOTHESES, folder / REFERENCES]
    inputs = [*map(sha256_of, texts), lowercase, target_lang, SAMPLES]
    kept = folder / f"against-{BASELINE}{'' if test == 'bootstrap' else f'-{test}'}.json"
    if kept.exists():
        record = read_record(kept)
        if record["inputs"] == inputs:
            return [_from_json(values) for values in record["tests"]]
    lines = [list(read_lines(path)) for path in texts]
    tests = paired_bootstrap(*lines, lowercase=lowercase, target_lang=target_lang, test=test)
    write_json(kept, {"inputs": inputs, "tests": [asdict(found) for found in tests]})
    return tests


def _from_json(values: dict[str, Any]) -> PairedTest:
    pairs = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return PairedTest(**{**values, **pairs})
