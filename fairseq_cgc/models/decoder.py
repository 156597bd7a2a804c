"""fairseq's LightConv decoder with a faster incremental step.

Parameters, training and teacher forcing are fairseq's, unless --decoder-gate adds gates. Only
incremental decoding is reimplemented; its results are the same. N is the rows of a step: S
sentences times the beam.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from fairseq.models.lightconv import LightConvDecoder
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from fairseq_cgc.models.beam_state import (
    EncoderOut,
    Generation,
    per_hypothesis,
    per_sentence,
)
from fairseq_cgc.models.config import NO_GATE
from fairseq_cgc.models.convolutions import add_source_gates
from fairseq_cgc.models.layers import LightConvCGCDecoderLayer

# Scores normalised at a time: 1 MiB, so that they stay in a core's cache.
_CHUNK = 2**18


class LightConvCGCDecoder(LightConvDecoder):
    """fairseq's LightConv decoder, faster in incremental decoding, with the same results.

    ``--decoder-gate source`` adds gates to its convolutions (``models/convolutions.py``).

    Args:
        args: resolved options.
        dictionary: the target dictionary.
        embed_tokens: the target embedding.
    """

    def __init__(self, args: Namespace, dictionary: Any, embed_tokens: nn.Embedding) -> None:
        super().__init__(args, dictionary, embed_tokens)
        # Built anew from fairseq's, which has drawn their values: with the same seed they are those
        # of LightConv, and so are the random numbers that follow.
        fairseqs: Any = self.layers
        with torch.random.fork_rng(devices=[]):
            self.layers: nn.ModuleList = nn.ModuleList(
                LightConvCGCDecoderLayer(args, number, plain, dictionary)
                for number, plain in enumerate(fairseqs)
            )
        if args.decoder_gate != NO_GATE:
            add_source_gates(self.layers, args)

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOut | None = None,
        incremental_state: dict[str, Any] | None = None,
        src_lengths: Any = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Decode; arguments and results are fairseq's.

        The scores are N x T x words, with T = 1 in incremental decoding.
        """
        if incremental_state is not None:
            if Generation.of(incremental_state) is not None:
                return self._step(prev_output_tokens, incremental_state)
            if encoder_out is not None and self._can_generate(incremental_state):
                return self._first_step(prev_output_tokens, encoder_out, incremental_state)
        if encoder_out is not None:
            encoder_out = per_hypothesis(encoder_out)
        return super().forward(prev_output_tokens, encoder_out, incremental_state)

    def _can_generate(self, incremental_state: dict[str, Any]) -> bool:
        """Whether a generation begins here, without gradients and without --retain-dropout."""
        dropouts = (module for module in self.modules() if isinstance(module, FairseqDropout))
        return (
            not incremental_state
            and not torch.is_grad_enabled()
            and not any(d.p > 0 and (d.training or d.apply_during_inference) for d in dropouts)
        )

    def _first_step(
        self, tokens: Tensor, encoder_out: EncoderOut, incremental_state: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        encoder_out, beam = per_sentence(encoder_out)
        rows = len(tokens)
        if beam > 1 and torch.equal(tokens, tokens[::beam].repeat_interleave(beam, 0)):
            tokens = tokens[::beam]  # one hypothesis of a sentence stands for all
        Generation(self.layers, encoder_out, len(tokens)).keep_in(incremental_state)
        scores, extra = self._step(tokens, incremental_state)
        if len(tokens) == rows:
            return scores, extra
        order = torch.arange(len(tokens), device=tokens.device).repeat_interleave(beam)
        self.reorder_incremental_state_scripting(incremental_state, order)
        attention = [None if a is None else a.index_select(0, order) for a in extra["attn"]]
        states = [state.index_select(1, order) for state in extra["inner_states"]]
        return scores.index_select(0, order), {**extra, "attn": attention, "inner_states": states}

    def _step(
        self, tokens: Tensor, incremental_state: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        generation = Generation.of(incremental_state)
        assert generation is not None
        generation.state.begin_step()
        scores, extra = super().forward(tokens, None, incremental_state)
        return scores, {**extra, "incremental": True}

    def reorder_incremental_state_scripting(
        self, incremental_state: dict[str, Any], new_order: Tensor
    ) -> None:
        """Reorder the hypotheses in place: row i continues what was row ``new_order[i]``."""
        generation = Generation.of(incremental_state)
        if generation is None:
            super().reorder_incremental_state_scripting(incremental_state, new_order)
        else:
            generation.reorder(new_order)

    def get_normalized_probs(
        self,
        net_output: tuple[Tensor, dict[str, Any] | None],
        log_probs: bool,
        sample: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """(Log-)probabilities of the words; arguments and result are fairseq's.

        On a CPU, the log-probabilities of a step replace its scores in place: fresh memory for
        N x words numbers costs more than the log-softmax itself.
        """
        scores, extra = net_output[:2]
        if not (
            log_probs
            and extra is not None
            and extra.get("incremental")
            and self.adaptive_softmax is None
            and not torch.is_grad_enabled()
            and scores.device.type == "cpu"
            and scores.dtype == torch.float32
            and scores.numel() > _CHUNK
        ):
            return super().get_normalized_probs(net_output, log_probs, sample)
        for chunk in scores.split(max(1, _CHUNK // scores[0].numel())):
            chunk.copy_(chunk.log_softmax(-1))
        return scores
