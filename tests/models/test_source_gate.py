"""--decoder-gate source: the decoder's kernels are gated by the encoder's output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beam_search import ARCH, LAYERS, LENGTHS, TASK, as_fairseq, assert_alike, hypotheses, lively
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models.lightconv import LightConvDecoderLayer
from small_models import LIGHTWEIGHT, TINY, build, save
from tools import padding_mask
from torch import Tensor, nn

from fairseq_cgc.core import UserError, reference
from fairseq_cgc.inference.precision import set_precision
from fairseq_cgc.models.convolutions import SourceGatedLightConv

SOURCE = ["--decoder-gate", "source"]
OPTIONS = {
    "latent": [],
    "heads": ["--encoder-gate-norm", "heads"],
    "no encoder gates": ["--encoder-gate-target", "none"],
    "glu, norm first": ["--decoder-glu", "1", "--decoder-normalize-before"],
    "no softmax, other width": ["--weight-softmax", "0", "--decoder-conv-dim", "8"],
    "kernels of 1 and 4": ["--decoder-kernel-size-list", "[1,4]"],
}
each_option = pytest.mark.parametrize("name", OPTIONS)


def gated(name: str = "latent", seed: int = 1) -> Any:
    return lively(*SOURCE, *OPTIONS[name], seed=seed)


def source_batch(side: str) -> tuple[Tensor, Tensor]:
    """Tokens, padded with 1 on one side, and lengths."""
    torch.manual_seed(5)
    mask = padding_mask(LENGTHS, side)
    return torch.randint(4, 30, mask.shape).masked_fill(mask, 1), torch.tensor(LENGTHS)


def assert_close(got: list[Tensor | None], want: list[Tensor | None]) -> None:
    """Scores, and the gradients of all parameters, which pass a softmax in float32."""
    torch.testing.assert_close(got[0], want[0], atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(got[1:], want[1:], atol=1e-5, rtol=1e-5)


class NaiveConv(nn.Module):
    """The gated convolution of one sentence, by the definitions."""

    def __init__(self, conv: Any, source: Tensor) -> None:
        super().__init__()
        self.conv, self.source = conv, source

    def forward(self, x: Tensor, incremental_state: None) -> Tensor:
        kernel = self.conv.weight.transpose(0, 1)  # 1 x H x K
        if self.conv.weight_softmax:
            kernel = kernel.softmax(2, dtype=torch.float32).to(kernel.dtype)  # as fairseq has it
        if hasattr(self.conv, "gate"):
            size = self.conv.kernel_size
            pooled = reference.pool_heads(self.source, self.conv.num_heads, 3 * size)
            kernel = kernel * reference.context_gate(self.conv.gate, pooled).squeeze(2)
        return reference.light_convolution(x, kernel, padding_l=self.conv.kernel_size - 1)


def naive_scores(model: Any, tokens: Tensor, lengths: Tensor, previous: Tensor) -> Tensor:
    """Decode sentence by sentence without padding of the source, in fairseq's layers."""
    rows = []
    convs = [layer.conv for layer in model.decoder.layers]
    classes = [layer.__class__ for layer in model.decoder.layers]
    for b, length in enumerate(lengths.tolist()):
        alone = tokens[b : b + 1, tokens[b] != 1]
        encoded = model.encoder(alone, torch.tensor([length]))
        for layer, conv in zip(model.decoder.layers, convs, strict=True):
            layer.__class__ = LightConvDecoderLayer
            layer.conv = NaiveConv(conv, encoded["encoder_out"][0])
        rows.append(model.decoder(previous[b : b + 1], encoded)[0])
    for layer, conv, kind in zip(model.decoder.layers, convs, classes, strict=True):
        layer.conv, layer.__class__ = conv, kind
    return torch.cat(rows)


