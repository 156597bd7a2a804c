from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from beam_search import (
    ARCH,
    LAYERS,
    LENGTHS,
    OPTIONS,
    SEARCHES,
    TASK,
    as_fairseq,
    assert_alike,
    hypotheses,
    lively,
    sample,
)
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import GenerationConfig
from fairseq.modules import FairseqDropout
from small_models import LIGHTWEIGHT, TINY, build
from torch import nn

from fairseq_cgc.models import decoder as lightconv_decoder
from fairseq_cgc.models.decoder import LightConvCGCDecoder


@pytest.mark.parametrize("name", SEARCHES)
def test_hypotheses_are_fairseqs(name):
    model = lively()
    got, want = (hypotheses([m], **SEARCHES[name]) for m in (model, as_fairseq(model)))
    assert_alike(got, want)


@pytest.mark.parametrize("name", OPTIONS)
def test_hypotheses_of_other_decoders_are_fairseqs(name):
    model = lively(*OPTIONS[name])
    assert_alike(hypotheses([model]), hypotheses([as_fairseq(model)]))


def test_hypotheses_reorder_and_sentences_leave_one_after_another(monkeypatch):
    """The tests above are worth something only if this is so."""
    orders = []
    reorder = LightConvCGCDecoder.reorder_incremental_state_scripting

    def note(self: Any, state: Any, order: torch.Tensor) -> None:
        orders.append(order.clone())
        reorder(self, state, order)

    monkeypatch.setattr(LightConvCGCDecoder, "reorder_incremental_state_scripting", note)
    found = hypotheses([lively()])
    orders = orders[1:]  # the first one copies a row for every beam
    assert len({len(order) for order in orders}) > 3
    assert sum(not torch.equal(order, torch.arange(len(order))) for order in orders) > 5
    lengths = {len(hypothesis["tokens"]) for sentence in found for hypothesis in sentence}
    assert len(lengths) > 5


def test_hypotheses_of_ensembles_are_fairseqs():
    models = [lively(), lively(seed=2)]
    want = hypotheses([as_fairseq(m) for m in models])
    assert_alike(hypotheses(models), want)
    assert_alike(hypotheses([models[0], as_fairseq(models[1])]), want)


def test_alignments_are_fairseqs():
    model = lively()
    got, want = (hypotheses([m], print_alignment="soft") for m in (model, as_fairseq(model)))
    assert_alike(got, want)
    for a, b in zip(got[0][0]["alignment"], want[0][0]["alignment"], strict=True):
        assert list(map(float, a)) == pytest.approx(list(map(float, b)), abs=1e-5)
    for layer in model.decoder.layers:
        layer.make_generation_fast_(need_attn=False)
    assert [h["tokens"].tolist() for s in hypotheses([model]) for h in s] == [
        h["tokens"].tolist() for s in want for h in s
    ]


