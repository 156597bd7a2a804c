"""fairseq's commands and fairseq-cgc's, as processes forked from one that has imported all.

A command spends seconds on imports and, here, less on its work. Each of these processes is like
one that was started afresh: it has its own arguments, its own output and its own end.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import fairseq_cgc
from fairseq_cgc.__main__ import cli_main
from fairseq_cgc.compat.commands import show_user_errors_in_one_line

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PACKAGE = Path(fairseq_cgc.__file__).resolve().parent

_PRELOADED = (
    "warm",
    "demo_training",
    "fairseq_cli.train",
    "fairseq_cli.generate",
    "fairseq_cli.hydra_train",
    "fairseq_cgc.mt.evaluate.evaluation",
    "fairseq_cgc.inference.translator",
)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    output: str

    @property
    def errors(self) -> list[str]:
        """Lines that tell of an error."""
        return re.findall(r"^(?:\[rank\d\]: )?error: (.*)$", self.output, re.MULTILINE)


def start(output: Path, name: str, *arguments: str | Path, **environment: str) -> BaseProcess:
    """Start ``fairseq-NAME``, or ``fairseq-cgc COMMAND`` where that is the name.

    Args:
        output: file for standard output and errors.
        name: of the command.
        arguments: of the command; fairseq's get ``--user-dir`` too.
        environment: added to this process's.
    """
    command = [name, *map(str, arguments)]
    process = context().Process(target=run_here, args=(command, str(output), environment))
    process.start()
    return process


def end(process: BaseProcess, output: Path) -> Result:
    """Wait until a process ends; kill it if it hangs."""
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return Result(process.exitcode, output.read_text("utf-8", errors="replace"))


def run(output: Path, name: str, *arguments: str | Path, **environment: str) -> Result:
    """:func:`start` and :func:`end`."""
    return end(start(output, name, *arguments, **environment), output)


def context() -> multiprocessing.context.ForkServerContext:
    """Makes processes that have imported all."""
    # Python 3.11's server does not know this process's sys.path, only the environment.
    paths = [str(HERE), str(PACKAGE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def run_here(command: list[str], output: str, environment: dict[str, str] | None = None) -> None:
    """Be the process that runs a command, until it ends."""
    os.environ.update(environment or {})
    descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    name, *arguments = command
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(REPOSITORY)
    try:
        if name.startswith("fairseq-cgc "):
            sys.argv = [*name.split(), *arguments]
            cli_main()
        else:
            user_dir = [] if name == "hydra_train" else ["--user-dir", str(PACKAGE)]
            sys.argv = [f"fairseq-{name}", *arguments, *user_dir]
            show_user_errors_in_one_line()
            importlib.import_module(f"fairseq_cli.{name}").cli_main()
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
