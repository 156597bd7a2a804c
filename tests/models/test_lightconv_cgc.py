from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from fairseq import tasks
from fairseq.dataclass.utils import merge_with_parent
from fairseq.modules import FairseqDropout
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import OmegaConf
from small_models import LIGHTWEIGHT, TINY, build, dictionary, encode_twice, parse
from tools import padding_mask
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.models.config import (
    CONFIG_DIR,
    LightConvCGCConfig,
    architectures,
    resolve,
)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_table_6():
    # The number of entries of the real dictionaries: 8848 German, 6632 English.
    sizes = {"source": 8848, "target": 6632}
    lightconv = size(build("lightconv_iwslt_de_en", *LIGHTWEIGHT, **sizes))
    cgc = size(build("lightconv_cgc_iwslt_de_en", **sizes))
    assert lightconv == 38_139_436
    assert cgc == lightconv + 28 + 120 + 496 + 4 * 2016  # kernels 3, 7, 15, 31
    assert round(cgc / 1e6, 2) == 38.15


def test_parameters_of_table_6_with_the_real_dictionaries(shared_data):
    data = str(shared_data / "iwslt14-devtest")
    cfg = parse("lightconv_cgc_iwslt_de_en", "-s", "de", "-t", "en", data=data)
    assert size(tasks.setup_task(cfg.task).build_model(cfg.model)) == 38_148_144


@pytest.mark.parametrize("arch", ["iwslt_de_en", "wmt_en_de", "wmt_en_de_big", "wmt_en_fr_big"])
def test_same_seed_gives_lightconvs_own_weights_and_options(arch):
    lightconv = build(f"lightconv_{arch}", *LIGHTWEIGHT, *TINY)
    model = build(f"lightconv_cgc_{arch}", *TINY)
    ours, theirs = model.state_dict(), lightconv.state_dict()
    assert {key for key in ours if key not in theirs} == {key for key in ours if ".gate." in key}
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    dropouts = [
        {
            (name, module.module_name, module.p)
            for name, module in m.named_modules()
            if isinstance(module, FairseqDropout)
        }
        for m in (model, lightconv)
    ]
    assert dropouts[0] == dropouts[1]


@pytest.mark.usefixtures("torchs_dropout")
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_without_gates_it_is_lightconv(dropout):
    options = ["--encoder-layers", "2", *TINY, "--weight-dropout", str(dropout)]
    options += ["--dropout", str(dropout), "--attention-dropout", str(dropout)]
    options += ["--encoder-kernel-size-list", "[3,7]"]
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *options)
    model = build("lightconv_cgc_iwslt_de_en", *options, "--encoder-gate-target", "none")
    model.load_state_dict(lightconv.state_dict())
    lightconv.load_state_dict(model.state_dict())
    source = torch.randint(4, 20, (3, 9))
    source[1, :4] = 1
    batch = (source, torch.tensor([9, 5, 9]), torch.randint(4, 20, (3, 6)))
    found: list[list[Tensor]] = []
    for net in (model, lightconv):
        torch.manual_seed(3)  # the same numbers and connections are dropped
        optimizer = torch.optim.SGD(net.train().parameters(), lr=0.01)
        found.append([])
        for _ in range(4):
            loss = net(*batch)[0].log_softmax(-1)[..., 4].mean().neg()
            optimizer.zero_grad()
            loss.backward()
            found[-1] += [loss, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
            optimizer.step()
        found[-1] += net.parameters()
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="is not in this model"):
        model.load_state_dict(build("lightconv_cgc_iwslt_de_en", *options).state_dict())


NAMES = ["LightConvEncoder", "LightConvEncoderLayer", "LightweightConv1dTBC", "LightConvDecoder"]


@pytest.mark.parametrize("gate_target", ["none", "kernel"])
@pytest.mark.parametrize("names", [None, NAMES, *([name] for name in NAMES)], ids=str)
@pytest.mark.usefixtures("torchs_dropout")
def test_retained_dropout_is_that_of_fairseqs_encoder(names, gate_target):
    options = ["--weight-dropout", "0.3", "--relu-dropout", "0.2", *TINY]
    options += ["--encoder-layers", "2", "--encoder-kernel-size-list", "[3,7]"]
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *options)
    model = build("lightconv_cgc_iwslt_de_en", *options, "--encoder-gate-target", gate_target)
    retained, outputs = [], []
    for net in (model, lightconv):
        net.make_generation_fast_(retain_dropout=True, retain_dropout_modules=names)
        modules = net.named_modules()
        retained.append({name for name, m in modules if getattr(m, "apply_during_inference", 0)})
        outputs.append(encode_twice(net))
    assert retained[0] == retained[1] != set()
    assert any("encoder" in name for name in retained[0]) == (names != ["LightConvDecoder"])
    for first, second in (output[::2] for output in outputs):
        assert torch.equal(first, second) == (names == ["LightConvDecoder"])
    if gate_target == "none":
        torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_gates_do_not_repeat_the_random_numbers_of_other_parameters():
    model = build("lightconv_cgc_iwslt_de_en")
    for layer in model.encoder.layers:
        gate = layer.conv.gate.encoder.flatten()
        for other in (layer.linear1, layer.linear2, layer.fc1, layer.fc2):
            both = torch.stack([gate, other.weight.flatten()[: len(gate)]])
            assert torch.corrcoef(both)[0, 1].abs() < 0.9
    kernels_31 = torch.stack(
        [layer.conv.gate.encoder.flatten() for layer in model.encoder.layers[3:]]
    )
    assert (torch.corrcoef(kernels_31) - torch.eye(4)).abs().max() < 0.5


