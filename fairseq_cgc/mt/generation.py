"""Run ``fairseq-generate`` on a binarised split and read what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq.data import indexed_dataset
from tqdm import tqdm

from fairseq_cgc.core.errors import UserError
from fairseq_cgc.core.files import new_file
from fairseq_cgc.inference.precision import VARIABLE
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.mt.checkpoints import file_stamps
from fairseq_cgc.mt.cli import start_fairseq
from fairseq_cgc.mt.scoring import TokenizedBleu

_SENTENCE = re.compile(r"([STHD])-(\d+)\t(.*)", re.DOTALL)
_RESULT = re.compile(r"Generate \S+ with beam=\d+: ")
_SPEED = re.compile(r"Translated ([\d,]+) sentences .*\(([\d.]+) sentences/s")


@dataclass(frozen=True)
class Generation:
    """Translations of a split; every list is in the order of the source text."""

    sources: list[str]
    references: list[str] | None
    """``None`` if the data has no target side. Unknown words are ``<<unk>>``."""
    hypotheses: list[str]
    """The best translation of every sentence, before any decoding by fairseq."""
    decoded: list[str]
    """The same after ``--bpe`` and ``--tokenizer`` of fairseq, which scores these."""
    scores: list[float]
    """Length-normalised log2-probability of every hypothesis."""
    bleu: TokenizedBleu | None
    """The score that fairseq printed."""
    sentences_per_second: float | None
    """Of beam search alone, without loading and printing."""


def run_generation(
    checkpoint: Path,
    data_dir: Path,
    output: Path,
    language_pair: tuple[str, str],
    *,
    split: str = "test",
    options: SearchOptions | None = None,
    post_process: str | None = None,
    progress: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Generation:
    """Translate a binarised split and keep what fairseq prints in ``output``.

    A finished ``output`` of the same command on the same files is read instead of made again.

    Args:
        checkpoint: the model.
        data_dir: folder of ``fairseq-preprocess``.
        output: log file to write; it appears only when complete.
        language_pair: source and target language of the model.
        split: ``test``, ``valid``, ``test1`` ...
        options: beam search; the defaults of :class:`SearchOptions` if missing.
        post_process: how to join subwords: ``subword_nmt``, ``sentencepiece`` or ``None``.
        progress: whether to draw a progress bar on standard error.
        environment: added to this process's environment.

    Raises:
        UserError: if the split is missing, or fairseq fails or skips a sentence.
    """
    options = options or SearchOptions()
    data_files = split_files(data_dir, split, language_pair)
    sentences = count_sentences(data_files[0])
    arguments = generation_arguments(
        checkpoint, data_dir, language_pair, split, options, post_process
    )
    header = _header(
        arguments,
        options,
        [checkpoint, *data_files, *sorted(data_dir.glob("dict.*.txt"))],
    )
    if not _is_complete(output, header):
        environment = {**(environment or {}), VARIABLE: options.precision}
        _stream(arguments, header, output, sentences if progress else None, environment)
    return read_generation(output, sentences)


def generation_arguments(
    checkpoint: Path,
    data_dir: Path,
    language_pair: tuple[str, str],
    split: str,
    options: SearchOptions,
    post_process: str | None,
) -> list[str | Path]:
    """What :func:`run_generation` gives to ``fairseq-generate``."""
    arguments: list[str | Path] = [
        data_dir, "--path", checkpoint, "--gen-subset", split,
        "--source-lang", language_pair[0], "--target-lang", language_pair[1],
        "--beam", str(options.beam), "--lenpen", str(options.lenpen),
        "--max-tokens", str(options.max_tokens),
    ]  # fmt: skip
    if options.batch_size is not None:
        arguments += ["--batch-size", str(options.batch_size)]
    if post_process is not None:
        arguments += ["--post-process", post_process]
    if options.cpu:
        arguments.append("--cpu")
    return arguments


def read_generation(path: Path, sentences: int | None = None) -> Generation:
    """Read the output of ``fairseq-generate``.

    Args:
        path: UTF-8 file.
        sentences: how many sentences there must be (by default up to the greatest number found).

    Raises:
        UserError: if the file is unreadable, holds no translation or not every sentence.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            return parse_generation(stream, sentences, name=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def parse_generation(
    lines: Iterable[str], sentences: int | None = None, *, name: str = "the output"
) -> Generation:
    """As :func:`read_generation`, from lines; ``name`` is for messages."""
    found: dict[str, dict[int, str]] = {kind: {} for kind in "STHD"}
    scores: dict[str, dict[int, float]] = {"H": {}, "D": {}}
    bleu, speed = None, None
    for line in lines:
        if match := _SENTENCE.fullmatch(line.removesuffix("\n")):
            kind, number, text = match[1], int(match[2]), match[3]
            if kind in "HD":
                score, _, text = text.partition("\t")
                # Of several translations (--nbest) the most probable one counts.
                if number in scores[kind] and float(score) <= scores[kind][number]:
                    continue
                scores[kind][number] = float(score)
            found[kind][number] = text
        elif _RESULT.match(line):
            bleu = TokenizedBleu.parse(line)
        elif match := _SPEED.search(line):
            speed = float(match[2])

    if sentences is None:
        sentences = max(found["H"], default=-1) + 1
    if sentences == 0:
        raise UserError(f"{name} holds no translation by fairseq-generate")
    missing = [number for number in range(sentences) if number not in found["H"]]
    if missing:
        numbers = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise UserError(f"{name} lacks {len(missing)} of {sentences} sentences: {numbers}")

    def ordered(kind: str) -> list[str]:
        return [found[kind].get(number, "") for number in range(sentences)]

    return Generation(
        sources=ordered("S"),
        references=ordered("T") if found["T"] else None,
        hypotheses=ordered("H"),
        decoded=ordered("D"),
        scores=[scores["H"][number] for number in range(sentences)],
        bleu=bleu,
        sentences_per_second=speed,
    )


def split_files(data_dir: Path, split: str, language_pair: tuple[str, str]) -> list[Path]:
    """The binarised files of a split, the source's first.

    Raises:
        UserError: if there is no such split; the message names those that exist.
    """
    source, target = language_pair
    for pair in (f"{source}-{target}", f"{target}-{source}"):
        if (data_dir / f"{split}.{pair}.{source}.bin").exists():
            sides = [data_dir / f"{split}.{pair}.{lang}.bin" for lang in language_pair]
            return [path for path in sides if path.exists()]
    present = sorted(path.name.split(".")[0] for path in data_dir.glob(f"*.*-*.{source}.bin"))
    raise UserError(
        f"{data_dir} has no split {split!r} for {source} to {target}; "
        f"it has {', '.join(present) or 'none'}"
    )


def count_sentences(binary: Path) -> int:
    """Number of sentences in a binarised file."""
    prefix = str(binary.with_suffix(""))
    kind = indexed_dataset.infer_dataset_impl(prefix)
    if kind is None:
        raise UserError(f"{binary} has no index that fairseq can read")
    return len(indexed_dataset.make_dataset(prefix, kind))


def _header(arguments: Sequence[str | Path], options: SearchOptions, inputs: Sequence[Path]) -> str:
    """First line of a log: what was run, where and on which files; the same again is not run."""
    values = {"arguments": list(map(str, arguments)), "device": options.device_name}
    if options.precision != SearchOptions.precision:
        values["precision"] = options.precision
    return json.dumps({**values, "files": file_stamps(inputs)})


def _is_complete(output: Path, header: str) -> bool:
    """A log is renamed to its name only when complete, so its first line is enough."""
    if not output.exists():
        return False
    with output.open(encoding="utf-8", errors="replace", newline="\n") as stream:
        return stream.readline() == header + "\n"


def _stream(
    arguments: Sequence[str | Path],
    header: str,
    output: Path,
    sentences: int | None,
    environment: Mapping[str, str],
) -> None:
    """Run fairseq-generate into ``output``; ``sentences`` is the total of the progress bar."""
    output.parent.mkdir(parents=True, exist_ok=True)
    errors = output.with_name(output.name + ".stderr")
    with (
        new_file(output) as partial,
        partial.open("wb") as log,
        errors.open("w+b") as messages,
        tqdm(total=sentences, desc="translating", unit="sent", disable=sentences is None) as bar,
    ):
        log.write(header.encode() + b"\n")
        with start_fairseq(
            "generate",
            arguments,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, **environment, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"},
        ) as process:
            assert process.stdout is not None
            try:
                # Bytes, because only \n ends a line: text mode would also split at \r.
                for line in process.stdout:
                    log.write(line)
                    bar.update(line.startswith(b"S-"))
            except BaseException:
                process.kill()
                raise
        messages.seek(0)
        text = messages.read().decode(errors="replace").strip()
        if process.returncode != 0:
            last = text.rpartition("\n")[2]
            raise UserError(
                f"fairseq-generate ended with status {process.returncode}: {last} (see {errors})"
            )
        # fairseq logs to standard error or output, depending on who configured logging first.
        log.writelines(f"{line}\n".encode() for line in text.split("\n") if _SPEED.search(line))
    errors.unlink()
