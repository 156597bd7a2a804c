import pytest
import torch
from torch import nn

from fairseq_cgc.analysis.gate_figures import draw_gates
from fairseq_cgc.analysis.gates import layer_label, record_gates
from fairseq_cgc.core import CGLightConv, UserError, pool_heads


def test_records_what_the_gates_gave():
    convs = nn.ModuleList([CGLightConv(8, 3, 2), CGLightConv(8, 7, 4)])
    x = torch.randn(5, 3, 8)
    with record_gates(convs) as gates:
        for conv in convs:
            conv(x)
        convs[0](x[:, :1])
    convs[0](x)  # after the block: not recorded
    assert {name: [g.shape for g in found] for name, found in gates.items()} == {
        "0": [(3, 2, 3), (1, 2, 3)],
        "1": [(3, 4, 7)],
    }
    want = convs[1].gate(pool_heads(x, 4, 21)).squeeze(2)
    torch.testing.assert_close(gates["1"][0], want.detach())


def test_model_without_gates_is_reported():
    with (
        pytest.raises(UserError, match="the model has no gates"),
        record_gates(nn.Linear(2, 2)),
    ):
        pass


def test_layers_have_names_in_words():
    assert layer_label("encoder.layers.2.conv", 15) == "encoder layer 3 (K = 15)"
    assert layer_label("layers.0.conv", 3) == "encoder layer 1 (K = 3)"
    assert layer_label("mine", 5) == "mine (K = 5)"


def test_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    output = tmp_path / "gates.png"
    draw_gates({"layer 1": torch.rand(4, 3), "layer 2": torch.rand(2, 31)}, output)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]