@each_option
@pytest.mark.parametrize("side", ["left", "right"])
def test_teacher_forcing_equals_the_definition_in_outputs_and_gradients(name, side):
    model = gated(name).double()
    tokens, lengths = source_batch(side)
    previous = torch.randint(4, 20, (len(LENGTHS), 5))
    previous[:, 0] = 2
    previous[1, :2] = 1  # targets may be padded on the left as well
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = []
    for scores in (
        model(tokens, lengths, previous)[0],
        naive_scores(model, tokens, lengths, previous),
    ):
        projection = torch.randn(scores.shape, generator=torch.Generator().manual_seed(2)).double()
        gradients = torch.autograd.grad((scores * projection).sum(), parameters, allow_unused=True)
        found.append([scores, *gradients])
    assert_close(*found)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    gates = [
        g
        for n, g in zip(names, found[0][1:], strict=True)
        if n.startswith("decoder.") and ".gate." in n
    ]
    assert len(gates) == (4 if "1 and 4" in name else 8)
    assert all(g.abs().max() > 1e-6 for g in gates)


@each_option
@pytest.mark.parametrize("side", ["left", "right"])
def test_generation_equals_teacher_forcing(name, side):
    """Beams change places, and sentences end at different steps."""
    model = gated(name).double()
    tokens, lengths = source_batch(side)
    generator = TASK.build_generator([model], GenerationConfig(beam=4, max_len_b=10))
    batch = {"net_input": {"src_tokens": tokens, "src_lengths": lengths}}
    for b, found in enumerate(generator.generate([model], batch)):
        alone = tokens[b : b + 1, tokens[b] != 1].expand(len(found), -1)
        for hypothesis in found:
            words = hypothesis["tokens"]
            previous = torch.cat([torch.tensor([2]), words[:-1]]).unsqueeze(0)
            with torch.no_grad():
                scores = model(alone[:1], lengths[b : b + 1], previous)[0].log_softmax(-1)[0]
            want = scores.gather(1, words.unsqueeze(1)).squeeze(1)
            # fairseq's generator keeps scores in float32.
            torch.testing.assert_close(
                hypothesis["positional_scores"].double(), want, atol=1e-5, rtol=1e-5
            )


SEARCHES = [
    {},
    {"beam": 1},
    {"diversity_rate": 0.5},
    {"prefix_tokens": torch.tensor([[5], [7]] * 3)},
]


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_hypotheses_are_those_of_fairseqs_decoder_over_gated_layers(options):
    model = gated("heads")
    assert_alike(hypotheses([model], **options), hypotheses([as_fairseq(model)], **options))


def test_hypotheses_of_ensembles_are_those_of_fairseqs_decoder_over_gated_layers():
    for models in ([gated(), gated("heads", seed=2)], [gated(), lively()]):
        found = hypotheses(models)
        assert_alike(found, hypotheses([as_fairseq(model) for model in models]))
        assert found[0][0]["score"] != hypotheses(models[:1])[0][0]["score"]


def test_kernels_are_made_once_for_each_sentence():
    model = gated()
    batches = []
    for layer in model.decoder.layers:
        layer.conv.gate.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    hypotheses([model])
    assert batches == [len(LENGTHS)] * 2


def test_open_gates_give_fairseqs_decoder():
    model, plain = gated(), lively()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    want = hypotheses([as_fairseq(plain)])
    assert hypotheses([model])[0][0]["score"] != want[0][0]["score"]
    for layer in model.decoder.layers:
        layer.conv.gate.forward = lambda context: context.new_ones(1, 1, 1, 1)
    assert_alike(hypotheses([model]), want)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_fewer_bits_change_little(precision):
    model = gated()
    exact = [found[0]["score"] for found in hypotheses([model])]
    set_precision(model, precision)
    got = [found[0]["score"] for found in hypotheses([model])]
    torch.testing.assert_close(torch.stack(got), torch.stack(exact), atol=0.1, rtol=0.1)


