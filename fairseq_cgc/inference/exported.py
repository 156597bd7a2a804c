"""A model as one self-contained folder: weights (no pickle), dictionaries, text preparation."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fairseq_cgc.inference.model import Model, tied_weights
from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.inference.precision import PRECISIONS, set_precision
from fairseq_cgc.inference.text.pipeline import TextPipeline
from fairseq_cgc.support.environment import versions
from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.files import new_folder, sha256_of, write_json
from fairseq_cgc.support.tables import markdown

DESCRIPTION, WEIGHTS, CARD = "model.json", "model.safetensors", "README.md"
_FORMAT = 1


@dataclass(frozen=True)
class Exported:
    """What :func:`read_exported` reads; dictionaries and text preparation are files beside it."""

    model: Model
    precision: str
    languages: tuple[str, str]


def is_exported(folder: Path) -> bool:
    """Whether :func:`export` wrote this folder."""
    return (folder / DESCRIPTION).is_file()


def export(
    model: Model,
    languages: tuple[str, str],
    data_dir: Path,
    pipeline: TextPipeline | None,
    out: Path,
    *,
    precision: str = PRECISIONS[0],
    scores: Mapping[str, Any] | None = None,
    licence: str | None = None,
    citation: str | None = None,
) -> None:
    """Write a folder for :class:`Translator`, all or nothing.

    Args:
        model: the model in float32; its weights are converted to ``precision``.
        languages: source and target.
        data_dir: the folder of the dictionaries and of the files of ``pipeline``.
        pipeline: how raw text is prepared; without it, only binarised text can be translated.
        out: the folder to make; it must not exist.
        precision: the precision of the weights.
        scores: scores of :mod:`fairseq_cgc.mt.evaluate.evaluation`, for the model card.
        licence: the model's licence, for the card.
        citation: how to cite the model, for the card.

    Raises:
        UserError: if ``out`` exists or cannot be written, or a file is missing.
    """
    set_precision(model, precision)
    with new_folder(out) as partial:
        tied = {name for name, _ in tied_weights(model.options)}
        weights = {
            name: tensor.contiguous()
            for name, tensor in model.state_dict().items()
            if precision == "int8" or name not in tied
        }
        if precision == "int8" and model.options.share_all_embeddings:
            del weights["decoder.embed_tokens.weight"]
        try:
            save_file(weights, partial / WEIGHTS)
        except SafetensorError as error:  # a full disk, which is no OSError here
            raise UserError(f"{out}: cannot be made ({error})") from error
        for lang in languages:
            shutil.copyfile(data_dir / f"dict.{lang}.txt", partial / f"dict.{lang}.txt")
        if pipeline is not None:
            subwords = pipeline.file(pipeline.subword_model)
            shutil.copyfile(subwords, partial / subwords.name)
            dataclasses.replace(pipeline, raw={}, subword_model=subwords.name).save(partial)
        description = {
            "format": _FORMAT,
            "source_lang": languages[0],
            "target_lang": languages[1],
            "precision": precision,
            "versions": versions(),
            "files": {path.name: sha256_of(path) for path in sorted(partial.iterdir())},
            "options": dataclasses.asdict(model.options),
        }
        write_json(partial / DESCRIPTION, description)
        card = _card(model, languages, precision, scores, licence, citation, out.name)
        (partial / CARD).write_text(card, encoding="utf-8")


def read_exported(folder: Path) -> Exported:
    """Read a folder of :func:`export`.

    Raises:
        UserError: if a file is missing, was changed, or does not fit the others.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        files, precision = dict(description["files"]), description["precision"]
        languages = (str(description["source_lang"]), str(description["target_lang"]))
        found_format, options = description["format"], dict(description["options"])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error})") from error
    if found_format != _FORMAT:
        raise UserError(f"{path}: format is {found_format!r}, but must be {_FORMAT}")
    if precision not in PRECISIONS:
        raise UserError(
            f"{path}: precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}"
        )
    needed = [WEIGHTS, *(f"dict.{lang}.txt" for lang in languages)]
    for name in dict.fromkeys([*needed, *files]):
        if Path(name).name != name or name not in files:
            raise UserError(f"{path}: damaged (it does not list {name} as a file of the folder)")
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}")
        if sha256_of(folder / name) != files[name]:
            raise UserError(f"{folder / name} is damaged: it is not the file that was exported")
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{folder / WEIGHTS} is damaged ({error})") from error
    try:
        model = Model.from_state(ModelOptions.from_values(options), weights, precision=precision)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return Exported(model, precision, languages)


def _card(
    model: Model,
    languages: tuple[str, str],
    precision: str,
    scores: Mapping[str, Any] | None,
    licence: str | None,
    citation: str | None,
    name: str,
) -> str:
    source, target = languages
    options = model.options
    gates = {
        "encoder": "none"
        if options.encoder_gate_target == "none"
        else f"on the {options.encoder_gate_target}, norm {options.encoder_gate_norm}",
        "decoder": options.decoder_gate,
    }
    rows = [
        ("languages", f"{source} to {target}"),
        ("precision of the weights", precision),
        ("encoder", f"{len(options.encoder_kernel_size_list)} layers, {options.encoder_embed_dim} "
         f"wide, {options.encoder_conv_type} convolutions, context gates: {gates['encoder']}"),
        ("decoder", f"{len(options.decoder_kernel_size_list)} layers, {options.decoder_embed_dim} "
         f"wide, {options.decoder_conv_type} convolutions, context gates: {gates['decoder']}"),
        *((package, version) for package, version in versions().items()),
        ("licence", licence or "not stated"),
    ]  # fmt: skip
    table = "\n".join(markdown(("", ""), rows, "ll"))
    found = json.dumps(scores, indent=2, ensure_ascii=False) if scores else "not known"
    return (
        # In quotes, as "no" (Norwegian) without them is false in YAML.
        f"---\nlanguage: {json.dumps(languages)}\n"
        f"license: {json.dumps(licence or 'unknown', ensure_ascii=False)}\n"
        f"pipeline_tag: translation\n---\n\n# {name}\n\n"
        "A LightConv translation model with context-gated convolution (Lin et al., ECCV 2020), "
        "exported by fairseq-cgc.\n\n"
        "    from fairseq_cgc.inference import Translator\n\n"
        f'    print(*Translator("{name}").translate(["..."]))\n\n'
        f"{table}\n\n## Scores\n\n    "
        + found.replace("\n", "\n    ")
        + f"\n\n## Citation\n\n{citation or 'Not stated.'}\n"
    )