def hydra_model(arch: str) -> Any:
    """The model node that ``fairseq-hydra-train model=ARCH`` composes."""
    base, own = (
        OmegaConf.load(CONFIG_DIR / "model" / f"{n}.yaml") for n in ("lightconv_cgc", arch)
    )
    values: Any = OmegaConf.to_container(OmegaConf.merge(base, own))
    values.pop("defaults", None)
    return OmegaConf.create({"model": values, "task": TranslationConfig()}).model


def test_hydra_takes_every_option_without_a_plus():
    listed = yaml.safe_load((CONFIG_DIR / "model" / "lightconv_cgc.yaml").read_text())
    assert listed == {**vars(LightConvCGCConfig()), "_name": "lightconv_cgc"}


@pytest.mark.parametrize("arch", ["lightconv_cgc", *architectures()])
def test_command_line_and_hydra_mean_the_same_model(arch):
    from_hydra = merge_with_parent(LightConvCGCConfig(), hydra_model(arch))
    assert resolve(parse(arch).model) == resolve(from_hydra)


def test_a_checkpoint_from_before_an_option_has_its_default():
    old = OmegaConf.create(OmegaConf.to_container(parse("lightconv_cgc_tiny").model))
    del old.encoder_gate_norm
    OmegaConf.set_struct(old, True)  # as fairseq gives it
    assert resolve(old) == resolve(parse("lightconv_cgc_tiny").model)


@pytest.mark.parametrize("arch", ["lightconv_cgc_iwslt_de_en", "lightconv_cgc_tiny"])
def test_command_line_and_hydra_build_the_same_parameters(arch):
    task = TranslationTask(TranslationConfig(), dictionary(30), dictionary(20))
    ours = build(arch).state_dict()
    torch.manual_seed(1)
    theirs = task.build_model(hydra_model(arch)).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_tiny_has_the_sizes_of_transformer_tiny():
    model = build("lightconv_cgc_tiny")
    assert [layer.conv.kernel_size for layer in model.encoder.layers] == [3, 7, 15, 31]
    assert [layer.conv.kernel_size for layer in model.decoder.layers] == [3, 7, 15, 31]
    assert {layer.fc1.weight.shape for layer in model.encoder.layers} == {(256, 128)}
    assert {layer.conv.num_heads for layer in model.encoder.layers} == {4}
    assert model.encoder.dropout_module.p == 0.3
    assert {layer.encoder_attn.dropout_module.p for layer in model.decoder.layers} == {0.0}


@pytest.mark.parametrize("normalize_before", [[], ["--encoder-normalize-before"]])
@pytest.mark.parametrize("glu", ["0", "1"])
def test_open_gates_give_lightconvs_encoder(glu, normalize_before):
    arguments = [*TINY, "--encoder-glu", glu, "--decoder-glu", glu, *normalize_before]
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *arguments).eval()
    model = build("lightconv_cgc_iwslt_de_en", *arguments).eval()
    for layer in model.encoder.layers:
        layer.conv.gate.forward = lambda context: context.new_ones(())
    tokens = torch.randint(4, 30, (3, 9)).masked_fill(padding_mask([4, 9, 7], "left"), 1)
    lengths = torch.tensor([4, 9, 7])
    valid = tokens.ne(1).t()
    got = model.encoder(tokens, lengths)["encoder_out"][0][valid]
    want = lightconv.encoder(tokens, lengths)["encoder_out"][0][valid]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("gate_target", "gate_norm"), [("kernel", "latent"), ("logits", "latent"), ("kernel", "heads")]
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_sentence_is_encoded_alike_alone_and_in_a_batch(side, gate_target, gate_norm):
    arguments = ["--encoder-gate-target", gate_target, "--encoder-gate-norm", gate_norm]
    arguments += ["--encoder-embed-dim", "64"]
    # In float64, where nothing hides behind rounding; float32 differs in its seventh digit.
    model = build("lightconv_cgc_iwslt_de_en", *arguments).double().eval()
    lengths = [1 + 29 * i % 60 for i in range(64)]
    mask = padding_mask(lengths, side)
    tokens = torch.randint(4, 30, mask.shape).masked_fill(mask, 1)
    batch = model.encoder(tokens, torch.tensor(lengths))["encoder_out"][0]
    for i, length in enumerate(lengths):
        alone = tokens[i : i + 1, ~mask[i]]
        want = model.encoder(alone, torch.tensor([length]))["encoder_out"][0][:, 0]
        torch.testing.assert_close(batch[~mask[i], i], want, atol=1e-12, rtol=0)


