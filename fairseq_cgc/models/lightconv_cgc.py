"""LightConv with a context-gated encoder (paper, section 4.4; Table 6)."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fairseq import utils
from fairseq.models import register_model, register_model_architecture
from fairseq.models.lightconv import (
    Embedding,
    LightConvEncoder,
    LightConvEncoderLayer,
    LightConvModel,
)
from fairseq.modules import FairseqDropout
from omegaconf import DictConfig
from torch import Tensor, nn

from fairseq_cgc.core import CGLightConv, LightConv, UserError
from fairseq_cgc.core.lightconv import fold_constant_gates
from fairseq_cgc.inference.precision import precision_from_environment, set_precision
from fairseq_cgc.models.beam_state import EncoderOut, reorder_lazily
from fairseq_cgc.models.config import (
    NO_GATE,
    LightConvCGCConfig,
    add_arguments,
    architecture_values,
    architectures,
    resolve,
)
from fairseq_cgc.models.decoder import LightConvCGCDecoder
from fairseq_cgc.models.dropout import use_fast_dropout
from fairseq_cgc.models.weights import check_state, load_lightconv

logger = logging.getLogger(__name__)


class LightConvCGCEncoderLayer(LightConvEncoderLayer):
    """fairseq's LightConv encoder layer with :class:`CGLightConv` as its convolution.

    With the gate target "none" the convolution is :class:`LightConv`, and the layer computes what
    fairseq's does.

    Args:
        args: resolved options.
        kernel_size: K, odd.
    """

    def __init__(self, args: Namespace, kernel_size: int) -> None:
        super().__init__(args, kernel_size)
        plain: Any = self.conv
        # The gates draw from a random stream of their own: with the same seed, everything
        # that LightConv has too starts from the same values as in LightConv.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, ())))
            self.conv: nn.Module = _convolution(args, kernel_size)
        self.conv.weight_dropout_module = plain.weight_dropout_module  # obeys --retain-dropout
        # fairseq's CUDA layer, where it was compiled, stores H x K.
        self.conv.weight = nn.Parameter(plain.weight.detach().view_as(self.conv.weight))

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None = None) -> Tensor:
        """Encode one layer.

        Args:
            x: T x B x C.
            encoder_padding_mask: B x T, True at padding.

        Returns:
            T x B x C.
        """
        convolve = partial(self._convolve, encoder_padding_mask=encoder_padding_mask)
        x = self._residual(x, self.layer_norm1, convolve)
        return self._residual(x, self.layer_norm2, self._feed_forward)

    def _residual(self, x: Tensor, norm: nn.Module, block: Callable[[Tensor], Tensor]) -> Tensor:
        if self.normalize_before:
            return x + self.dropout_module(block(norm(x)))
        return norm(x + self.dropout_module(block(x)))

    def _convolve(self, x: Tensor, encoder_padding_mask: Tensor | None) -> Tensor:
        x = self.linear1(self.input_dropout_module(x))
        if self.act is not None:
            x = self.act(x)
        return self.linear2(self.conv(x, encoder_padding_mask))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu_dropout_module(torch.relu(self.fc1(x))))


def _convolution(args: Namespace, kernel_size: int) -> LightConv:
    shape = (args.encoder_conv_dim, kernel_size, args.encoder_attention_heads)
    options = {"weight_dropout": args.weight_dropout, "weight_softmax": args.weight_softmax}
    if args.encoder_gate_target == NO_GATE:
        return LightConv(*shape, **options)
    return CGLightConv(
        *shape,
        gate_target=args.encoder_gate_target,
        gate_norm=args.encoder_gate_norm,
        **options,
    )


class LightConvCGCEncoder(LightConvEncoder):
    """fairseq's LightConv encoder over :class:`LightConvCGCEncoderLayer`.

    Args:
        args: resolved options.
        dictionary: the source dictionary.
        embed_tokens: the source embedding.
    """

    def __init__(self, args: Namespace, dictionary: Any, embed_tokens: nn.Embedding) -> None:
        super().__init__(Namespace(**{**vars(args), "encoder_layers": 0}), dictionary, embed_tokens)
        self.layers.extend(
            LightConvCGCEncoderLayer(args, size) for size in args.encoder_kernel_size_list
        )

    def reorder_encoder_out(self, encoder_out: EncoderOut, new_order: Tensor) -> EncoderOut:
        """Note the rows wanted; :class:`LightConvCGCDecoder` knows how to read it.

        Args:
            encoder_out: what ``forward`` or this method returned.
            new_order: rows of it, for instance every row as often as the beam is wide.

        Returns:
            The same tensors, and which rows of them are wanted.
        """
        return reorder_lazily(encoder_out, new_order)


@register_model("lightconv_cgc", dataclass=LightConvCGCConfig)
class LightConvCGCModel(LightConvModel):
    """LightConv whose encoder convolutions are gated by the whole source sentence.

    The decoder is fairseq's LightConv decoder: it produces words one by one, so a global context
    of the target is not defined there (section 4.4). Beyond the paper, ``--decoder-gate source``
    lets the source sentence gate its convolutions.

    Args:
        encoder: the :class:`LightConvCGCEncoder`.
        decoder: the :class:`LightConvCGCDecoder`.
    """

    def __init__(self, encoder: LightConvCGCEncoder, decoder: LightConvCGCDecoder) -> None:
        super().__init__(encoder, decoder)
        use_fast_dropout(self)
        for module in self.modules():
            # --retain-dropout-modules goes by the names of fairseq's classes.
            if isinstance(module, FairseqDropout) and module.module_name is not None:
                module.module_name = module.module_name.replace("LightConvCGC", "LightConv")

    @classmethod
    def hub_models(cls) -> dict[str, Any]:
        """No checkpoint of this model is published."""
        return {}

    @staticmethod
    def add_args(parser: Any) -> None:
        """Add the model's options to an argparse parser or group."""
        add_arguments(parser)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> LightConvCGCModel:
        """Build the model that the options describe.

        Args:
            cfg: a :class:`LightConvCGCConfig`, or a namespace with its attributes.
            task: the fairseq task; gives the dictionaries.

        Raises:
            UserError: for options that do not fit each other or the dictionaries.
        """
        args = resolve(cfg)
        source, target = task.source_dictionary, task.target_dictionary
        if args.share_all_embeddings and source != target:
            raise UserError(
                f"--share-all-embeddings needs a joined dictionary, but DATA has {len(source)} "
                f"source and {len(target)} target types that differ "
                "(fairseq-preprocess --joined-dictionary)"
            )
        source_embedding = _embedding(source, args.encoder_embed_dim, args.encoder_embed_path)
        target_embedding = (
            source_embedding
            if args.share_all_embeddings
            else _embedding(target, args.decoder_input_dim, args.decoder_embed_path)
        )
        encoder = LightConvCGCEncoder(args, source, source_embedding)
        model = cls(encoder, LightConvCGCDecoder(args, target, target_embedding))
        if args.init_from_lightconv:
            load_lightconv(model, args.init_from_lightconv)
        return model

    def prepare_for_inference_(self, cfg: DictConfig) -> None:
        """As fairseq; then the precision that FAIRSEQ_CGC_PRECISION asks for.

        Raises:
            UserError: if it asks for one that does not exist or does not run here.
        """
        super().prepare_for_inference_(cfg)
        set_precision(self, precision_from_environment())

    def load_state_dict(
        self,
        state_dict: dict[str, Tensor],
        strict: bool = True,
        model_cfg: Any = None,
        args: Any = None,
    ) -> Any:
        """Load a checkpoint's weights.

        Raises:
            UserError: if ``strict`` and the weights are of other dictionaries, another
                architecture, or a LightConv without gates.
        """
        fold_constant_gates(self, state_dict)
        if strict:
            check_state(self, state_dict)
        return super().load_state_dict(state_dict, strict, model_cfg, args)


def _embedding(dictionary: Any, width: int, path: str | None) -> nn.Embedding:
    embedding = Embedding(len(dictionary), width, dictionary.pad())
    if path:
        utils.load_embedding(utils.parse_embedding(path), dictionary, embedding)
    return embedding


def _register_architecture(name: str) -> None:
    @register_model_architecture("lightconv_cgc", name)
    def set_defaults(args: Namespace) -> None:
        for option, value in architecture_values(name).items():
            if not hasattr(args, option):
                setattr(args, option, value)


for _name in architectures():
    _register_architecture(_name)
