"""Training and beam search on a GPU against a CPU; each test runs on a CPU too."""

import copy

import pytest
import torch
import toy
from beam_search import ARCH, LAYERS, LENGTHS, TASK, hypotheses, lively
from fairseq import utils
from small_models import TINY, build
from tools import padding_mask
from torch import nn

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


def loss_and_gradients(model: nn.Module, side: str) -> list[torch.Tensor]:
    """Of label smoothed cross entropy, as in a step of fairseq-train."""
    torch.manual_seed(6)
    place = next(model.parameters()).device
    tokens = torch.randint(4, 20, (len(LENGTHS), max(LENGTHS)))
    source = tokens.masked_fill(padding_mask(LENGTHS, side), 1)
    target = tokens.masked_fill(padding_mask(LENGTHS, "right"), 1)
    scores, extra = model(
        source.to(place), torch.tensor(LENGTHS, device=place), target.roll(1, 1).to(place)
    )
    losses = -model.get_normalized_probs((scores, extra), log_probs=True).float()
    right = losses.gather(2, target.to(place).unsqueeze(2)).squeeze(2)
    valid = target.ne(1).to(place)
    loss = (0.9 * right + 0.1 * losses.mean(2))[valid].mean()
    parameters = list(model.parameters())
    return [loss, *torch.autograd.grad(loss, parameters, allow_unused=True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--encoder-gate-target", "logits"],
        ["--encoder-gate-target", "none"],
        ["--encoder-gate-norm", "heads", "--decoder-gate", "source"],
    ],
    ids=str,
)
def test_training_step(options, side, device):
    # Without dropout, which no two devices draw alike.
    options = [*options, "--dropout", "0", "--weight-dropout", "0"]
    model = build(ARCH, *TINY, *LAYERS, *options)
    want = loss_and_gradients(copy.deepcopy(model).double(), side)
    got = loss_and_gradients(model.to(device), side)
    for one, other in zip(got, want, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one.cpu(), other.to(one.dtype), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_training_step_in_half_precision(autocast, dtype, device):
    model = build(ARCH, *TINY, *LAYERS, "--dropout", "0.1", "--weight-dropout", "0.1").eval()
    want = loss_and_gradients(copy.deepcopy(model).double(), "left")
    model = model.to(device, torch.float32 if autocast else dtype)
    with torch.autocast(device, dtype=dtype, enabled=autocast):
        got = loss_and_gradients(model, "left")
    assert got[0].item() == pytest.approx(want[0].item(), rel=2e-2)
    with torch.autocast(device, dtype=dtype, enabled=autocast):
        drawn = loss_and_gradients(model.train(), "left")
    assert all(g is None or g.isfinite().all() for g in drawn)


@pytest.fixture(scope="module")
def found_on_a_cpu() -> list:
    return hypotheses([lively()])


@pytest.fixture
def samples_on(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fairseq's generator gets is where the model is."""
    step = TASK.inference_step

    def move(generator, models, batch, **options):
        return step(
            generator, models, utils.apply_to_sample(lambda x: x.to(device), batch), **options
        )

    monkeypatch.setattr(TASK, "inference_step", move)


def test_beam_search(found_on_a_cpu, samples_on, device):
    for got, want in zip(hypotheses([lively().to(device)]), found_on_a_cpu, strict=True):
        assert [h["tokens"].tolist() for h in got] == [h["tokens"].tolist() for h in want]
        for ours, theirs in zip(got, want, strict=True):
            assert ours["score"].item() == pytest.approx(theirs["score"].item(), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_beam_search_in_half_precision(dtype, samples_on, device):
    for sentence in hypotheses([lively().to(device, dtype)]):
        assert all(h["score"].isfinite() and h["tokens"][-1] == 2 for h in sentence)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["--fp16", "--amp"])
def test_fairseqs_commands_train_and_translate_on_a_gpu(precision, toy_data, tmp_path):
    options = [option for option in toy.OPTIMIZER if option != "--cpu"]
    toy.succeed(
        toy.fairseq(
            *("train", toy_data, "--arch", ARCH, *toy.SIZES, *options, precision),
            *("--save-dir", tmp_path, "--max-epoch", "2"),
        )
    )
    found = []
    for place in ([], ["--cpu"]):
        run = toy.fairseq(
            *("generate", toy_data, "--path", tmp_path / "checkpoint_best.pt", *place),
            *("--beam", "3", "--max-len-b", "20"),
        )
        lines = toy.succeed(run).stdout.splitlines()
        assert not any("lightconv_cuda" in line for line in lines)
        found.append([line.split("\t")[2] for line in lines if line.startswith("H-")])
    agree = sum(ours == theirs for ours, theirs in zip(*found, strict=True))
    assert agree >= 0.9 * len(found[1]) > 0
