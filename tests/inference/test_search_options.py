from __future__ import annotations

import argparse
import dataclasses

import pytest

from fairseq_cgc.inference.search_options import SearchOptions
from fairseq_cgc.support.errors import UserError


def parse(*words: str, of_generation: bool = False) -> SearchOptions:
    parser = argparse.ArgumentParser()
    SearchOptions.add_arguments(parser, of_generation=of_generation)
    return SearchOptions.from_arguments(parser.parse_args(words))


def test_command_line_and_class_have_the_same_defaults() -> None:
    assert parse() == SearchOptions()


def test_every_option_is_passed_on() -> None:
    words = "--beam 2 --lenpen 0.6 --max-tokens 99 --batch-size 3 --cpu --precision int8"
    want = SearchOptions(
        beam=2, lenpen=0.6, max_tokens=99, batch_size=3, cpu=True, precision="int8"
    )
    assert parse(*words.split()) == want
    words += " --nbest 2 --unkpen 1 --temperature 2 --min-len 3 --max-len-a 1.5 --max-len-b 9"
    words += " --no-repeat-ngram-size 2 --unnormalized --match-source-len"
    assert parse(*words.split(), of_generation=True) == dataclasses.replace(
        want, nbest=2, unkpen=1.0, temperature=2.0, min_len=3, max_len_a=1.5, max_len_b=9,
        no_repeat_ngram_size=2, unnormalized=True, match_source_len=True,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["min-len", "no-repeat-ngram-size"])
def test_numbers_must_not_be_negative(option: str) -> None:
    with pytest.raises(UserError, match=rf"--{option} is -1(\.0)?, but must be at least 0"):
        parse(f"--{option}", "-1", of_generation=True)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e-45", "inf"])
def test_the_temperature_must_be_moderate(value: str) -> None:
    with pytest.raises(
        UserError, match=f"--temperature is {float(value)}, but must be from 0.001 to 1000"
    ):
        parse("--temperature", value, of_generation=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("a", "-1"),
        ("a", "nan"),
        ("a", "inf"),
        ("a", "1e308"),
        ("b", "9" * 400),
        ("b", "-2000000000"),
    ],
)
def test_the_limits_of_length_must_be_moderate(option: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"--max-len-{option} is .* from -?\d+ to 1000000000"):
        parse(f"--max-len-{option}={value}", of_generation=True)


def test_the_unknown_word_may_be_ruled_out_but_not_certain() -> None:
    assert parse("--unkpen=inf", of_generation=True).unkpen == float("inf")
    for value in ("nan", "-inf"):
        with pytest.raises(UserError, match=f"--unkpen is {value}, but must be more than -inf"):
            parse(f"--unkpen={value}", of_generation=True)


@pytest.mark.parametrize("option", ["beam", "max-tokens", "batch-size"])
def test_numbers_must_be_positive(option: str) -> None:
    with pytest.raises(UserError, match=f"--{option} is 0, but must be at least 1"):
        parse(f"--{option}", "0")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "10.5", "-11.0"])
def test_the_length_penalty_must_be_moderate(value: str) -> None:
    with pytest.raises(UserError, match=f"--lenpen is {value}, but must be from -10 to 10"):
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
