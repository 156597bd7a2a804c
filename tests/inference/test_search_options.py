from __future__ import annotations

import argparse

import pytest

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.support.errors import UserError


def parse(*words: str) -> SearchOptions:
    parser = argparse.ArgumentParser()
    SearchOptions.add_arguments(parser)
    return SearchOptions.from_arguments(parser.parse_args(words))


def test_command_line_and_class_have_the_same_defaults() -> None:
    assert parse() == SearchOptions()


def test_every_option_is_passed_on() -> None:
    words = "--beam 2 --lenpen 0.6 --max-tokens 99 --batch-size 3 --cpu --precision int8"
    assert parse(*words.split()) == SearchOptions(2, 0.6, 99, 3, True, "int8")


@pytest.mark.parametrize("option", ["beam", "max-tokens", "batch-size"])
def test_numbers_must_be_positive(option: str) -> None:
    with pytest.raises(UserError, match=f"--{option} must be at least 1, but is 0"):
        parse(f"--{option}", "0")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "10.5", "-11.0"])
def test_the_length_penalty_must_be_moderate(value: str) -> None:
    with pytest.raises(UserError, match=f"--lenpen must be from -10 to 10, but is {value}"):
        parse(f"--lenpen={value}")
    assert parse("--lenpen=-10").lenpen == -10


def test_the_precision_must_exist_and_run_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--precision is 'int4', but must be one of float32, bfl"):
        SearchOptions(precision="int4")
    with pytest.raises(SystemExit):
        parse("--precision", "int4")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert SearchOptions(precision="bfloat16").device.type == "cuda"
    assert SearchOptions(precision="int8", cpu=True).device.type == "cpu"
    with pytest.raises(UserError, match="--precision int8 is for CPUs only; add --cpu"):
        SearchOptions(precision="int8")


def test_cpu_is_honoured() -> None:
    assert SearchOptions(cpu=True).device.type == "cpu"
    assert SearchOptions(cpu=True).device_name.startswith("CPU")
