"""Options of fairseq-generate that fairseq gets wrong, run in this process."""

from __future__ import annotations

import re

import pytest
import toy
from fairseq_cli import generate

from fairseq_cgc.core import UserError

pytestmark = pytest.mark.xdist_group("commands")


@pytest.fixture
def translate(toy_data, toy_model, monkeypatch, capsys):
    """Runs fairseq-generate with options; gives number, score and words of all hypotheses."""

    def run(*options: str) -> list[tuple[int, float, str]]:
        path = ["--path", str(toy_model / "checkpoint_last.pt")]
        arguments = [str(toy_data), *path, "--cpu", "--user-dir", str(toy.ROOT / "fairseq_cgc")]
        monkeypatch.setattr("sys.argv", ["fairseq-generate", *arguments, *options])
        capsys.readouterr()
        generate.cli_main()
        lines = re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", capsys.readouterr().out, re.MULTILINE)
        return sorted(
            ((int(number), float(score), words) for number, score, words in lines),
            key=lambda line: line[0],
        )

    return run


@pytest.mark.parametrize(
    "options",
    [
        ["--beam", "6", "--diverse-beam-groups", "3", "--nbest", "6"],
        ["--beam", "4", "--diverse-beam-groups", "2", "--diverse-beam-strength", "2"],
        ["--beam", "4", "--diversity-rate", "0.5", "--nbest", "4"],
    ],
)
@pytest.mark.slow
def test_diverse_translations_do_not_depend_on_the_batch(options, translate):
    one_by_one = translate(*options, "--batch-size", "1")
    at_once = translate(*options, "--batch-size", "7")
    assert [line[2] for line in at_once] == [line[2] for line in one_by_one]
    scores = [line[1] for line in one_by_one]
    assert [line[1] for line in at_once] == pytest.approx(scores, abs=1e-5)


@pytest.mark.slow
def test_diverse_groups_differ(translate):
    lines = translate("--beam", "2", "--diverse-beam-groups", "2", "--nbest", "2")
    plain = translate("--beam", "2", "--nbest", "2")
    assert len({line[2] for line in lines}) > 40 and lines != plain


@pytest.mark.slow
def test_shards_make_the_whole(translate):
    options = ["--beam", "2", "--batch-size", "4"]
    shards = [
        translate(*options, "--num-shards", "3", "--shard-id", str(shard)) for shard in range(3)
    ]
    assert all(8 <= len(shard) <= 16 for shard in shards)
    assert sorted(sum(shards, [])) == sorted(translate(*options))


@pytest.mark.parametrize("shard", ["-1", "2"])
def test_a_shard_that_is_not_there(shard, translate):
    with pytest.raises(UserError, match=rf"--shard-id is {shard}, but must be at least 0 and less"):
        translate("--num-shards", "2", "--shard-id", shard)
