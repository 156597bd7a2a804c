"""Dynamic convolution over fewer positions than its kernel is wide."""

from typing import Any, Dict, Optional  # noqa: UP035

from torch import Tensor


# TorchScript compiles the replacement too: annotations must be types, in the form that it knows.
# ruff: noqa: UP006, UP045
def normalize_whole_dynamic_kernels() -> None:
    """Take the softmax of a dynamic decoder's whole kernels, as generation does: in training on
    fewer positions than a kernel has, fairseq cuts it before.
    """
    from fairseq.modules.dynamic_convolution import DynamicConv1dTBC, DynamicConv_scripatable
    from fairseq.modules.unfold import unfold1d

    def _forward_unfolded(
        self: Any,
        x: Tensor,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
        query: Tensor,
    ) -> Tensor:
        time, batch, channels = x.shape
        taps, heads = self.kernel_size, self.num_heads
        cuts_logits = time < taps and self.padding_l == taps - 1 and self.weight_softmax
        if incremental_state is not None or self.renorm_padding or not cuts_logits:
            return self._forward_unfolded_by_fairseq(x, incremental_state, query)
        if self.in_proj:
            projected = self.weight_linear(x)
            x = projected[:, :, :channels].contiguous()
            logits = projected[:, :, channels:]
        else:
            logits = self.weight_linear(query)
        # fairseq narrows the kernel to its last T taps before this softmax.
        kernel = logits.reshape(time * batch * heads, taps, 1).softmax(1)
        kernel = self.weight_dropout_module(kernel, inplace=False)
        windows = unfold1d(x, taps, self.padding_l, 0.0)
        windows = windows.reshape(time * batch * heads, channels // heads, taps)
        return windows.bmm(kernel).view(time, batch, channels)

    for layer in (DynamicConv1dTBC, DynamicConv_scripatable):
        original: Any = layer._forward_unfolded
        original.__name__ = "_forward_unfolded_by_fairseq"  # TorchScript looks it up by this
        setattr(layer, original.__name__, original)
        layer._forward_unfolded = _forward_unfolded
