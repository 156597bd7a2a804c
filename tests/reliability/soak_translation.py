"""Translate many lines, be killed now and then, and see that no line is lost and memory stays flat.

    python tests/reliability/soak_translation.py CHECKPOINT --data DATA --text FILE \\
        --lines 100000 --kills 6 --work /tmp/soak --report docs/soak.json --plot docs/soak.png

The sentences of FILE are drawn at random, empty lines among them. ``fairseq-cgc translate`` is
killed at random lines, by SIGKILL and SIGINT in turn, and started again. Each line's translation is
then compared with that of the same sentence in a run that nothing disturbed. The resident memory of
the translating process is sampled; it must not grow by more than a tenth between the first quarter
of the lines and the last. An interrupted soak goes on with the same command. The last line is
``soak: tried N, survived N, lost N``. Linux only. Options of translate may follow after ``--``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fairseq_cgc.support.figures import COLUMN, drawing

REPOSITORY = Path(__file__).resolve().parents[2]
_DISTINCT = 2000  # sentences
_EMPTY_EVERY = 97
_GROWTH = 1.1


@dataclass
class Samples:
    """What was measured, over all runs."""

    seconds: list[float] = field(default_factory=list)
    """Since the first start, without the time between two calls of this program."""
    lines: list[int] = field(default_factory=list)
    """Translated so far."""
    mebibytes: list[float] = field(default_factory=list)
    """Resident memory of the translating process."""
    runs: list[int] = field(default_factory=list)
    """Which start of it the sample belongs to."""
    kills: list[list[Any]] = field(default_factory=list)
    """Lines translated, and the signal."""


def draw_lines(text: Path, number: int, seed: int) -> list[str]:
    """Lines to translate: sentences of ``text`` in random order, and empty ones."""
    sentences = [line for line in text.read_text("utf-8").split("\n") if line.strip()][:_DISTINCT]
    draw = random.Random(seed)
    return ["" if i % _EMPTY_EVERY == 0 else draw.choice(sentences) for i in range(number)]


def translate_command(args: argparse.Namespace, text: Path, output: Path) -> list[str]:
    """The command line of fairseq-cgc translate."""
    command = [sys.executable, "-m", "fairseq_cgc", "translate", args.checkpoint]
    command += ["--data", args.data]
    return list(map(str, [*command, "--input", text, "--output", output, *args.options]))


class Translating:
    """A run of fairseq-cgc translate whose memory and progress can be asked for."""

    def __init__(self, command: list[str], output: Path, log: Path) -> None:
        self.output, self._log = output, log
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with log.open("ab") as stream:
            # A shell's background jobs ignore SIGINT, and so would their children.
            self.process = subprocess.Popen(
                command,
                env=environment,
                stderr=stream,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self._counted, self._at = 0, 0

    def mebibytes(self) -> float:
        """Resident memory; 0 when it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0
        found = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(found[0].split()[1]) / 1024 if found else 0.0

    def lines(self) -> int:
        """Lines in the output so far, finished or not."""
        partial = next(self.output.parent.glob(f"{self.output.name}.*.partial"), self.output)
        if not partial.exists():
            return self._counted
        with partial.open("rb") as stream:
            stream.seek(self._at)
            added = stream.read()
        self._counted, self._at = self._counted + added.count(b"\n"), self._at + len(added)
        return self._counted


def soak(args: argparse.Namespace, text: Path, output: Path, samples: Samples) -> None:
    """Translate ``text`` with interruptions, until the output is there."""
    draw = random.Random(args.seed)
    # One kill in every equal part of the lines.
    part = args.lines / (args.kills + 1)
    kill_at = [int(part * (i + draw.uniform(0.3, 1.0))) for i in range(args.kills)]
    notes = args.work / "samples.json"
    while not output.exists():
        run = (samples.runs[-1] + 1) if samples.runs else 0
        before = samples.seconds[-1] if samples.seconds else 0.0
        start = time.monotonic()
        running = Translating(translate_command(args, text, output), output, args.work / "log")
        try:
            while running.process.poll() is None:
                time.sleep(args.interval)
                lines, memory = running.lines(), running.mebibytes()
                if memory:
                    samples.seconds.append(round(before + time.monotonic() - start, 1))
                    samples.lines.append(lines)
                    samples.mebibytes.append(round(memory, 1))
                    samples.runs.append(run)
                if len(samples.kills) < len(kill_at) and lines >= kill_at[len(samples.kills)]:
                    how = (signal.SIGKILL, signal.SIGINT)[len(samples.kills) % 2]
                    samples.kills.append([lines, how.name])
                    notes.write_text(json.dumps(asdict(samples)))
                    running.process.send_signal(how)
                    running.process.wait()
        finally:
            running.process.kill()
            running.process.wait()
            notes.write_text(json.dumps(asdict(samples)))
        print(f"{running.lines()} of {args.lines} lines after run {run}", file=sys.stderr)
        if not output.exists() and running.process.returncode not in (-9, -2, 130):
            sys.exit(f"fairseq-cgc translate failed: see {args.work / 'log'}")


