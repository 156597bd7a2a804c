"""Small translation models as fairseq-train builds them, untrained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.translation import TranslationTask
from tools import padding_mask
from torch import Tensor, nn

import fairseq_cgc.models  # noqa: F401  (registers the architectures)

LIGHTWEIGHT = ["--encoder-conv-type", "lightweight", "--decoder-conv-type", "lightweight"]
TINY = ["--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16"]
TINY += ["--decoder-ffn-embed-dim", "16", "--decoder-embed-dim", "16"]


def dictionary(words: int) -> Dictionary:
    symbols = Dictionary()
    for i in range(words - len(symbols)):
        symbols.add_symbol(f"w{i}")
    return symbols


def parse(arch: str, *arguments: str, data: str = "DATA") -> Any:
    """What fairseq-train makes of a command line."""
    args = options.parse_args_and_arch(
        options.get_training_parser(), [data, "--arch", arch, *arguments]
    )
    return convert_namespace_to_omegaconf(args)


def build(arch: str, *arguments: str, source: int = 30, target: int = 20) -> nn.Module:
    cfg = parse(arch, *arguments)
    task = TranslationTask(cfg.task, dictionary(source), dictionary(target))
    torch.manual_seed(1)
    return task.build_model(cfg.model)


def save(model: nn.Module, path: Path) -> str:
    args = argparse.Namespace(arch="lightconv")
    torch.save({"args": args, "model": model.state_dict()}, path)
    return str(path)


def encode_twice(model: nn.Module) -> list[Tensor]:
    """The encoder's output for two random seeds, sentences padded and without padding."""
    outputs = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        for lengths in ([9, 5], [9, 9]):
            tokens = (
                torch.arange(18).view(2, 9).add(4).masked_fill(padding_mask(lengths, "left"), 1)
            )
            x = model.encoder(tokens, torch.tensor(lengths))["encoder_out"][0]
            outputs.append(x.masked_fill(tokens.eq(1).t().unsqueeze(2), 0))
    return outputs
