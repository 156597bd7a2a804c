"""User mistakes that fairseq itself finds and reports in a traceback: explained in one line."""

from __future__ import annotations

import linecache
import re
import traceback
from pathlib import Path
from typing import Any

from fairseq_cgc.support.options import option_of

#: The function that fails, a pattern for the exception (its type and text), and the explanation.
#: Braces in it stand for groups of the pattern and for local variables of the function.
_KNOWN = (
    ("parse_args_and_arch", r"^RuntimeError: $",
     "--arch is missing; fairseq-cgc info lists this package's"),
    ("parse_args_and_arch", r"Cannot combine --fp16 and --tpu",
     "--fp16 and --bf16 exclude each other"),
    ("convert_namespace_to_omegaconf", r"Error merging override [\w.]*?(\w+)=null",
     "--{0} is missing"),
    ("convert_namespace_to_omegaconf", r"Interpolation key 'task\.(\w+)' not found",
     "--arch needs --{0}, which this --task does not have; choose one that fits"),
    ("build_x", r"Missing mandatory value: (\w+)", "--{0} is missing"),
    ("batch_by_size", r"should not exceed max_tokens=(\d+)",
     "--max-tokens (or --max-tokens-valid) is {0}, but a sentence is longer; raise it"),
    ("batch_by_size", r"^IndexError",
     "no sentence is left: all are longer than --max-tokens, {max_tokens}, or than the model's "
     "--max-source-positions and --max-target-positions"),
    ("filter_indices_by_size", r"sample #(\d+) is invalid \(=(.*)\) since max_positions=(.*), skip",
     "sentence {0} has {1} tokens, but --max-source-positions and --max-target-positions are {2}; "
     "shorten it, or leave such sentences out with --skip-invalid-size-inputs-valid-test"),
    ("__init__", r"cannot specify cutoff larger than vocab size",
     "--adaptive-softmax-cutoff is {cutoff}, but must be less than the number of words, "
     "{vocab_size}"),
    ("__init__", r"embed_dim must be divisible by num_heads",
     "--encoder-attention-heads or --decoder-attention-heads is {num_heads}, but must divide the "
     "width, {embed_dim}"),
    ("validate", r"^KeyError: '(.*)'",
     "--best-checkpoint-metric is {0}, but a validation gives {stats}"),
    ("__getitem__", r"^ValueError: offset must be", "{self._path}.bin is cut off"),
    ("__init__", r"^ValueError: buffer is smaller", "{path} is cut off"),
    ("get_maybe_sharded_checkpoint_filename", r"^AttributeError: 'NoneType'", "--path is missing"),
    ("init_constraints", r"^TypeError: 'NoneType'",
     "--constraints is for fairseq-interactive, which reads them after each sentence"),
    ("_main", r"^KeyError: 'steps'", "--print-step is for models that translate in several steps"),
    ("find_offsets", r"^ZeroDivisionError",
     "--workers is {num_chunks}, but must be at least 1"),
    ("main", r"^FileExistsError: (.*)", "{0} exists already; give another --destdir"),
)  # fmt: skip


def explain(error: BaseException) -> str | None:
    """One line for an exception of fairseq that a user's mistake has caused; None for real bugs.

    Messages of fairseq's own ``raise`` and ``assert`` statements are for users, except in the
    training step, where they point to errors in models.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    where = [(Path(f.f_code.co_filename).name, f.f_code.co_name) for f, _ in frames]
    text = str(error).strip()
    for function, pattern, message in _KNOWN:
        found = re.search(pattern, f"{type(error).__name__}: {text}", re.DOTALL)
        if found:
            for frame, _ in reversed(frames):
                if frame.f_code.co_name == function:
                    return _explanation(message, found.groups(), frame.f_locals)
    if isinstance(error, SyntaxError | ValueError) and ("ast.py", "literal_eval") in where:
        return _explain_literal(frames)
    own = Path(frames[-1][0].f_code.co_filename) if frames else Path()
    line = linecache.getline(str(own), frames[-1][1]) if frames else ""
    is_said = (
        isinstance(error, AssertionError) or re.match(r"\s*raise\b", line) or own.suffix == ".pyx"
    )
    in_step = any(name in ("train_step", "valid_step", "forward") for _, name in where)
    if text and {"fairseq", "fairseq_cli"} & set(own.parts) and is_said and not in_step:
        schedule = getattr(frames[-1][0].f_locals.get("cfg"), "_name", None)
        is_schedule = own.parent.name == "lr_scheduler"
        return (f"--lr-scheduler {schedule}: " if is_schedule else "") + " ".join(text.split())
    return None


def _explanation(message: str, found: tuple[str, ...], names: dict[str, Any]) -> str:
    names = {k: ", ".join(v) if isinstance(v, dict) else v for k, v in names.items()}
    told = re.sub(r"np\.int\d+\((\d+)\)", r"\1", message.format(*found, **names))
    return re.sub(r"--\w+", lambda option: option[0].replace("_", "-"), told)


def _explain_literal(frames: list[Any]) -> str | None:
    """Name the option that ``ast.literal_eval`` could not read, found in the line that calls it."""
    for frame, number in reversed(frames):
        line = linecache.getline(frame.f_code.co_filename, number)
        if found := re.search(r"literal_eval\([\w.]*\.(\w+)\)", line):
            return f"{option_of(found[1])} must be a Python dictionary, such as {{'dropout': 0.1}}"
    return None
