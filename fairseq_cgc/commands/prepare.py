"""Prepare your own parallel text for fairseq-train.

    fairseq-cgc prepare OUT --source-lang deu --target-lang eng --train a --valid 2000 --test 2000
    fairseq-cgc prepare OUT --source-lang deu --target-lang eng --train a b --valid dev --test c d
    fairseq-cgc prepare OUT --like DATA --test news                # for a model trained on DATA

A PREFIX stands for PREFIX.deu and PREFIX.eng, or the same with .gz: UTF-8, one sentence a line. A
number holds out that many pairs of the training text, chosen so that none of their sentences is
left in it. Training pairs with an empty side are dropped. An interrupted run continues where it
stopped. At the end, the commands that train, evaluate and translate are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:  # the package is imported within functions, so that --help is fast
    from fairseq_cgc.mt.prepare.options import PrepareOptions
    from fairseq_cgc.mt.prepare.preparation import Prepared

#: Number of training pairs up to which a recipe is a good start -> its name in
#: ``fairseq_cgc/config``, and the options that differ.
RECIPES: Mapping[float, tuple[str, dict[str, str]]] = {
    100_000: ("multi30k", {}),
    1_000_000: ("iwslt14_de_en", {}),
    float("inf"): (
        "iwslt14_de_en",
        {
            "--arch": "lightconv_cgc_wmt_en_de",
            "--dropout": "0.1",
            "--lr": "0.0007",
            "--update-freq": "8",
            "--max-update": "100000",
        },
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    from fairseq_cgc.mt.prepare import options

    options.add_arguments(parser, langs=(None, None))
    parser.add_argument(
        "--train",
        nargs="+",
        default=(),
        metavar="PREFIX",
        help="training text; several are joined in this order",
    )
    parser.add_argument(
        "--valid", type=_prefix_or_number, metavar="PREFIX_OR_NUMBER",
        help="validation text, or how many training pairs to hold out (./2000 for files of that "
        "name)",
    )  # fmt: skip
    parser.add_argument(
        "--test", type=_prefix_or_number, nargs="+", default=(), metavar="PREFIX_OR_NUMBER",
        help="test text, or how many training pairs to hold out; several become test, test1, "
        "test2, ...",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=1, help="decides which pairs are held out (%(default)s)"
    )
    parser.add_argument(
        "--like", type=Path, metavar="DATA",
        help="prepared data (OUT/bin of another run) whose languages, tokens, subwords and "
        "dictionaries are used, for its models; --train may then be left out",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and print counts and the next commands."""
    from fairseq_cgc.mt.prepare.own_text import OwnText, prepare_own_text
    from fairseq_cgc.mt.prepare.preparation import listed

    options = _options(arguments)
    text = OwnText(arguments.train, arguments.valid, arguments.test, arguments.seed)
    prepared, counts = prepare_own_text(text, arguments.out, options)
    print(
        f"# {prepared.data_dir} | pairs: {listed(prepared.pairs)} | "
        f"dictionary{' (joined)' if options.joined_dictionary else ''}: "
        f"{listed(prepared.dictionary_sizes)}"
    )
    if text.train:
        print(
            f"# training text: {counts['read']} pairs read, {counts['held_out']} held out; "
            f"dropped: {counts['empty']} with an empty side, {counts['copies']} copies of pairs "
            f"held out, {prepared.dropped} by their length"
        )
    print("\n".join(next_commands(arguments.out, prepared, options)))


def _options(arguments: argparse.Namespace) -> PrepareOptions:
    from fairseq_cgc.mt.prepare.options import PrepareOptions, given_options
    from fairseq_cgc.mt.prepare.own_text import options_like

    given = given_options(arguments)
    source, target = (given.pop(name, None) for name in ("source_lang", "target_lang"))
    if like := given.pop("like", None):
        free = ("max_tokens", "max_ratio", "workers")
        others = {name: given.pop(name) for name in free if name in given}
        return options_like(like, source, target, given, **others)
    for option, lang in (("--source-lang", source), ("--target-lang", target)):
        if lang is None:
            raise UserError(f"{option} is missing; it may be left out only with --like")
    # The classic recipes lower-case, but most people want capitals in their translations.
    return PrepareOptions(source, target, **{"lowercase": False, **given})


