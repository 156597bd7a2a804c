"""The systems of Table 6: sizes as published, and alike but for what they are to show."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairseq.data import Dictionary

from fairseq_cgc.mt.fairseq_commands import merge_options
from fairseq_cgc.mt.reproduce.parameters import count_parameters
from fairseq_cgc.mt.reproduce.protocol import load_protocol
from fairseq_cgc.mt.reproduce.systems import SYSTEMS, TABLE_6, system_options
from fairseq_cgc.support.errors import UserError

TABLE_6_PARAMETERS = {
    "transformer": 39_469_056,
    "lightconv": 38_139_436,
    "dynamic": 38_447_576,
    "cgc": 38_148_144,
    "cgc-heads": 38_148_612,  # scales and shifts of three more heads
    "cgc-logits": 38_148_144,
}


def write_dictionaries(folder: Path, sizes: dict[str, int]) -> Path:
    """Dictionaries of these sizes, fairseq's 4 special symbols included."""
    for lang, size in sizes.items():
        dictionary = Dictionary()
        for number in range(size - 4):
            dictionary.add_symbol(f"w{number}")
        dictionary.save(str(folder / f"dict.{lang}.txt"))
    return folder


@pytest.mark.parametrize("system", TABLE_6_PARAMETERS)
def test_parameters_of_table_6(system: str, tmp_path: Path) -> None:
    protocol = load_protocol("iwslt14_de_en")
    data = write_dictionaries(tmp_path, {"de": 8848, "en": 6632})
    options = [*system_options(system, protocol), *protocol.train_options]
    parameters = count_parameters(data, options)
    assert parameters == TABLE_6_PARAMETERS[system]
    if published := SYSTEMS[system].published.get(protocol.name):
        millions = float(published.parameters.removesuffix("M"))
        assert abs(parameters / 1e6 - millions) < 0.01


def test_parameters_with_the_real_dictionaries(shared_data: Path) -> None:
    protocol = load_protocol("iwslt14_de_en")
    for system in TABLE_6:
        options = [*system_options(system, protocol), *protocol.train_options]
        parameters = count_parameters(shared_data / "iwslt14-devtest", options)
        assert parameters == TABLE_6_PARAMETERS[system]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--max-upd 3", "unrecognized arguments: --max-upd 3"),
        ("--bogus", "unrecognized arguments: --bogus"),
        ("--dropout much", "argument --dropout: invalid float value: 'much'"),
    ],
)
def test_what_fairseq_refuses_ends_in_one_line(option: str, message: str, tmp_path: Path) -> None:
    protocol = load_protocol("multi30k")
    data = write_dictionaries(tmp_path, {"de": 40, "en": 40})
    options = [*system_options("cgc", protocol), *protocol.train_options, *option.split()]
    with pytest.raises(UserError, match=f"^--train-options: {message}$"):
        count_parameters(data, options)


@pytest.mark.parametrize("name", ["iwslt14_de_en", "multi30k"])
def test_lightconv_has_the_sizes_of_the_gated_model(name: str, tmp_path: Path) -> None:
    protocol = load_protocol(name)
    data = write_dictionaries(tmp_path, {"de": 40, "en": 40})
    sizes = {
        system: count_parameters(data, [*system_options(system, protocol), *protocol.train_options])
        for system in SYSTEMS
    }
    # E: 3K x d, D: d x K, scale and shift of d, in each encoder layer (d = K // 2 + 1).
    kernels = [3, 7, 15, 31, 31, 31, 31] if name == "iwslt14_de_en" else [3, 7, 15, 31]
    gates = sum((4 * k + 2) * (k // 2 + 1) for k in kernels)
    assert sizes["cgc"] - sizes["lightconv"] == gates
    assert sizes["cgc-logits"] == sizes["cgc"]
    # The decoder's kernels are the encoder's, but for the last one.
    decoder = kernels[:-1] if name == "iwslt14_de_en" else kernels
    assert sizes["cgc-source"] - sizes["cgc"] == sum((4 * k + 2) * (k // 2 + 1) for k in decoder)
    assert sizes["cgc-heads"] - sizes["cgc"] == 3 * sum(2 * (k // 2 + 1) for k in kernels)
    assert sizes["dynamic"] > sizes["lightconv"]


def test_only_the_encoder_of_the_dynamic_system_is_dynamic() -> None:
    protocol = load_protocol("iwslt14_de_en")
    dynamic = merge_options(system_options("dynamic", protocol))
    assert dynamic["--encoder-conv-type"] == ["dynamic"]
    assert dynamic["--decoder-conv-type"] == ["lightweight"]


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(UserError, match="--systems has 'lstm', but must be of transformer, light"):
        system_options("lstm", load_protocol("multi30k"))
