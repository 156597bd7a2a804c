"""Options of checkpoints that cannot be those of a model."""

import pytest

from fairseq_cgc.inference.model_options import ModelOptions
from fairseq_cgc.support.errors import UserError


def test_other_architectures_are_told():
    cfg = {"model": {"_name": "transformer"}}
    with pytest.raises(UserError, match="architecture 'transformer', but must be lightconv_cgc"):
        ModelOptions.from_checkpoint({"cfg": cfg})
    for cfg in ({"model": "transformer"}, {"model": 7}):
        with pytest.raises(UserError, match="architecture None, but must be lightconv_cgc"):
            ModelOptions.from_checkpoint({"cfg": cfg})


@pytest.mark.parametrize("layers", [10**12, 0, "2", None, 2.5], ids=repr)
def test_a_number_of_layers_that_cannot_be_is_told(layers):
    cfg = {"model": {"_name": "lightconv", "encoder_kernel_size_list": "[3]"}}
    cfg["model"]["encoder_layers"] = layers
    with pytest.raises(UserError, match="encoder_layers is .*, but must be from 1 to 1000"):
        ModelOptions.from_checkpoint({"cfg": cfg})