def _prefix_or_number(text: str) -> str | int:
    return int(text) if re.fullmatch("-?[0-9]+", text) else text


def next_commands(out: Path, prepared: Prepared, options: PrepareOptions) -> list[str]:
    """Lines for a shell that train, evaluate and translate with what was prepared."""
    from fairseq_cgc.mt.fairseq_commands import PACKAGE_DIR
    from fairseq_cgc.support.settings_record import read_counts

    data = str(prepared.data_dir)
    like = options.like
    # A model of other data is where the commands printed for that data have put it.
    model = (like.parent if like else out) / "checkpoints"
    lines = ["", f"# {model} stands for the folder of a model trained on {like}"] if like else []
    if "train" in prepared.pairs:
        pairs = prepared.pairs["train"]
        lines = ["", "# train"]
        start = []
        if like:
            with contextlib.suppress(UserError):  # data made elsewhere have no record of their size
                pairs = read_counts(like).get("pairs", prepared.pairs).get("train", pairs)
            start = ["--finetune-from-model", str(model / "checkpoint_best.pt")]
            lines = ["", f"# fine-tune ({start[1]} stands for a model of {like})"]
            model = out / "checkpoints"
        recipe = training_options(
            pairs, joined=options.joined_dictionary, fine_tuning=like is not None
        )
        words = ["fairseq-train", data, "--user-dir", str(PACKAGE_DIR)]
        words += ["--source-lang", options.source_lang, "--target-lang", options.target_lang]
        words += [*recipe, *start, "--save-dir", str(model), "--log-format", "json"]
        lines.append(_as_shell([*words, "--log-file", str(model / "train.log")]))
    splits = [split for split in prepared.pairs if split.startswith("test")] or ["valid"]
    lines += ["", "# evaluate"]
    for split in splits:
        words = ["fairseq-cgc", "evaluate", str(model), "--data", data, "--split", split]
        lines.append(_as_shell(words))
    words = ["fairseq-cgc", "translate", str(model / "checkpoint_best.pt"), "--data", data]
    words += ["--input", f"{data}/raw/{splits[0]}.{options.source_lang}"]
    words += ["--output", str(out / f"translation.{options.target_lang}")]
    return [*lines, "", "# translate", _as_shell(words)]


def training_options(pairs: int, *, joined: bool, fine_tuning: bool = False) -> list[str]:
    """A recipe to start from, for ``fairseq-train``.

    Args:
        pairs: number of training pairs, which decides the size of the model.
        joined: whether the languages share a dictionary, and so the embeddings.
        fine_tuning: divide the learning rate by ten, for a model that is trained already.
    """
    from fairseq_cgc.mt.fairseq_commands import as_words, merge_options
    from fairseq_cgc.mt.reproduce.protocol import load_protocol

    name, changes = next(recipe for limit, recipe in RECIPES.items() if pairs <= limit)
    protocol = load_protocol(name)
    merged = merge_options(protocol.train_options)
    for option in ("--task", "--source-lang", "--target-lang", "--share-all-embeddings"):
        merged.pop(option, None)
    merged = {"--arch": [protocol.architecture], **merged}
    merged |= {option: [value] for option, value in changes.items()}
    if fine_tuning:
        merged["--lr"] = [f"{float(merged['--lr'][0]) / 10:g}"]
    if joined:
        merged["--share-all-embeddings"] = []
    return as_words(merged)


def _as_shell(words: Sequence[str], width: int = 96) -> str:
    """A command in lines of at most ``width`` characters, broken before options."""
    parts: list[str] = []
    for word in words:
        if word.startswith("--") or not parts:
            parts.append(shlex.quote(word))
        else:
            parts[-1] += f" {shlex.quote(word)}"
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < width:
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)
