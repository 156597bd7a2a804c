"""Prepare your own parallel text for fairseq-train.

    fairseq-cgc prepare OUT --source-lang deu --target-lang eng --train a --valid 2000 --test 2000
    fairseq-cgc prepare OUT --source-lang deu --target-lang eng --train a b --valid dev --test c d
    fairseq-cgc prepare OUT --like DATA --test news                # for a model trained on DATA

A PREFIX names PREFIX.deu and PREFIX.eng, or the same with .gz: UTF-8, one sentence a line. A
number is that many pairs held out from the training text, chosen so that no sentence of theirs
is left in it. Training pairs with an empty side are dropped. An interrupted run continues where
it stopped. At the end, the commands that train, evaluate and translate are printed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_cgc.support.errors import UserError

if TYPE_CHECKING:  # the package is imported within functions, so that --help is fast
    from fairseq_cgc.mt.prepare.preparation import Prepared, PrepareOptions

#: Pairs of training text up to which a recipe is a good start -> its name in
#: ``fairseq_cgc/config``, and what is changed in it.
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
    parser.add_argument("out", type=Path, help="folder to work in; OUT/bin is for fairseq-train")
    text = parser.add_argument_group("text")
    text.add_argument("--source-lang", metavar="CODE", help="translate from, and files' ending")
    text.add_argument("--target-lang", metavar="CODE", help="translate into, and files' ending")
    text.add_argument(
        "--train", nargs="+", default=(), metavar="PREFIX", help="joined in this order"
    )
    text.add_argument(
        "--valid", type=_prefix_or_number, metavar="PREFIX_OR_NUMBER",
        help="files, or how many pairs to hold out (for files that are called so: ./2000)",
    )  # fmt: skip
    text.add_argument(
        "--test", type=_prefix_or_number, nargs="+", default=(), metavar="PREFIX_OR_NUMBER",
        help="they become test, test1, test2, ...",
    )  # fmt: skip
    text.add_argument(
        "--seed", type=int, default=1, help="of the choice of pairs to hold out (%(default)s)"
    )
    text.add_argument(
        "--max-tokens", type=int, default=250, metavar="N",
        help="drop training pairs with more tokens on a side (%(default)s)",
    )  # fmt: skip
    text.add_argument(
        "--max-ratio", type=float, metavar="R",
        help="drop training pairs with a side more than R times as long as the other (off)",
    )  # fmt: skip
    form = parser.add_argument_group("tokens and subwords")
    form.add_argument(
        "--like", type=Path, metavar="DATA",
        help="prepared data (OUT/bin of another run) whose languages, tokens, subwords and "
        "dictionaries are used, for its models; --train may be missing then",
    )  # fmt: skip
    form.add_argument(
        "--tokenizer", choices=("moses", "none"),
        help="none: text is tokenised already, or left to sentencepiece (moses)",
    )  # fmt: skip
    form.add_argument(
        "--lowercase", action=argparse.BooleanOptionalAction, help="lower-case all text (no)"
    )
    form.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction,
        help="normalise punctuation as Moses does (yes)",
    )  # fmt: skip
    form.add_argument(
        "--bpe", choices=("subword-nmt", "sentencepiece"),
        help="subword model, learnt on both languages together (subword-nmt)",
    )  # fmt: skip
    form.add_argument(
        "--bpe-size", type=int, metavar="N",
        help="merges (subword-nmt) or pieces (sentencepiece) to learn (10000)",
    )  # fmt: skip
    dictionary = form.add_mutually_exclusive_group()
    dictionary.add_argument(
        "--joined-dictionary", action="store_true", default=None,
        help="one dictionary for both languages (the default)",
    )  # fmt: skip
    dictionary.add_argument(
        "--separate-dictionaries", dest="joined_dictionary", action="store_false", default=None,
        help="one dictionary for each language",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N",
        help="processes (%(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and print counts and the next commands."""
    from fairseq_cgc.mt.prepare.own_text import OwnText, prepare_own_text

    options = _options(arguments)
    text = OwnText(arguments.train, arguments.valid, arguments.test, arguments.seed)
    prepared, counts = prepare_own_text(text, arguments.out, options)
    sizes = ", ".join(f"{lang} {size}" for lang, size in prepared.dictionary_sizes.items())
    pairs = ", ".join(f"{split} {count}" for split, count in prepared.pairs.items())
    joined = " (joined)" if options.joined_dictionary else ""
    print(f"# {prepared.data_dir} | pairs: {pairs} | dictionary{joined}: {sizes}")
    if text.train:
        print(
            f"# training text: {counts['read']} pairs read, {counts['held_out']} held out; "
            f"dropped: {counts['empty']} with an empty side, {counts['copies']} copies of pairs "
            f"held out, {prepared.dropped} by their length"
        )
    print("\n".join(next_commands(arguments.out, prepared, options)))