def test_word_by_word_with_gradients_equals_teacher_forcing():
    """Rows are reordered after every step; outputs and gradients."""
    model = gated("heads").double()
    inputs = source_batch("left")
    # Within a sentence: fairseq does not reorder its attention's keys.
    orders = [torch.tensor(o) for o in ([1, 0, 2, 2, 4, 5], [0, 0, 3, 2, 5, 4], [0, 1, 3, 3, 5, 5])]
    previous = torch.randint(4, 20, (6, 4))
    encoded = model.encoder(*inputs)
    rows = torch.tensor([4, 4, 0, 0, 2, 2])
    encoded = model.encoder.reorder_encoder_out(encoded, rows)
    state: dict[str, Any] = {}
    steps = []
    for t in range(4):
        steps.append(model.decoder(previous[:, : t + 1], encoded, state)[0][:, 0])
        if t < 3:
            rows, previous = rows[orders[t]], previous[orders[t]]
            steps = [step[orders[t]] for step in steps]
            model.decoder.reorder_incremental_state_scripting(state, orders[t])
            encoded = model.encoder.reorder_encoder_out(encoded, orders[t])
    tokens, lengths = inputs
    at_once = model(tokens[rows], lengths[rows], previous)[0]
    found = []
    for scores in (torch.stack(steps, 1), at_once):
        gradients = torch.autograd.grad(
            scores.square().sum(), list(model.decoder.parameters()), allow_unused=True
        )
        found.append([scores, *gradients])
    assert_close(*found)


@pytest.mark.parametrize("at_once", [True, False])
def test_dropconnect_drops_gated_kernels(at_once):
    conv = SourceGatedLightConv(8, 3, gate_norm="latent", num_heads=2, weight_softmax=True)
    x, kernels = torch.ones(1, 500, 8), torch.rand(500, 2, 3)
    state: dict[str, Any] | None = None if at_once else {}
    kept = conv.eval()(x, kernels, state)
    conv.weight_dropout_module.p, conv.weight_dropout_module.apply_during_inference = 0.25, True
    ratio = conv(x, kernels, None if at_once else {}) / kept  # only the last tap has an input
    drawn = ratio.unflatten(2, (2, 4))
    assert torch.equal(drawn, drawn[..., :1].expand_as(drawn))  # a head's channels share a tap
    torch.testing.assert_close(drawn.unique().sort()[0][[0, -1]], torch.tensor([0.0, 4 / 3]))
    assert 0.65 < drawn.gt(0).float().mean() < 0.85


@pytest.mark.parametrize("encoder", ["kernel", "none"])
def test_same_seed_gives_lightconvs_own_weights(encoder):
    """And the random numbers that training draws afterwards."""
    options = [*TINY, "--decoder-layers", "3", "--decoder-kernel-size-list", "[7,7,1]"]
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *options)
    want = torch.rand(3)
    model = build(ARCH, *options, *SOURCE, "--encoder-gate-target", encoder)
    assert torch.equal(torch.rand(3), want)
    ours, theirs = model.state_dict(), lightconv.state_dict()
    new = {key for key in ours if key not in theirs}
    assert all(".gate." in key for key in new)
    assert {key.split(".")[2] for key in new if key.startswith("decoder.")} == {"0", "1"}
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    first, second = (layer.conv.gate.encoder for layer in model.decoder.layers[:2])
    assert not torch.equal(first, second)


def test_initialised_from_lightconv_the_decoders_gates_are_new(tmp_path):
    torch.manual_seed(9)
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *TINY, *LAYERS)
    path = save(lightconv, tmp_path / "lightconv.pt")
    options = [ARCH, *TINY, *LAYERS, *SOURCE]
    fresh, loaded = build(*options).state_dict(), build(*options, "--init-from-lightconv", path)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, fresh[key] if ".gate." in key else lightconv.state_dict()[key])


def test_checkpoint_without_the_decoders_gates_is_told():
    model, other = build(ARCH, *TINY, *LAYERS, *SOURCE), build(ARCH, *TINY, *LAYERS)
    model.load_state_dict(model.state_dict())
    with pytest.raises(UserError, match=r"decoder.layers.0.conv.gate.encoder is missing"):
        model.load_state_dict(other.state_dict())
    with pytest.raises(UserError, match=r"decoder.layers.0.conv.gate.encoder is not in this model"):
        other.load_state_dict(model.state_dict())