def test_incremental_decoding_equals_decoding_at_once():
    model = build("lightconv_cgc_iwslt_de_en", *TINY).eval()
    tokens, previous = torch.randint(4, 30, (2, 9)), torch.randint(4, 20, (2, 6))
    encoded = model.encoder(tokens, torch.tensor([9, 9]))
    want = model.decoder(previous, encoder_out=encoded)[0]
    state: dict[str, Any] = {}
    steps = [
        model.decoder(previous[:, : t + 1], encoder_out=encoded, incremental_state=state)[0]
        for t in range(6)
    ]
    torch.testing.assert_close(torch.cat(steps, 1), want, atol=1e-5, rtol=0)


def test_adaptive_softmax_builds_and_scores():
    model = build("lightconv_cgc_iwslt_de_en", *TINY, "--adaptive-softmax-cutoff", "5,10").eval()
    tokens = torch.randint(4, 20, (2, 5))
    out = model(tokens, torch.tensor([5, 5]), tokens)
    probabilities = model.get_normalized_probs(out, log_probs=False)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 5))


WRONG = [
    (["--encoder-attention-heads", "3"], "--encoder-attention-heads is 3, but must divide"),
    (["--decoder-attention-heads", "5"], "--decoder-attention-heads is 5, but must divide"),
    (
        ["--encoder-kernel-size-list", "[3,7,15,31]"],
        r"--encoder-kernel-size-list has 4 entries .*, but --encoder-layers is 7",
    ),
    (["--decoder-layers", "2"], "--decoder-kernel-size-list has 6 entries .*--decoder-layers is 2"),
    (["--encoder-kernel-size-list", "[4]"], "entries must be odd; 4 is even"),
    (["--encoder-kernel-size-list", "[-1]"], "entries must be at least 1"),
    (["--encoder-gate-target", "weight"], "is 'weight', but must be one of kernel, logits, none"),
    (["--encoder-gate-norm", "layer"], "is 'layer', but must be one of latent, heads"),
    (["--decoder-conv-type", "cgc"], "--decoder-conv-type is 'cgc', but must be one of"),
    (["--decoder-gate", "target"], "--decoder-gate is 'target', but must be one of none, source"),
    (
        ["--decoder-gate", "source", "--decoder-conv-type", "dynamic"],
        "--decoder-gate is 'source', but with --decoder-conv-type dynamic must be 'none'",
    ),
    (["--encoder-layers", "0"], "--encoder-layers is 0, but must be at least 1"),
    (["--dropout", "1.5"], "--dropout is 1.5, but must be from 0 to 1"),
    (["--weight-dropout", "-0.1"], "--weight-dropout is -0.1, but must be from 0 to 1"),
    (["--share-all-embeddings"], "--share-all-embeddings needs a joined dictionary"),
    (
        ["--decoder-embed-dim", "256"],
        "--decoder-embed-dim is 256, but must be --encoder-embed-dim, which is 512",
    ),
    (
        ["--share-all-embeddings", "--decoder-input-dim", "256"],
        r"--decoder-input-dim \(256\) equal to --encoder-embed-dim \(512\)",
    ),
    (
        ["--share-decoder-input-output-embed", "--decoder-output-dim", "256"],
        "--decoder-output-dim is 256, but with a shared embedding must be --decoder-input-dim, "
        "which is 512",
    ),
    (["--init-from-lightconv", "/nowhere.pt"], r"/nowhere.pt: cannot be read \(No such file"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_options_are_told(arguments, message):
    with pytest.raises(UserError, match=message):
        build("lightconv_cgc_iwslt_de_en", *arguments)


def test_wrong_switch_is_told_by_argparse(capsys):
    with pytest.raises(SystemExit):
        build("lightconv_cgc_iwslt_de_en", "--encoder-glu", "maybe")
    assert "must be true, false, 1 or 0, but is 'maybe'" in capsys.readouterr().err


def test_nothing_is_printed_where_fairseqs_cuda_layers_are_missing(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for decoder in ("lightweight", "dynamic"):
        build("lightconv_cgc_iwslt_de_en", *TINY, "--decoder-conv-type", decoder)
    assert capsys.readouterr().out == ""