def _options(arguments: argparse.Namespace) -> PrepareOptions:
    from fairseq_cgc.mt.prepare.own_text import options_like
    from fairseq_cgc.mt.prepare.preparation import PrepareOptions

    source, target = arguments.source_lang, arguments.target_lang
    names = ("tokenizer", "normalize", "lowercase", "joined_dictionary", "bpe_size")
    asked = {name: getattr(arguments, name) for name in names}
    asked["subwords"] = arguments.bpe and arguments.bpe.replace("-", "_")
    others = {name: getattr(arguments, name) for name in ("max_tokens", "max_ratio", "workers")}
    if arguments.like is not None:
        return options_like(arguments.like, source, target, asked, **others)
    for option, lang in (("--source-lang", source), ("--target-lang", target)):
        if lang is None:
            raise UserError(f"{option} is missing; only with --like is none needed")
    # Unlike the classic recipes, cased: most people want capitals in their translations.
    chosen = {"lowercase": False, **{k: v for k, v in asked.items() if v is not None}}
    return PrepareOptions(source, target, **chosen, **others)


def _prefix_or_number(text: str) -> str | int:
    return int(text) if re.fullmatch("-?[0-9]+", text) else text


def next_commands(out: Path, prepared: Prepared, options: PrepareOptions) -> list[str]:
    """Lines for a shell that train, evaluate and translate with what was prepared."""
    from fairseq_cgc.mt.fairseq_commands import PACKAGE_DIR
    from fairseq_cgc.support.settings_record import read_counts

    data = str(prepared.data_dir)
    langs = (options.source_lang, options.target_lang)
    lines = []
    # A model of other data is where the commands printed for that data have put it.
    model = (out if options.like is None else options.like.parent) / "checkpoints"
    if "train" in prepared.pairs:
        pairs = prepared.pairs["train"]
        lines = ["", "# train"]
        start = []
        if options.like is not None:
            pairs = read_counts(options.like).get("pairs", prepared.pairs).get("train", pairs)
            start = ["--finetune-from-model", str(model / "checkpoint_best.pt")]
            lines = ["", f"# fine-tune ({start[1]} stands for a model of {options.like})"]
            model = out / "checkpoints"
        recipe = training_options(
            pairs, joined=options.joined_dictionary, fine_tuning=options.like is not None
        )
        words = ["--source-lang", langs[0], "--target-lang", langs[1]]
        words += [*recipe, *start, "--save-dir", str(model), "--log-format", "json"]
        words += ["--log-file", str(model / "train.log")]
        lines.append(_as_shell(["fairseq-train", data, "--user-dir", str(PACKAGE_DIR), *words]))
    elif options.like is not None:
        lines = ["", f"# {model} stands for the folder of a model trained on {options.like}"]
    splits = [split for split in prepared.pairs if split.startswith("test")] or ["valid"]
    lines += ["", "# evaluate"]
    for split in splits:
        words = ["fairseq-cgc", "evaluate", str(model), "--data", data, "--split", split]
        lines.append(_as_shell(words))
    source = f"{data}/raw/{splits[0]}.{langs[0]}"
    words = ["fairseq-cgc", "translate", str(model / "checkpoint_best.pt"), "--data", data]
    words += ["--input", source, "--output", str(out / f"translation.{langs[1]}")]
    return [*lines, "", "# translate", _as_shell(words)]


def training_options(pairs: int, *, joined: bool, fine_tuning: bool = False) -> list[str]:
    """A recipe to start from, for ``fairseq-train``.

    Args:
        pairs: of the training text, which decide the size of the model.
        joined: whether the languages share a dictionary, and so the embeddings.
        fine_tuning: learn at a tenth of the rate, from a trained model.
    """
    from fairseq_cgc.mt.fairseq_commands import merge_options
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
    return [word for option, values in merged.items() for word in (option, *values)]


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
