from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fairseq_cgc.analysis.gate_figures import draw_sentence_gates
from fairseq_cgc.analysis.gates import (
    SentenceGates,
    explained_shares,
    gates_by_length,
    sentence_gates,
)
from fairseq_cgc.core import CGLightConv, UserError

PAD = 1


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.convs = nn.ModuleList([CGLightConv(8, 3, 2), CGLightConv(8, 5, 4)])

    def forward(self, src_tokens: Tensor, src_lengths: Tensor) -> Tensor:
        mask = src_tokens.eq(PAD)
        x = self.embed(src_tokens).transpose(0, 1)
        for conv in self.convs:
            x = conv(x, mask)
        return x


def test_collects_layers_lengths_and_corpora():
    encoder = Encoder().eval()
    short = torch.tensor([[PAD, 4, 2], [5, 6, 2]]), torch.tensor([2, 3]), 0
    long = torch.tensor([[5, 6, 7, 8, 2]]), torch.tensor([5]), 1
    found = sentence_gates(encoder, ["x", "y"], [short, long])
    assert {name: gates.shape for name, gates in found.gates.items()} == {
        "convs.0": (3, 2 * 3),
        "convs.1": (3, 4 * 5),
    }
    assert found.lengths.tolist() == [2, 3, 5]
    assert found.corpus.tolist() == [0, 0, 1]
    assert found.labels["convs.1"] == "convs.1 (K = 5)"
    alone = sentence_gates(encoder, ["y"], [long], "convs.1")
    assert list(alone.gates) == ["convs.1"]
    torch.testing.assert_close(alone.points(), found.gates["convs.1"][2:])


class Elsewhere(Encoder):
    """Has its parameters on another device than the batches, as on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("place", nn.Parameter(torch.empty(0, device="meta")))

    def forward(self, src_tokens: Tensor, src_lengths: Tensor) -> Tensor:
        assert src_tokens.is_meta and src_lengths.is_meta
        return super().forward(torch.tensor([[5, 6, 2]]), torch.tensor([3]))


def test_batches_go_where_the_encoder_is():
    found = sentence_gates(Elsewhere(), ["x"], [(torch.tensor([[5, 6, 2]]), torch.tensor([3]), 0)])
    assert found.lengths.tolist() == [3]
    assert found.points().device.type == "cpu"


@pytest.mark.parametrize(
    ("layer", "batches", "message"),
    [
        ("convs.2", [], "--layer is 'convs.2', but must be one of convs.0, convs.1"),
        (None, [], "there are no sentences"),
    ],
)
def test_a_wrong_layer_and_no_sentences_are_reported(layer, batches, message):
    with pytest.raises(UserError, match=message):
        sentence_gates(Encoder(), ["x"], batches, layer)


def test_an_encoder_without_gates_is_reported():
    with pytest.raises(UserError, match="the model has no gates"):
        sentence_gates(nn.Linear(2, 2), ["x"], [])


def clouds(number: int = 300) -> SentenceGates:
    """The first layer depends on length alone, the second on the corpus; lengths differ by it."""
    corpus = torch.arange(number) % 2
    lengths = torch.randint(5, 30, (number,)) + 10 * corpus
    # Equal lengths have equal gates, and a bin of lengths has nearly equal ones.
    by_length = (lengths / 100).unsqueeze(1).expand(-1, 4) + 1e-3 * torch.randn(number, 4)
    by_corpus = corpus.unsqueeze(1).float().expand(-1, 4) + 1e-3 * torch.randn(number, 4)
    return SentenceGates({"a": by_length, "b": by_corpus}, lengths, corpus, ("x", "y"))


def test_tells_length_and_corpus_apart():
    shares = explained_shares(clouds())
    assert shares["a"]["length"] > 0.95
    assert shares["a"]["corpus"] > 0.1  # by their lengths,
    assert shares["a"]["corpus given length"] < 0.05  # and nothing else
    assert shares["b"]["corpus"] > 0.99 and shares["b"]["corpus given length"] > 0.5
    assert list(shares) == ["all", "a", "b"]


def test_gates_of_short_and_long_sentences():
    lengths = torch.arange(1, 11)  # a fifth are 1 and 2, and 9 and 10
    gates = torch.full((10, 3), 0.5)
    gates[:2], gates[8] = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.9, 0.5, 0.1])
    gates[9] = gates[8] + 1e-5
    found = gates_by_length(SentenceGates({"a": gates}, lengths, 0 * lengths, ("x",)))["a"]
    assert found["short"] == pytest.approx(0.2) and found["long"] == pytest.approx(0.5, abs=1e-4)
    assert found["difference"] == pytest.approx((0.8 + 0.3 + 0.2) / 3, abs=1e-4)
    assert found["distinct"] == 3


def test_one_corpus_of_one_length_has_no_shares():
    found = clouds()
    one = SentenceGates(found.gates, found.lengths * 0, found.corpus * 0, ("x",))
    assert set(explained_shares(one)["all"].values()) == {None}


@pytest.mark.parametrize("corpora", [1, 2])
def test_draws_a_picture(tmp_path, corpora):
    pytest.importorskip("matplotlib")
    found = clouds(40)
    if corpora == 1:
        found = SentenceGates(found.gates, found.lengths, found.corpus * 0, ("x",))
    output = tmp_path / "gates.png"
    projection = draw_sentence_gates(found, explained_shares(found), output)
    assert projection.points.shape == (40, 2)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]
