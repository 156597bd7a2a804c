"""Weights from LightConv and from older checkpoints, and those that do not fit."""

from __future__ import annotations

import pytest
import torch
from fairseq.dataclass.utils import merge_with_parent
from fairseq.tasks.translation import TranslationTask
from omegaconf import open_dict
from small_models import LIGHTWEIGHT, TINY, build, dictionary, encode_twice, parse, save
from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.core.sentence_gate import make_sentence_gate
from fairseq_cgc.models.config import LightConvCGCConfig
from fairseq_cgc.models.lightconv_cgc import LightConvCGCModel


def test_initialised_from_lightconv_only_the_gates_are_new(tmp_path):
    torch.manual_seed(9)
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *TINY)
    for parameter in lightconv.parameters():
        nn.init.normal_(parameter)
    path = save(lightconv, tmp_path / "lightconv.pt")
    arch = ["lightconv_cgc_iwslt_de_en", *TINY]
    fresh = build(*arch).state_dict()
    loaded = build(*arch, "--init-from-lightconv", path).state_dict()
    theirs = lightconv.state_dict()
    for key, value in loaded.items():
        assert torch.equal(value, fresh[key] if ".gate." in key else theirs[key]), key


def test_gate_norm_is_latent_where_an_older_checkpoint_says_nothing():
    """And weights of one norm do not load into a model of the other."""
    cfg = parse("lightconv_cgc_iwslt_de_en", *TINY)
    with open_dict(cfg.model):
        del cfg.model["encoder_gate_norm"]
    merged = merge_with_parent(LightConvCGCConfig(), cfg.model)
    task = TranslationTask(cfg.task, dictionary(30), dictionary(20))
    model = task.build_model(merged)
    latent = build("lightconv_cgc_iwslt_de_en", *TINY)
    model.load_state_dict(latent.state_dict())
    heads = build("lightconv_cgc_iwslt_de_en", *TINY, "--encoder-gate-norm", "heads")
    assert heads.encoder.layers[0].conv.gate.in_norm.weight.shape == (4, 2)
    with pytest.raises(UserError, match=r"gate.in_norm.weight is \(2,\), but must be \(4, 2\)"):
        heads.load_state_dict(latent.state_dict())


def test_initialised_from_lightconv_of_the_cuda_layer_and_of_old_fairseq(tmp_path):
    lightconv = build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *TINY)
    path = tmp_path / "old.pt"
    state = {
        key.replace("decoder.output_projection.weight", "decoder.embed_out"): (
            value.squeeze(1) if key.endswith("conv.weight") else value
        )
        for key, value in lightconv.state_dict().items()
    }
    torch.save({"model": state}, path)
    model = build("lightconv_cgc_iwslt_de_en", *TINY, "--init-from-lightconv", str(path))
    theirs = lightconv.state_dict()
    assert all(torch.equal(model.state_dict()[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("lightconv_iwslt_de_en", {}, "has dynamic encoder convolutions"),
        ("lightconv_iwslt_de_en", {"source": 31}, "has dynamic encoder convolutions"),
        ("lightconv_wmt_en_de", {}, "is of another architecture"),
        ("transformer_iwslt_de_en", {}, "is of another architecture: .* is missing"),
    ],
)
def test_other_models_do_not_initialise_it(arch, options, message, tmp_path):
    lightweight = LIGHTWEIGHT if arch == "lightconv_wmt_en_de" else []
    path = save(build(arch, *lightweight, *TINY, **options), tmp_path / "other.pt")
    with pytest.raises(UserError, match=message):
        build("lightconv_cgc_iwslt_de_en", *TINY, "--init-from-lightconv", path)


def test_checkpoint_of_another_model_is_told():
    model = build("lightconv_cgc_iwslt_de_en", *TINY)
    for other, message in (
        (build("lightconv_cgc_iwslt_de_en", *TINY, source=31), "encoder dictionary has 31 types"),
        (build("lightconv_cgc_iwslt_de_en", *TINY, target=21), "decoder dictionary has 21 types"),
        (build("lightconv_iwslt_de_en", *LIGHTWEIGHT, *TINY), "the checkpoint has no gates"),
        (build("lightconv_cgc_tiny", "--encoder-embed-dim", "16"), "is of another architecture"),
    ):
        with pytest.raises(UserError, match=message):
            model.load_state_dict(other.state_dict())
    assert isinstance(model, LightConvCGCModel)


@pytest.mark.parametrize("gate_target", ["kernel", "logits"])
@pytest.mark.parametrize("softmax", ["0", "1"])
def test_checkpoints_with_gates_for_one_tap_encode_as_they_did(softmax, gate_target):
    options = ["--encoder-layers", "3", "--encoder-kernel-size-list", "[1,3,1]"]
    options += ["--weight-softmax", softmax, "--encoder-gate-target", gate_target]
    arch = ["lightconv_cgc_iwslt_de_en", *TINY, *options]
    old, new, again = (build(*arch).double().eval() for _ in range(3))
    for layer in old.encoder.layers[::2]:
        layer.conv.gate = make_sentence_gate(layer.conv.num_heads, 1, "latent").double()
        nn.init.uniform_(layer.conv.gate.in_norm.bias, 0.5, 1.0)
        nn.init.normal_(layer.conv.gate.in_decoder)
    if softmax == "1" and gate_target == "kernel":
        with pytest.raises(UserError, match="^layers.0.conv.gate is a constant that multiplies"):
            new.encoder.load_state_dict(old.encoder.state_dict())
    new.load_state_dict(old.state_dict())
    again.load_state_dict(new.state_dict())
    for got, want in ((new, old), (again, old)):
        torch.testing.assert_close(encode_twice(got), encode_twice(want), atol=1e-12, rtol=0)
    assert not any(".gate." in name for name in new.encoder.layers[0].state_dict())
