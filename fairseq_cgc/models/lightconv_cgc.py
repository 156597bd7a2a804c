"""LightConv with a context-gated encoder (paper, section 4.4; Table 6)."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from fairseq import utils
from fairseq.models import register_model, register_model_architecture
from fairseq.models.lightconv import Embedding, LightConvEncoder, LightConvModel
from fairseq.modules import FairseqDropout
from omegaconf import DictConfig
from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.core.lightconv import fold_constant_gates
from fairseq_cgc.inference.precision import precision_from_environment, set_precision
from fairseq_cgc.models.beam_state import EncoderOut, reorder_lazily
from fairseq_cgc.models.config import (
    LightConvCGCConfig,
    add_arguments,
    architecture_values,
    architectures,
    resolve,
)
from fairseq_cgc.models.decoder import LightConvCGCDecoder
from fairseq_cgc.models.layers import LightConvCGCEncoderLayer, use_fast_dropout
from fairseq_cgc.models.weights import check_state, load_lightconv


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
        """Note which rows are wanted, for :class:`LightConvCGCDecoder`; see the function."""
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