@pytest.mark.parametrize("modules", [None, ["LightConvDecoder"], ["LightConvDecoderLayer"]])
@pytest.mark.usefixtures("torchs_dropout")
def test_retained_dropout_draws_the_numbers_of_fairseq(modules):
    model = lively("--attention-dropout", "0.3", "--weight-dropout", "0.3")
    found = []
    for m in (model, as_fairseq(model)):
        m.make_generation_fast_(retain_dropout=True, retain_dropout_modules=modules)
        found.append(hypotheses([m], seed=3))
    assert_alike(*found)
    assert found[0][0][0]["score"] != hypotheses([m], seed=4)[0][0]["score"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_hypotheses_in_other_precisions_are_fairseqs(dtype):
    model = lively().to(dtype)
    got, want = (hypotheses([m]) for m in (model, as_fairseq(model)))
    if dtype == torch.float64:
        assert_alike(got, want)
    for ours, theirs in zip(got, want, strict=True):  # rounding differs: the best score, nearly
        torch.testing.assert_close(ours[0]["score"], theirs[0]["score"], atol=0.3, rtol=0.1)


def test_sentence_is_translated_alike_alone_and_in_a_batch():
    model = lively().double()
    together = hypotheses([model])
    batch = sample()
    generator = TASK.build_generator([model], GenerationConfig(beam=6, max_len_b=12))
    for i, want in enumerate(together):
        tokens = batch["net_input"]["src_tokens"][i : i + 1]
        length = batch["net_input"]["src_lengths"][i : i + 1]
        one = {"src_tokens": tokens[:, -int(length) :], "src_lengths": length}
        assert_alike(
            [
                [
                    {**h, "attention": h["score"]}
                    for h in generator.generate([], {"net_input": one})[0]
                ]
            ],
            [[{**h, "attention": h["score"]} for h in want]],
        )


@torch.no_grad()
def test_first_step_is_computed_once_a_sentence():
    model = lively()
    rows = []
    model.decoder.output_projection.register_forward_pre_hook(
        lambda _, inputs: rows.append(len(inputs[0]))
    )
    hypotheses([model], beam=4)
    assert rows[:2] == [len(LENGTHS), 4 * len(LENGTHS)]
    # Hypotheses that begin with different words are not one.
    encoded = model.encoder.reorder_encoder_out(
        model.encoder(torch.randint(4, 30, (1, 5)), torch.tensor([5])), torch.tensor([0, 0])
    )
    both = model.decoder(torch.tensor([[2], [5]]), encoded, {})[0]
    assert rows[-1] == 2 and not torch.allclose(both[0], both[1])


@torch.no_grad()
def test_several_steps_at_once_equal_one_by_one_after_reordering():
    model = lively()
    encoded = model.encoder(*(sample()["net_input"][k] for k in ("src_tokens", "src_lengths")))
    encoded = model.encoder.reorder_encoder_out(encoded, torch.tensor([3, 3, 0, 0, 1, 1]))
    tokens = torch.randint(4, 20, (6, 7))
    tokens[:, 0] = 2
    want, extra = model.decoder(tokens, encoded)
    state: dict[str, Any] = {}
    for t in range(7):
        got, step = model.decoder(tokens[:, : t + 1], encoded, state)
        torch.testing.assert_close(got[:, 0], want[:, t], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(step["attn"][0][:, 0], extra["attn"][0][:, t])
        for one, all_ in zip(step["inner_states"], extra["inner_states"], strict=True):
            torch.testing.assert_close(one[0], all_[t], atol=1e-4, rtol=1e-4)


def test_two_generations_do_not_mix_and_see_new_weights():
    model = lively()
    first = hypotheses([model])
    for parameter in model.decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    second = hypotheses([model])
    assert_alike(second, hypotheses([as_fairseq(model)]))
    assert first[0][0]["score"] != second[0][0]["score"]


def outputs_word_by_word(model: nn.Module, tokens: torch.Tensor, no_grad_from: int) -> list[Any]:
    """Scores of each step; beams change places after it."""
    inputs = sample()["net_input"]
    encoded = model.encoder(inputs["src_tokens"], inputs["src_lengths"])
    order = torch.tensor([1, 1, 0, 0, 2, 2])
    encoded = model.encoder.reorder_encoder_out(encoded, order)
    state: dict[str, Any] = {}
    found = []
    for t in range(tokens.shape[1]):
        with torch.set_grad_enabled(t < no_grad_from):
            found.append(model.decoder(tokens[:, : t + 1], encoded, state)[0])
        order = torch.tensor([1, 0, 2, 2, 5, 4])
        model.decoder.reorder_incremental_state_scripting(state, order)
        encoded = model.encoder.reorder_encoder_out(encoded, order)
    return found


@pytest.mark.parametrize("no_grad_from", [0, 1, 5])
def test_gradients_flow_word_by_word_as_in_fairseq(no_grad_from):
    """And who began a generation ends it."""
    model = lively()
    tokens = torch.randint(4, 20, (6, 5))
    found = []
    for m in (model, as_fairseq(model)):
        m.zero_grad()
        outputs = outputs_word_by_word(m, tokens, no_grad_from)
        for output in outputs[:no_grad_from]:
            output.square().sum().backward(retain_graph=True)
        found.append([o.detach() for o in outputs])
        found[-1] += [p.grad for p in m.decoder.parameters() if p.grad is not None]
    assert len(found[0]) > 20 or no_grad_from == 0
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_log_probabilities_of_a_step_replace_its_scores(monkeypatch):
    monkeypatch.setattr(lightconv_decoder, "_CHUNK", 45)  # two rows of 20 words at a time
    model = lively()
    encoded = model.encoder(torch.randint(4, 30, (5, 4)), torch.full((5,), 4))
    tokens = torch.full((5, 1), 2)
    step = model.decoder(tokens, encoded, {})
    want, likely = step[0].log_softmax(-1), step[0].softmax(-1)
    torch.testing.assert_close(model.get_normalized_probs(step, log_probs=False), likely)
    got = model.get_normalized_probs(step, log_probs=True)
    torch.testing.assert_close(got, want)
    assert got.data_ptr() == step[0].data_ptr()
    # Elsewhere a caller may still need the scores.
    at_once = model.decoder(tokens, encoded)
    before = at_once[0].clone()
    torch.testing.assert_close(model.get_normalized_probs(at_once, log_probs=True), want)
    assert torch.equal(at_once[0], before)
    # In another type they do not fit there: fairseq's are float32 always.
    other = (step[0].double(), step[1])
    assert model.get_normalized_probs(other, log_probs=True).dtype == torch.float32


@pytest.mark.usefixtures("torchs_dropout")
def test_training_is_fairseqs_number_for_number():
    options = [*TINY, *LAYERS, "--weight-dropout", "0.2", "--attention-dropout", "0.2"]
    losses = []
    for make in (lambda m: m, as_fairseq):
        model = make(build(ARCH, *options)).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        torch.manual_seed(11)
        batch, target = sample()["net_input"], torch.randint(4, 20, (len(LENGTHS), 8))
        losses.append([])
        for _ in range(4):
            out = model(batch["src_tokens"], batch["src_lengths"], target[:, :-1])
            probabilities = model.get_normalized_probs(out, log_probs=True)
            loss = -probabilities.gather(2, target[:, 1:, None]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert losses[0][0] > losses[0][-1]


def test_weights_are_those_of_fairseqs_decoder():
    theirs = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *TINY).decoder
    ours = build(ARCH, *TINY).decoder
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    # --retain-dropout-modules goes by these names.
    names = [
        [
            (name, m.module_name, m.p)
            for name, m in d.named_modules()
            if isinstance(m, FairseqDropout)
        ]
        for d in (ours, theirs)
    ]
    assert names[0] == names[1]


@pytest.mark.slow
def test_trained_model_translates_as_with_fairseqs_decoder(tmp_path: Path):
    data = toy.binarise(toy.write_corpus(tmp_path / "text"), tmp_path / "data")
    toy.succeed(toy.train(data, tmp_path / "save", "--max-epoch", "10"))
    checkpoint = tmp_path / "save" / "checkpoint_best.pt"
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], arg_overrides={"data": str(data)}
    )
    task.load_dataset("test")
    found = {}
    for name, m in (("ours", model), ("theirs", as_fairseq(model))):
        m.prepare_for_inference_(cfg)
        generator = task.build_generator([m], GenerationConfig(beam=6, max_len_b=30))
        batches = task.get_batch_iterator(task.dataset("test"), max_sentences=16)
        found[name] = [
            (number, hypothesis)
            for batch in batches.next_epoch_itr(shuffle=False)
            for number, hypothesis in zip(
                batch["id"].tolist(), task.inference_step(generator, [m], batch), strict=True
            )
        ]
    assert [n for n, _ in found["ours"]] == [n for n, _ in found["theirs"]]
    assert_alike([h for _, h in found["ours"]], [h for _, h in found["theirs"]])
    # fairseq-generate prints the same scores.
    done = toy.succeed(
        toy.fairseq(
            "generate", data, "--path", checkpoint, "--beam", "6", "--max-len-b", "30", "--cpu"
        )
    )
    printed = dict(re.findall(r"^H-(\d+)\t(\S+)", done.stdout, re.MULTILINE))
    for number, best in found["ours"]:
        in_bits = float(best[0]["score"]) / 0.6931471805599453
        assert float(printed[str(number)]) == pytest.approx(in_bits, abs=1e-5)