def growth(samples: Samples, number: int) -> float:
    """Highest memory in the last quarter of the lines over that in the first quarter."""
    quarters: tuple[list[float], list[float]] = ([], [])
    for lines, memory in zip(samples.lines, samples.mebibytes, strict=True):
        if 0 < lines <= number / 4:
            quarters[0].append(memory)
        elif lines >= number * 3 / 4:
            quarters[1].append(memory)
    return max(quarters[1]) / max(quarters[0]) if all(quarters) else float("nan")


def draw_plot(samples: Samples, number: int, path: Path) -> None:
    """Memory and lines over time."""
    minutes = [seconds / 60 for seconds in samples.seconds]
    with drawing(path, COLUMN * 1.5, 2.2) as figure:
        axes = figure.subplots()
        for run in sorted(set(samples.runs)):
            chosen = [i for i, r in enumerate(samples.runs) if r == run]
            memory = [samples.mebibytes[i] for i in chosen]
            axes.plot([minutes[i] for i in chosen], memory, color="C0")
            if run:
                axes.axvline(minutes[chosen[0]], color="0.8", lw=0.8, zorder=0)
        axes.set(xlabel="time (minutes; grey: interruptions)", ylim=(0, None))
        axes.set_ylabel("resident memory (MiB)", color="C0")
        right = axes.twinx()
        right.plot(minutes, samples.lines, color="C1", linestyle="--")
        right.set_ylim(0, number)
        right.set_ylabel("lines translated (dashed)", color="C1")


def main() -> None:
    """Parse the arguments, translate, compare, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="sentences to draw from")
    parser.add_argument("--lines", type=int, default=100_000, help="to translate (%(default)s)")
    parser.add_argument("--kills", type=int, default=6, help="interruptions (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between samples")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="JSON file of the samples")
    parser.add_argument("--plot", type=Path, help="PNG file")
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    args = parser.parse_args(given[:end])
    args.options = given[end + 1 :]
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)

    lines = draw_lines(args.text, args.lines, args.seed)
    text, output, notes = (args.work / name for name in ("text", "output", "samples.json"))
    content = "".join(line + "\n" for line in lines).encode()
    if not text.exists() or text.read_bytes() != content:
        text.write_bytes(content)
    distinct = sorted(set(lines))
    single, wanted = args.work / "distinct", args.work / "distinct.output"
    if not wanted.exists():
        single.write_text("".join(line + "\n" for line in distinct), "utf-8")
        subprocess.run(translate_command(args, single, wanted), check=True, env={
            **os.environ, "PYTHONPATH": str(REPOSITORY)
        })  # fmt: skip
    samples = Samples(**json.loads(notes.read_text())) if notes.exists() else Samples()
    soak(args, text, output, samples)

    translation = dict(
        zip(distinct, wanted.read_text("utf-8").split("\n")[: len(distinct)], strict=True)
    )
    found = output.read_text("utf-8").removesuffix("\n").split("\n")
    right = sum(
        translation[line] == given for line, given in zip(lines, found, strict=False)
    )  # one line too few or too many shifts all that follow
    lost = max(len(lines), len(found)) - right
    rate = growth(samples, args.lines)
    print(
        f"{len(found)} lines, {len(samples.kills)} interruptions, memory at most "
        f"{max(samples.mebibytes):.0f} MiB, last quarter over first: {rate:.3f}",
        file=sys.stderr,
    )
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        settings = {"lines": args.lines, "options": args.options, "growth": rate, "lost": lost}
        args.report.write_text(json.dumps({**settings, **asdict(samples)}) + "\n")
    if args.plot:
        draw_plot(samples, args.lines, args.plot)
    print(f"soak: tried {len(lines)}, survived {len(lines) - lost}, lost {lost}")
    sys.exit(1 if lost or rate > _GROWTH else 0)


if __name__ == "__main__":
    main()
