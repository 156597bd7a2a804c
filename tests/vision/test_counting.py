import pytest
import torch

from fairseq_cgc.vision.costs import cost


def test_resnet50_by_hand():
    """Every convolution's output positions times its weights, and the classifier."""
    total = 112 * 112 * 64 * 3 * 49
    channels, side = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            total += side**2 * channels * width  # before the stride
            if block == 0:
                side = side if stage == 0 else side // 2
                total += side**2 * channels * 4 * width
            total += side**2 * (9 * width**2 + width * 4 * width)
            channels = 4 * width
    counted = cost("resnet50")
    assert counted.multiply_adds == total + 2048 * 1000
    assert counted.gated_weights == 0


def test_gates_by_hand():
    plain, gated = cost("resnet8_cifar"), cost("resnet8_cifar_cgc")
    convolutions = [(3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    assert gated.gated_weights == sum(9 * c * o for c, o in convolutions)
    # E: c x 9 x 5; D: (c + o) x 5 x 9; I: width c/g times o, for each of 5 numbers
    gates = sum(45 * (c + c + o) + 5 * min(c, 16) * o for c, o in convolutions)
    assert gated.multiply_adds - plain.multiply_adds == gates


@pytest.mark.parametrize("name", ["resnet8_cifar", "dcnv2_resnet50"])
def test_counting_leaves_the_random_state(name):
    before = torch.get_rng_state()
    cost(name)
    assert torch.equal(before, torch.get_rng_state())
