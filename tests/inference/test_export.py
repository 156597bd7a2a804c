"""Exported models: the same translations anywhere, and one line about what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tinyrun import TinyRun, make_pairs

from fairseq_cgc.inference.exported import export
from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.inference.translator import Translator
from fairseq_cgc.support.errors import UserError

pytestmark = pytest.mark.slow
BEAM_3 = SearchOptions(beam=3, cpu=True)
LINES = [source for source, _ in make_pairs(9, seed=4)]


def exported(run: TinyRun, out: Path, precision: str = "float32") -> Path:
    translator = Translator(run.save_dir / "checkpoint_best.pt", run.data_dir, BEAM_3)
    export(
        translator.model, translator.languages, run.data_dir, translator.preparation, out,
        precision=precision, scores={"BLEU": 12.5}, licence="mit", citation="Me, 2026",
    )  # fmt: skip
    return out


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_moved_folder_gives_the_same_translations(
    run: TinyRun, tmp_path: Path, precision: str
) -> None:
    folder = exported(run, tmp_path / "model", precision)
    folder = folder.rename(tmp_path / "moved")
    options = SearchOptions(beam=3, cpu=True, precision=precision)
    want = Translator(run.save_dir / "checkpoint_best.pt", run.data_dir, options)
    got = Translator(folder)
    got_at_beam_3 = Translator(folder, options=options)
    assert list(got_at_beam_3.translate(LINES)) == list(want.translate(LINES))
    assert len(list(got.translate(LINES))) == len(LINES)
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "code", "dict.de.txt", "dict.en.txt", "model.json", "model.safetensors",
        "preparation.json",
    }  # fmt: skip


def test_bfloat16_takes_half_the_space(run: TinyRun, tmp_path: Path) -> None:
    sizes = {
        precision: (exported(run, tmp_path / precision, precision) / "model.safetensors")
        .stat()
        .st_size
        for precision in ("float32", "bfloat16", "int8")
    }
    assert sizes["bfloat16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < sizes["float32"]


def test_the_card_says_what_the_model_is(run: TinyRun, tmp_path: Path) -> None:
    card = (exported(run, tmp_path / "model") / "README.md").read_text(encoding="utf-8")
    for part in ("de to en", '"BLEU": 12.5', "Me, 2026", "1 layers, 32 wide"):
        assert part in card
    # In YAML, the Norwegian "no" without quotes is false.
    assert card.startswith('---\nlanguage: ["de", "en"]\nlicense: "mit"\n')


def test_an_existing_folder_is_not_overwritten(run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="model: exists already"):
        exported(run, tmp_path / "model")


def test_a_subword_model_elsewhere_comes_along(run: TinyRun, whole: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "model"
    shutil.copytree(run.data_dir, data)
    (data / "code").rename(tmp_path / "code")
    pipeline = json.loads((data / "preparation.json").read_text(encoding="utf-8"))
    pipeline["subword_model"] = "../code"
    (data / "preparation.json").write_text(json.dumps(pipeline), encoding="utf-8")
    translator = Translator(run.save_dir / "checkpoint_best.pt", data, BEAM_3)
    export(translator.model, translator.languages, data, translator.preparation, out)
    (tmp_path / "code").unlink()
    assert list(Translator(out).translate(LINES)) == list(Translator(whole).translate(LINES))


def test_a_full_disk_is_told(run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_file(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)")

    monkeypatch.setattr("fairseq_cgc.inference.exported.save_file", save_file)
    with pytest.raises(UserError, match="model: cannot be made .*File too large"):
        exported(run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def change(folder: Path, key: str, value: object) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, key: value}), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(run, tmp_path_factory.mktemp("export") / "model")


def change_option(folder: Path, key: str, value: object) -> None:
    options = json.loads((folder / "model.json").read_text(encoding="utf-8"))["options"]
    change(folder, "options", {**options, key: value})


def damage_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def damage_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    files = json.loads((folder / "model.json").read_text(encoding="utf-8"))["files"]
    digest = hashlib.sha256(b"\xff" * 100).hexdigest()
    change(folder, "files", {**files, "model.safetensors": digest})


DAMAGES = {
    "a flipped bit": (damage_weights, "model.safetensors is damaged: it is not the file"),
    "no safetensors": (damage_header, "model.safetensors is damaged"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "lacks model.safetensors"),
    "no dictionary": (lambda f: (f / "dict.de.txt").unlink(), "lacks dict.de.txt"),
    "another format": (lambda f: change(f, "format", 9), "model.json: format is 9, but must be 1"),
    "another precision": (lambda f: change(f, "precision", "int4"), "precision is 'int4'"),
    "a path outside": (
        lambda f: change(f, "files", {"../x": ""}),
        "damaged .it does not list model.safetensors",
    ),
    "not JSON": (lambda f: (f / "model.json").write_text("{"), "model.json: damaged"),
    "no options": (lambda f: change(f, "options", {}), "options lack encoder_embed_dim"),
    "a list of options": (lambda f: change(f, "options", [1]), "model.json: damaged"),
    "an option that is no number": (
        lambda f: change_option(f, "encoder_embed_dim", "wide"),
        "encoder_embed_dim is 'wide', but must be a positive whole number",
    ),
    "an option that is zero": (
        lambda f: change_option(f, "decoder_attention_heads", 0),
        "decoder_attention_heads is 0, but must be a positive whole number",
    ),
    "an option that is too large": (
        lambda f: change_option(f, "encoder_ffn_embed_dim", 10**13),
        r"encoder\.layers\.0\.fc1\..* must be",
    ),
    "kernels of a wrong type": (
        lambda f: change_option(f, "encoder_kernel_size_list", [3, "7"]),
        "encoder_kernel_size_list is .3, '7'., but must be a list of positive whole numbers",
    ),
    "an unknown gate": (
        lambda f: change_option(f, "decoder_gate", "target"),
        "decoder_gate is 'target', but must be none or source",
    ),
    "languages": (lambda f: change(f, "source_lang", "../../x"), "does not list dict.../../x.txt"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_told_in_one_line(whole: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    make, message = DAMAGES[name]
    make(folder)
    with pytest.raises(UserError, match=message) as caught:
        Translator(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_loading_and_translating_import_no_compiler(
    run: TinyRun, tmp_path: Path, precision: str
) -> None:
    folder = exported(run, tmp_path / "model", precision)
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "from fairseq_cgc.inference import Translator\n"
        f"list(Translator({str(folder)!r}).translate(['Ein Mann.']))\n"
        "new = set(sys.modules) - before\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'triton') if name in new])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stdout + result.stderr


def test_what_does_not_go_together_is_told(run: TinyRun, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is an exported model: it takes no --data"):
        Translator(whole, run.data_dir)
    with pytest.raises(UserError, match="is no exported model: it has no model.json"):
        Translator(tmp_path)
    int8 = exported(run, tmp_path / "int8", "int8")
    with pytest.raises(UserError, match="--precision is bfloat16, but .* was exported in int8"):
        Translator(int8, options=SearchOptions(precision="bfloat16", cpu=True))
