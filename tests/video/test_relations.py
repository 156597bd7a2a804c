"""TRN's classifier against its definition."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from tools import gradients

from fairseq_cgc.core import UserError
from fairseq_cgc.video import create_model
from fairseq_cgc.video.relations import TemporalRelations


def written_out(module, features, subsets):
    """Equations 2 to 4 of TRN's paper, a relation at a time."""
    logits = []
    for clip in features:
        frames = [F.relu(module.reduce.weight @ frame + module.reduce.bias) for frame in clip]
        total = 0
        for scale, chosen in zip(module.scales, subsets, strict=True):
            hidden, _, out = scale
            for subset in chosen:
                x = torch.cat([frames[i] for i in subset])
                x = (hidden.weight @ x + hidden.bias).clamp(min=0)
                total = total + out.weight @ x + out.bias
        logits.append(total)
    return torch.stack(logits).unsqueeze(1)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("frames", [2, 3, 8])
def test_outputs_and_gradients(frames, mode, monkeypatch):
    module = TemporalRelations(5, 4, frames, width=6).double().train(mode == "train")
    seen = []
    subsets = module.subsets
    monkeypatch.setattr(module, "subsets", lambda size: seen.append(subsets(size)) or seen[-1])
    features = torch.randn(3, frames, 5, dtype=torch.float64, requires_grad=True)
    inputs = [features, *module.parameters()]
    got = module(features)
    want = written_out(module, features, seen)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))
    assert torch.autograd.gradcheck(module.eval(), features)


@pytest.mark.parametrize("frames", [2, 3, 4, 8, 31])
def test_subsets_are_different_and_in_order(frames):
    module = TemporalRelations(2, 3, frames, width=2)
    for mode in (True, False):
        module.train(mode)
        for size in range(2, frames + 1):
            found = module.subsets(size)
            assert len(set(found)) == len(found) == (1 if size == frames else 3)
            for subset in found:
                assert len(subset) == size and list(subset) == sorted(set(subset))
                assert set(subset) <= set(range(frames))


def test_training_sees_all_subsets_and_evaluation_always_the_same():
    module = TemporalRelations(2, 3, 5, width=2)
    found = {subset for _ in range(60) for subset in module.subsets(2)}
    assert found == set(itertools.combinations(range(5), 2))
    module.eval()
    assert len({tuple(module.subsets(2)) for _ in range(5)}) == 1
    assert module.subsets(3) == TemporalRelations(7, 3, 5).eval().subsets(3)


def test_a_seed_decides_what_training_sees():
    module, features = TemporalRelations(4, 3, 6), torch.randn(2, 6, 4)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(module(features))
    assert torch.equal(outputs[0], outputs[1]) and not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("name", "frames", "least"),
    [("trn", 1, 2), ("trn_cgc", 0, 2), ("eco", 3, 4), ("eco_cgc", 1, 4)],
)
def test_too_few_frames_are_told(name, frames, least):
    message = f"num_frames is {frames}, but must be at least {least} with {name}$"
    with pytest.raises(UserError, match=message):
        create_model(name, 5, num_frames=frames, backbone="resnet8_cifar")
