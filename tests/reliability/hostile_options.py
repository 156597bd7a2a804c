"""Hostile options: command lines, and options of the model."""

from __future__ import annotations

import contextlib
import shutil
import urllib.request
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import hostile_inputs as hostile
from hypothesis import strategies as st
from iwslt_archive import campaign_files, write_archive
from surroundings import (
    SENTENCES,
    Lost,
    Surroundings,
    command_line,
    ends_clearly,
    fairseq_in_this_process,
    nothing_half,
    write_raw,
)
from target import Target

from fairseq_cgc.__main__ import main

#: Resolved by :func:`_resolve`; the cases themselves do not depend on the machine.
_PATHS = st.sampled_from(
    [
        *("{data}", "{data}/dict.de.txt", "{model}", "{text}", "{text}", "{latin}", "{folder}"),
        *("{new}", "{new}/deep/er", "{missing}", "{text}/below", "{long}", "", ".", "..", "-", "~"),
        *("/dev/null", "/dev/zero", "{new} with space", "{new}ü文", "{corpus}", "{campaign}"),
    ]
)


def _path(good: str) -> st.SearchStrategy[str]:
    return hostile.mostly(st.just(good), _PATHS, 4)


def _number(*good: str) -> st.SearchStrategy[str]:
    return hostile.mostly(st.sampled_from(good), hostile.number_words, 3)


_LANG = hostile.mostly(st.sampled_from(["de", "en"]), hostile.names, 4)
_BPE = st.sampled_from(["subword-nmt", "sentencepiece", "bpe"])
#: What each command is given: by place, then by name (None: a switch).
_POSITIONAL = {
    "translate": [_path("{model}")],
    "tokenize": [],
    "prepare-multi30k": [_path("{new}")],
    "prepare-iwslt14": [_path("{new}")],
    "average": [_path("{folder}")],
    "compare": [_path("{text}"), _path("{text}"), _path("{text}")],
    "export": [_path("{model}")],
}
_PARAMETERS: dict[str, dict[str, st.SearchStrategy[str] | None]] = {
    "translate": {
        "--data": _path("{data}"),
        "--input": _path("{text}"),
        "--output": _path("{new}"),
        "--buffer-size": _number("1", "7"),
        "--beam": _number("1", "2"),
        "--lenpen": _number("0", "1.5", "-1"),
        "--max-tokens": _number("1", "400"),
        "--batch-size": _number("1", "3"),
        "--precision": st.sampled_from(["float32", "bfloat16", "int8", "float16", ""]),
        "--nbest": _number("1", "2"),
        "--unkpen": _number("0", "3"),
        "--temperature": _number("1", "0.5"),
        "--min-len": _number("1", "4"),
        "--max-len-a": _number("0", "1.2"),
        "--max-len-b": _number("5", "200"),
        "--no-repeat-ngram-size": _number("0", "2"),
        "--unnormalized": None,
        "--match-source-len": None,
        "--cpu": None,
        "--no-such": None,
    },
    "tokenize": {
        "--lang": _LANG,
        "--lowercase": None,
        "--normalize": None,
        "--workers": _number("1"),
    },
    "prepare-multi30k": {
        "--from": _path("{corpus}"),
        "--source-lang": _LANG,
        "--target-lang": _LANG,
        "--bpe": _BPE,
        "--bpe-size": _number("60", "80"),
        "--max-tokens": _number("9", "250"),
        "--workers": _number("1"),
        "--separate-dictionaries": None,
    },
    "prepare-iwslt14": {
        "--from": _path("{campaign}"),
        "--source-lang": _LANG,
        "--target-lang": _LANG,
        "--year": _number("2014"),
        "--test-sets": st.one_of(st.just("tst2010"), hostile.names),
        "--bpe": _BPE,
        "--bpe-size": _number("200"),
        "--workers": _number("1"),
        "--joined-dictionary": None,
    },
    "average": {
        "--output": _path("{new}"),
        "--last-epochs": _number("1"),
        "--last-updates": _number("1"),
        "--best": _number("1"),
    },
    "export": {
        "--data": _path("{data}"),
        "--out": _path("{new}"),
        "--precision": st.sampled_from(["float32", "bfloat16", "int8", "float16"]),
        "--licence": hostile.names,
        "--citation": hostile.names,
    },
    "compare": {
        "--source": _path("{text}"),
        "--names": st.one_of(st.just("a,b"), hostile.names),
        "--samples": st.sampled_from(["-1", "0", "1", "30", "x"]),
        "--top": _number("1"),
        "--html": _path("{new}"),
        "--lowercase": None,
    },
}
_OUTPUTS = ("--output", "--html", "--out")
#: Left out once in ten cases.
_REQUIRED = {
    "translate": {"--data"},
    "tokenize": {"--lang", "--workers"},
    "prepare-multi30k": {"--from", "--workers", "--bpe-size"},
    "prepare-iwslt14": {"--from", "--workers", "--bpe-size"},
    "average": {"--output", "--last-epochs"},
    "compare": set(),
    "export": {"--data", "--out"},
}


@st.composite
def _command_lines(draw: st.DrawFn) -> tuple[str, list[str], bytes]:
    command = draw(st.sampled_from(sorted(_PARAMETERS)))
    parameters = _PARAMETERS[command]
    words = [draw(value) for value in _POSITIONAL[command]]
    chosen = set(draw(st.lists(st.sampled_from(sorted(parameters)), max_size=3)))
    if draw(st.integers(1, 10)) > 1:
        chosen |= _REQUIRED[command]
    for option in sorted(chosen):
        value = parameters[option]
        words += [option] if value is None else [option, draw(value)]
    stdin = draw(hostile.files) if command in ("translate", "tokenize") else b""
    return command, words, stdin


