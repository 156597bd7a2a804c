"""--criterion label_smoothed_cross_entropy_chunked against label_smoothed_cross_entropy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fairseq.tasks.translation import TranslationTask
from small_models import LIGHTWEIGHT, TINY, dictionary, parse
from torch import Tensor, distributed, nn

import fairseq_cgc.models  # noqa: F401
from fairseq_cgc.core import UserError
from fairseq_cgc.core import smoothed_loss as module

NAMES = ["label_smoothed_cross_entropy", "label_smoothed_cross_entropy_chunked"]
MODELS = {
    "cgc": ["lightconv_cgc_iwslt_de_en", *TINY],
    "shared": ["lightconv_cgc_iwslt_de_en", *TINY, "--share-all-embeddings"],
    "lightconv": ["lightconv_iwslt_de_en", *TINY, *LIGHTWEIGHT],
    "transformer": ["transformer_iwslt_de_en", *TINY, "--share-decoder-input-output-embed"],
}


def setup(arch: str, *arguments: str) -> tuple[nn.Module, list[Any]]:
    """A model without dropout, fairseq's criterion and ours."""
    words = dictionary(25)
    criteria = []
    for name in NAMES:
        cfg = parse(arch, *arguments, "--criterion", name, "--label-smoothing", "0.1")
        task = TranslationTask(cfg.task, words, words)
        criteria.append(task.build_criterion(cfg.criterion))
    torch.manual_seed(1)
    return task.build_model(cfg.model).eval(), criteria


def sample(lengths: tuple[int, ...] = (7, 3, 5)) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(4, 25, (len(lengths), 7), generator=generator)
    for row, length in enumerate(lengths):
        target[row, length:] = 1
    source = torch.randint(4, 25, (len(lengths), 6), generator=generator)
    previous = target.roll(1, 1)
    previous[:, 0] = 2
    net_input = {
        "src_tokens": source,
        "src_lengths": torch.full((len(lengths),), 6),
        "prev_output_tokens": previous,
    }
    return {"net_input": net_input, "target": target, "ntokens": sum(lengths)}


def results(criterion: Any, model: nn.Module, batch: dict[str, Any], **how: Any) -> list[Any]:
    """Loss, sample size, log and all gradients."""
    model.zero_grad()
    loss, size, log = criterion(model, batch, **how)
    loss.sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert log.pop("loss").equal(loss.detach())
    return [loss, size, {k: torch.as_tensor(v) for k, v in log.items()}, grads]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CPU_CHUNK", 4 * 25)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--sentence-avg", "--report-accuracy"],
        ["--ignore-prefix-size", "2", "--report-accuracy"],
    ],
    ids=str,
)
@pytest.mark.parametrize("name", MODELS)  # fmt: skip
def test_equals_fairseqs_criterion(name, options):
    model, (theirs, ours) = setup(*MODELS[name], *options)
    got, want = (results(c, model, sample()) for c in (ours, theirs))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got[1] == (3 if "--sentence-avg" in options else 15)
    assert model(**sample()["net_input"])[0].shape == (3, 7, 25)  # the model is what it was


def test_a_loss_for_each_token():
    model, (theirs, ours) = setup(*MODELS["cgc"])
    got, want = (results(c, model, sample(), reduce=False) for c in (ours, theirs))
    assert got[0].shape == (21, 1)
    torch.testing.assert_close(got, want)


def test_float64_and_bfloat16():
    model, (theirs, ours) = setup(*MODELS["shared"])
    model.double()
    got = results(ours, model, sample())

    def definition(model: nn.Module, batch: dict[str, Any]) -> Tensor:  # fairseq's, not in float32
        scores = model(**batch["net_input"])[0].log_softmax(-1)
        real = batch["target"] != 1
        nll = -scores.gather(2, batch["target"].unsqueeze(2)).squeeze(2)[real].sum()
        return (0.9 - 0.1 / 24) * nll - 0.1 / 24 * scores[real].sum()

    model.zero_grad()
    want = definition(model, sample())
    want.backward()
    torch.testing.assert_close(got[0], want, rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[3][name], parameter.grad, rtol=1e-12, atol=1e-12)
    model.bfloat16()
    got, want = (results(c, model, sample()) for c in (ours, theirs))
    assert got[0].item() == pytest.approx(want[0].item(), rel=1e-5)
    for name, grad in got[3].items():
        assert (grad - want[3][name]).float().norm() <= 0.05 * want[3][name].float().norm(), name


def test_validation_and_batches_that_do_not_count():
    model, (theirs, ours) = setup(*MODELS["shared"])
    with torch.no_grad():
        loss, _, log = ours(model, sample())
        torch.testing.assert_close(loss, theirs(model, sample())[0])
        assert not loss.requires_grad
    for batch in (sample(), sample((0, 0))):  # fairseq's dummy batch; nothing but padding
        model.zero_grad()
        loss = ours(model, batch)[0]
        loss *= 0
        loss.backward()
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.fixture
def one_process() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("find_unused_parameters", [False, True])
@pytest.mark.parametrize("name", ["cgc", "shared"])
def test_distributed(name, find_unused_parameters):
    model, (theirs, ours) = setup(*MODELS[name])
    want = results(theirs, model, sample())
    wrapped = nn.parallel.DistributedDataParallel(
        model, find_unused_parameters=find_unused_parameters
    )
    for _ in range(2):
        got = results(ours, wrapped, sample())
        grads = {name.removeprefix("module."): grad for name, grad in got[3].items()}
        torch.testing.assert_close(grads, want[3], rtol=1e-5, atol=1e-5)


class FullyShardedDataParallel(nn.Module):
    pass


def test_where_it_cannot_be_used_is_told():
    model, (_, ours) = setup(*MODELS["cgc"], "--adaptive-softmax-cutoff", "5,10")
    with pytest.raises(UserError, match=r"_chunked cannot be used: with --adaptive-softmax-cutoff"):
        ours(model, sample())
    model, (_, ours) = setup(*MODELS["cgc"])
    model.extra = FullyShardedDataParallel()
    with pytest.raises(UserError, match="cannot be used: --ddp-backend fully_sharded"):
        ours(model, sample())
    del model.extra
    model.decoder.output_projection.bias = nn.Parameter(torch.zeros(25))
    with pytest.raises(UserError, match="LightConvCGCModel has no decoder.output_projection"):
        ours(model, sample())
    model, (_, ours) = setup(*MODELS["transformer"])
    model.decoder.output_layer = lambda features: features
    with pytest.raises(UserError, match="does not end in output_projection"):
        ours(model, sample())
