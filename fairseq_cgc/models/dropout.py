"""fairseq's dropout modules with masks that a CPU draws faster."""

from __future__ import annotations

from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from fairseq_cgc.core.dropout import dropout


class FastDropout(FairseqDropout):
    """fairseq's module with the masks of :func:`fairseq_cgc.core.dropout.dropout`."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """Drop elements of x in training, and in inference where --retain-dropout asks for it."""
        if self.p > 0 and (self.training or self.apply_during_inference):
            return dropout(x, self.p, inplace=inplace)
        return x


def use_fast_dropout(model: nn.Module) -> None:
    """Replace the dropouts of a new model; their names and probabilities stay as they are."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is FairseqDropout:
                setattr(parent, name, FastDropout(module.p, module.module_name))