def _resolve(folder: Path, word: str) -> str:
    text = folder / "text"
    paths = {
        "{data}": folder / "data",
        "{model}": folder / "model.pt",
        "{text}": text,
        "{latin}": folder / "latin",
        "{folder}": folder / "folder",
        "{corpus}": folder / "corpus",
        "{campaign}": folder / "de-en.tgz",
        "{new}": folder / "new",
        "{missing}": folder / "missing",
        "{long}": folder / ("n" * 300),
    }
    for name, path in paths.items():
        word = word.replace(name, str(path))
    return word


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network in a test")


def _call_command(place: Surroundings, case: tuple[str, list[str], bytes]) -> bool:
    name, words, stdin = case
    folder = place.fresh()
    (folder / "text").write_text("Der Hund sieht.\n\nDer Ball.\n", encoding="utf-8")
    (folder / "latin").write_bytes("größe\n".encode("latin-1"))
    (folder / "folder").mkdir()
    shutil.copytree(place.data, folder / "data")
    for copy in ("model.pt", "folder/checkpoint1.pt"):
        shutil.copyfile(place.checkpoint, folder / copy)
    names = ("train", "val", "test_2016_flickr", "test_2017_flickr")
    write_raw(folder / "corpus", dict.fromkeys(names, SENTENCES))
    write_archive(folder / "de-en.tgz", campaign_files())
    before = _contents(folder)
    words = [_resolve(folder, word) for word in words]
    with (
        contextlib.chdir(folder),
        command_line([name, *words], stdin),
        patch.object(urllib.request, "urlopen", _no_network),
        fairseq_in_this_process(),
    ):
        succeeded = ends_clearly(main)
    nothing_half(folder)
    # An old output may be replaced.
    outputs = {(folder / word).resolve() for option, word in pairwise(words) if option in _OUTPUTS}
    for path, content in before.items():
        if path.resolve() not in outputs and (not path.exists() or path.read_bytes() != content):
            raise Lost(f"{path} is changed or gone")
    return succeeded


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMAND_OPTIONS = Target(_command_lines(), _call_command, 10)

_sizes = st.sampled_from([-1, 0, 1, 2, 3, 4, 6, 8, 16])
_kernels = st.lists(st.sampled_from([-1, 0, 1, 2, 3, 5, 7]), max_size=4)
_model_options = st.fixed_dictionaries(
    {},
    optional={
        **{
            f"--{side}-{name}": _sizes.map(str)
            for side in ("encoder", "decoder")
            for name in ("embed-dim", "conv-dim", "ffn-embed-dim", "layers", "attention-heads")
        },
        "--decoder-input-dim": _sizes.map(str),
        "--decoder-output-dim": _sizes.map(str),
        "--encoder-kernel-size-list": st.one_of(_kernels.map(str), hostile.number_words),
        "--decoder-kernel-size-list": st.one_of(_kernels.map(str), hostile.number_words),
        "--encoder-gate-norm": st.sampled_from(["latent", "heads", "", "other"]),
        "--encoder-gate-target": st.sampled_from(["kernel", "logits", "none", "", "other"]),
        "--decoder-gate": st.sampled_from(["none", "source", "", "other"]),
        "--decoder-conv-type": st.sampled_from(["lightweight", "dynamic", "", "other"]),
        "--encoder-glu": st.sampled_from(["0", "1", "true", "maybe", ""]),
        "--weight-softmax": st.sampled_from(["0", "1", "false"]),
        "--dropout": hostile.number_words,
        "--weight-dropout": hostile.number_words,
        "--init-from-lightconv": st.sampled_from(["{model}", "{missing}", "{text}", ""]),
        "--encoder-embed-path": st.sampled_from(["{missing}", "{text}", "{folder}"]),
    },
)
_FLAGS = ["--share-all-embeddings", "--encoder-learned-pos", "--decoder-normalize-before"]
_model_flags = st.lists(st.sampled_from(_FLAGS), unique=True)


def _build(place: Surroundings, case: tuple[dict[str, str], list[str]]) -> bool:
    import torch
    from fairseq import options as fairseq_options
    from fairseq import tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    changes, flags = case
    folder = place.fresh()
    (folder / "text").write_text("der 1 2\n", encoding="utf-8")
    (folder / "folder").mkdir()
    shutil.copyfile(place.checkpoint, folder / "model.pt")
    small = {"--encoder-embed-dim": "8", "--encoder-ffn-embed-dim": "8"}
    words = [
        f"{option}={_resolve(folder, value)}" for option, value in {**small, **changes}.items()
    ]

    def act() -> None:
        parser = fairseq_options.get_training_parser()
        arguments = [str(place.data), "--arch", "lightconv_cgc_tiny", *words, *flags]
        config = convert_namespace_to_omegaconf(
            fairseq_options.parse_args_and_arch(parser, arguments)
        )
        task = tasks.setup_task(config.task)
        model = task.build_model(config.model).eval()
        tokens = torch.tensor([[5, 6, 7, 2], [1, 1, 8, 2]])
        out = model(tokens, torch.tensor([4, 2]), tokens)[0]
        if not out.isfinite().all():
            raise Lost("the output is not finite")

    return ends_clearly(act)


MODEL_OPTIONS = Target(st.tuples(_model_options, _model_flags), _build, 4)
