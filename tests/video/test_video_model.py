import pytest
import torch
import torch.nn.functional as F
from tools import gradients
from torch import nn

from fairseq_cgc.core import UserError
from fairseq_cgc.video import create_model, list_models
from fairseq_cgc.video.layers import TemporalShift, temporal_layers
from fairseq_cgc.video.registry import VideoResNet
from fairseq_cgc.vision.resnet import BasicBlock, Bottleneck, ResNet, Shape


def small_model(name, *, frames=4, classes=3, channels=3, **options):
    return create_model(
        name,
        classes,
        num_frames=frames,
        in_channels=channels,
        backbone="resnet8_cifar",
        **options,
    )


def all_parts_at_work(model):
    """Normalisations with statistics and scales of their own, so that no part is the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def spatial(conv, norm, x):
    """A 1 x k x k convolution of B x C x T x H x W and its normalisation."""
    x = F.conv3d(x, conv.weight.unsqueeze(2), stride=(1, *conv.stride), padding=(0, *conv.padding))
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def temporal(layer, x):
    """A k x 1 x 1 convolution, its normalisation and ReLU."""
    weight, norm = layer.conv.weight.unsqueeze(4), layer.bn
    stride, half = layer.conv.stride[0], weight.shape[2] // 2
    x = F.conv3d(x, weight, stride=(stride, 1, 1), padding=(half, 0, 0))
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


def p3d_written_out(model, clips):
    """Appendix A.4 with 3-D layers of torch; temporal layers where the model has them."""
    x = spatial(model.conv1, model.bn1, clips.transpose(1, 2)).relu()
    if isinstance(model.maxpool, nn.MaxPool2d):
        x = F.max_pool3d(temporal(model.temporal[0], x), 3, stride=2, padding=1)
    else:
        x = temporal(model.temporal, x)
    for block in (block for stage in model.stages for block in model.get_submodule(stage)):
        convs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            convs.append((block.conv3, block.bn3))
        out = x
        for conv, norm in convs[:-1]:
            out = spatial(conv, norm, out).relu()
        if block.temporal is not None:
            out = temporal(block.temporal, out)
        out = spatial(*convs[-1], out)
        x = (out + (x if block.downsample is None else spatial(*block.downsample, x))).relu()
    return F.linear(x.mean((2, 3, 4)), model.fc.weight, model.fc.bias)


@pytest.mark.parametrize("frames", [1, 5, 8])
@pytest.mark.parametrize(
    "backbone",
    [
        Shape(Bottleneck, (2, 3), width=4),
        Shape(BasicBlock, (1, 2), width=4, small_images=True),
    ],
    ids=["bottleneck", "basic"],
)
def test_p3d_equals_its_3d_convolutions(backbone, frames):
    model = VideoResNet(
        backbone.block,
        backbone.depths,
        num_classes=3,
        num_frames=frames,
        dropout=0.5,
        pools_clip=True,
        width=backbone.width,
        small_images=backbone.small_images,
        temporal=temporal_layers(frames, backbone, gated=False),
    )
    model = all_parts_at_work(model).double()
    clips = torch.randn(2, frames, 3, 17, 12, dtype=torch.float64, requires_grad=True)
    inputs = [clips, *model.parameters()]
    got, want = model(clips), p3d_written_out(model, clips)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


def test_tsn_is_the_mean_of_the_frames_logits():
    model = all_parts_at_work(small_model("tsn"))
    images = ResNet(BasicBlock, (1, 1, 1), num_classes=3, width=16, small_images=True).eval()
    images.load_state_dict(model.state_dict())
    clips = torch.randn(2, 4, 3, 12, 9)
    want = torch.stack([sum(images(frame[None])[0] for frame in clip) / 4 for clip in clips])
    torch.testing.assert_close(model(clips), want)


@pytest.mark.parametrize(("name", "seen"), [("tsn", (2, 4, 64)), ("p3d", (2, 1, 64))])
def test_dropout_sees_frames_or_clips(name, seen):
    model, shapes = small_model(name, dropout=0.9), []
    model.dropout.register_forward_hook(lambda module, inputs, out: shapes.append(out.shape))
    model(torch.randn(2, 4, 3, 8, 8))
    assert shapes == [seen]


def test_tsm_shifts_inside_the_residual():
    model = all_parts_at_work(small_model("tsm"))
    block, seen = model.layer2[0], {}
    for name in ("conv1", "downsample"):
        block.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].clone()})
        )
    model(torch.randn(2, 4, 3, 8, 8))
    assert torch.equal(seen["conv1"], TemporalShift(4)(seen["downsample"]))
    assert not torch.equal(seen["conv1"], seen["downsample"])


@pytest.mark.parametrize("name", list_models())
def test_a_clip_counts_for_itself_in_evaluation(name):
    model = all_parts_at_work(small_model(name)).double()
    clips = torch.randn(3, 4, 3, 10, 8, dtype=torch.float64)
    with torch.no_grad():
        together, again = model(clips), model(clips)
        alone = model(clips[1:2])
    assert torch.equal(together, again)
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("name", list_models())
def test_the_order_of_frames_counts_where_it_should(name):
    model = all_parts_at_work(small_model(name)).double()
    clips = torch.randn(1, 4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        same = torch.allclose(model(clips), model(clips[:, [2, 0, 3, 1]]))
    assert same == (name in ("tsn", "tsn_nonlocal"))


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (torch.zeros(2, 3, 3, 8, 8), r"B x 4 x 3 x H x W, but are \(2, 3, 3, 8, 8\)"),
        (torch.zeros(2, 4, 1, 8, 8), r"B x 4 x 3 x H x W, but are \(2, 4, 1, 8, 8\)"),
        (torch.zeros(4, 3, 8, 8), r"B x 4 x 3 x H x W, but are \(4, 3, 8, 8\)"),
        (torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8), "floating point, but are torch.uint8"),
    ],
    ids=["frames", "channels", "images", "bytes"],
)
def test_clips_that_do_not_fit_are_told(clips, message):
    with pytest.raises(UserError, match=f"clips must be {message}"):
        small_model("tsn")(clips)
