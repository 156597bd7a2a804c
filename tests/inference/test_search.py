"""Beam search without fairseq, held against fairseq's own generator on the same weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from beam_search import (
    LAYERS,
    LENGTHS,
    OPTIONS,
    PREFIXES,
    SEARCHES,
    as_fairseq,
    hypotheses,
    lively,
    sample,
    without_fairseq,
)
from small_models import TINY, build
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.core.sentence_gate import make_sentence_gate
from fairseq_cgc.inference.beams import Hypothesis, repeated_ngrams
from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.precision import set_precision
from fairseq_cgc.inference.search import BeamSearch
from fairseq_cgc.inference.search_options import SearchOptions

PAD = 1
FAIRSEQ_ONLY = ("constraints", "diverse", "sampling")


def sources() -> list[Tensor]:
    """Those of :func:`beam_search.sample`, before fairseq sorts and pads them."""
    torch.manual_seed(5)
    return [torch.randint(4, 30, (length,)) for length in LENGTHS]


def options(**values: Any) -> SearchOptions:
    values = {"beam": 6, "max_len_a": 0.0, "max_len_b": 12, **values}
    return SearchOptions(**{"nbest": values["beam"], **values})


def in_order(found: list[Any]) -> list[Any]:
    """What fairseq found, in the order of :func:`sources`."""
    return [hypo for _, hypo in sorted(zip(sample()["id"].tolist(), found, strict=True))]


def assert_same(got: list[list[Hypothesis]], want: list[Any]) -> None:
    for ours, theirs in zip(got, in_order(want), strict=True):
        assert [h.tokens for h in ours] == [h["tokens"].tolist() for h in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.score == pytest.approx(float(b["score"]), abs=1e-5)
            assert a.token_scores == pytest.approx(b["positional_scores"].tolist(), abs=1e-5)


def test_checkpoints_with_gates_for_one_tap_encode_as_they_did():
    old = lively("--encoder-kernel-size-list", "[1,7]")
    gate = old.encoder.layers[0].conv.gate = make_sentence_gate(
        old.encoder.layers[0].conv.num_heads, 1, "latent"
    )
    for parameter in (gate.in_norm.bias, gate.in_decoder):
        nn.init.uniform_(parameter, 0.5, 1.0)
    model = without_fairseq(old, "--encoder-kernel-size-list", "[1,7]")
    tokens = torch.randint(4, 30, (2, 9))
    want = old.encoder(tokens, torch.tensor([9, 9]))["encoder_out"][0]
    torch.testing.assert_close(model.encoder(tokens, None).states, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in SEARCHES if not n.startswith(FAIRSEQ_ONLY)])
def test_hypotheses_are_fairseqs(name):
    model, search = lively(), dict(SEARCHES[name])
    want = hypotheses([as_fairseq(model)], **search)
    prefixes = None
    if search.pop("prefix_tokens", None) is not None:
        rows = in_order(PREFIXES.tolist())
        prefixes = [[token for token in row if token != PAD] for row in rows]
    found = BeamSearch([without_fairseq(model)], options(**search)).search(sources(), prefixes)
    assert_same(found, want)


@pytest.mark.parametrize("penalty", [-3.0, 5.0])
def test_penalty_of_the_unknown_word_is_fairseqs(penalty):
    model = lively()
    want = hypotheses([as_fairseq(model)], unkpen=penalty)
    assert_same(
        BeamSearch([without_fairseq(model)], options(unkpen=penalty)).search(sources()), want
    )


def test_temperature_of_an_adaptive_softmax_is_fairseqs():
    arguments = ["--adaptive-softmax-cutoff", "[8,14]"]
    model = lively(*arguments)
    want = hypotheses([as_fairseq(model)], temperature=0.5)
    search = BeamSearch([without_fairseq(model, *arguments)], options(temperature=0.5))
    assert_same(search.search(sources()), want)


MODELS = {
    **OPTIONS,
    "gate on the logits": ["--encoder-gate-target", "logits"],
    "gate norm over the heads": ["--encoder-gate-norm", "heads"],
    "source gates": ["--decoder-gate", "source", "--encoder-gate-norm", "heads"],
    "source gates, kernels of 1": [
        "--decoder-gate",
        "source",
        "--decoder-kernel-size-list",
        "[1,5]",
    ],
    "encoder with gated linear unit": ["--encoder-glu", "1"],
    "norm first everywhere": ["--encoder-normalize-before", "--decoder-normalize-before"],
    "learned positions everywhere": ["--encoder-learned-pos", "--decoder-learned-pos"],
    "even decoder kernels": ["--decoder-kernel-size-list", "[2,4]"],
    "no positions": ["--no-token-positional-embeddings"],
    "other input and output": ["--decoder-input-dim", "8", "--decoder-output-dim", "12"],
    "other convolutions": ["--encoder-conv-dim", "24", "--decoder-conv-dim", "8"],
    "adaptive softmax": ["--adaptive-softmax-cutoff", "[8,14]"],
}


@pytest.mark.parametrize("name", MODELS)
def test_hypotheses_of_other_models_are_fairseqs(name):
    model = lively(*MODELS[name])
    found = BeamSearch([without_fairseq(model, *MODELS[name])], options()).search(sources())
    assert_same(found, hypotheses([as_fairseq(model)]))


@pytest.mark.parametrize("kind", ["lightweight", "dynamic"])
def test_hypotheses_of_fairseqs_own_lightconv(kind):
    arguments = ["--encoder-conv-type", kind, "--decoder-conv-type", kind]
    model = build("lightconv_iwslt_de_en", *TINY, *LAYERS, *arguments)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.3)
    ours = without_fairseq(model, *arguments, arch="lightconv_iwslt_de_en")
    assert_same(BeamSearch([ours], options()).search(sources()), hypotheses([model.eval()]))


def test_hypotheses_of_an_ensemble_are_fairseqs():
    models = [lively(seed=1), lively(seed=2)]
    found = BeamSearch([without_fairseq(m) for m in models], options()).search(sources())
    assert_same(found, hypotheses([as_fairseq(m) for m in models]))


def test_attention_is_fairseqs():
    model = lively()
    search = BeamSearch([without_fairseq(model)], options(), keep_attention=True)
    want = in_order(hypotheses([as_fairseq(model)], print_alignment=True))
    for ours, theirs, length in zip(search.search(sources()), want, LENGTHS, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.attention is not None and a.attention.shape == (len(a.tokens), length)
            torch.testing.assert_close(a.attention, b["attention"].t()[:, -length:])


@pytest.mark.parametrize("precision", ["float32", "int8", "bfloat16"])
def test_a_sentence_does_not_depend_on_its_batch(precision):
    model = without_fairseq(lively())
    set_precision(model, precision)
    search = BeamSearch([model], options())
    together = search.search(sources())
    for one, source in zip(together, sources(), strict=True):
        (alone,) = search.search([source])
        tolerance = 0.05 if precision == "bfloat16" else 1e-5
        assert alone[0].score == pytest.approx(one[0].score, abs=tolerance)
        if precision != "bfloat16":
            assert [h.tokens for h in alone] == [h.tokens for h in one]


def test_each_sentence_has_its_own_limit():
    model = without_fairseq(lively())
    search = BeamSearch([model], options(max_len_a=1.0, max_len_b=-1, min_len=0))
    for found, source in zip(search.search(sources()), sources(), strict=True):
        assert max(len(h.tokens) for h in found) <= len(source)
        assert [h.tokens for h in found] == [h.tokens for h in search.search([source])[0]]


def test_the_sources_length_is_limited_by_the_learned_positions():
    arguments = ["--decoder-learned-pos", "--max-target-positions", "6"]
    model = without_fairseq(lively(*arguments), *arguments)
    found = BeamSearch([model], options(match_source_len=True)).search(sources())
    assert [len(hypos[0].tokens) for hypos in found] == [min(n, 5) + 1 for n in LENGTHS]


def test_longer_translations_are_allowed_for_long_sources_only():
    model = without_fairseq(lively())
    limits = BeamSearch([model], SearchOptions())
    assert [limits._limit(length) for length in (3, 100, 150, 3000)] == [200, 200, 300, 1023]


def test_a_prefix_that_ends_the_sentence_ends_all():
    model = without_fairseq(lively())
    found = BeamSearch([model], options()).search(sources()[:2], [[5, 2], []])
    assert [h.tokens for h in found[0]] == [[5, 2]] * 6
    (alone,) = BeamSearch([model], options()).search(sources()[1:2])
    assert [h.tokens for h in found[1]] == [h.tokens for h in alone]


def test_a_gpu_is_waited_for_a_few_times_a_step_and_not_for_each_hypothesis(monkeypatch):
    waits, steps = [], 6
    search = BeamSearch([without_fairseq(lively())], options(max_len_b=steps - 1))

    def counted(read):
        return lambda tensor: (waits.append(read), read(tensor))[1]

    for name in ("tolist", "item", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    ended = sum(map(len, search.search(sources())))
    assert ended > 4 * steps >= len(waits)


def test_attention_is_not_cudnns(monkeypatch):
    attend, allowed = torch.nn.functional.scaled_dot_product_attention, set()

    def told(*arguments):
        allowed.add(torch.backends.cuda.cudnn_sdp_enabled())
        return attend(*arguments)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", told)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    model = without_fairseq(lively())
    for enabled in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(enabled)
        BeamSearch([model], options()).search(sources())
        assert allowed == {False} and torch.backends.cuda.cudnn_sdp_enabled() == enabled
    torch.backends.cuda.enable_cudnn_sdp(before)


def test_what_is_no_number_is_no_hypothesis():
    model = without_fairseq(lively())
    model.encoder.layers[0].fc1.bias[0] = float("nan")
    assert BeamSearch([model], options()).search(sources()) == [[]] * len(LENGTHS)


def test_no_sentences_give_no_hypotheses():
    assert BeamSearch([without_fairseq(lively())], options()).search([]) == []


def test_repeated_ngrams_by_hand():
    tokens = torch.tensor([[2, 5, 6, 5, 6, 5], [2, 7, 7, 7, 2, 7]])

    def banned(size: int) -> set[tuple[int, int]]:
        return set(zip(*(x.tolist() for x in repeated_ngrams(tokens, size)), strict=True))

    assert banned(1) == {(0, 5), (0, 6), (1, 7)}
    assert banned(2) == {(0, 6), (1, 7)}
    assert banned(3) == {(0, 6), (1, 7)}
    assert banned(7) == set()


def test_options_that_do_not_fit_are_told():
    model = without_fairseq(lively())
    with pytest.raises(UserError, match=r"--min-len is 30, but a sentence of 9 source tokens may"):
        BeamSearch([model], options(min_len=30)).search(sources())
    with pytest.raises(UserError, match=r"--nbest is 4, but must be from 1 to --beam \(3\)"):
        SearchOptions(beam=3, nbest=4)


def test_weights_that_do_not_fit_are_told():
    model = lively()
    with pytest.raises(UserError, match=r"lack|missing|unknown"):
        without_fairseq(model, "--encoder-gate-target", "none")
    with pytest.raises(UserError, match=r"linear1\.weight is \(16, 16\), but must be \(32, 16\)"):
        without_fairseq(model, "--encoder-glu", "1")
    state, name = model.state_dict(), "encoder.embed_tokens.weight"
    for wrong, message in (
        (torch.tensor(1.0), f"lack the matrix {name}"),
        (torch.ones(30, 16, dtype=torch.int8), f"{name} has numbers of type torch.int8"),
    ):
        with pytest.raises(UserError, match=message):
            Model.from_state(without_fairseq(model).options, {**state, name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder_ffn_embed_dim": 10**30},
        {"encoder_ffn_embed_dim": 2**62},
        {"adaptive_softmax_cutoff": (10**9,)},
        {"adaptive_softmax_cutoff": (9, 5)},
    ],
    ids=str,
)
def test_options_of_no_possible_model_are_told(wrong):
    model = lively()
    options_ = dataclasses.replace(without_fairseq(model).options, **wrong)
    with pytest.raises(UserError, match="options describe no possible model") as caught:
        Model.from_state(options_, model.state_dict())
    assert "\n" not in str(caught.value)
