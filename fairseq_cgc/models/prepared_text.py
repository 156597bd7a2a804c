"""``--tokenizer prepared``: raw text is prepared as the text of the data folder was."""

# fairseq makes options from the annotations below: they must be types, not strings.
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from fairseq import utils
from fairseq.data.encoders import register_tokenizer
from fairseq.dataclass import FairseqDataclass
from omegaconf import II


@dataclass
class PreparedTextConfig(FairseqDataclass):
    """Options that are the task's; the tokenizer has none of its own."""

    data: str = II("task.data")
    source_lang: Optional[str] = II("task.source_lang")  # noqa: UP045 (fairseq reads the type)
    target_lang: Optional[str] = II("task.target_lang")  # noqa: UP045


@register_tokenizer("prepared", dataclass=PreparedTextConfig)
class PreparedText:
    """The steps that ``preparation.json`` describes: lower case, tokens and subwords.

    Args:
        cfg: the task's data folder and languages.

    Raises:
        UserError: if the folder has no description, or one of other languages.
    """

    def __init__(self, cfg: PreparedTextConfig) -> None:
        # Not at the top: fairseq-train imports this file too, and needs no subword models.
        from fairseq_cgc.inference.text.pipeline import TextPipeline, find_pipeline

        folder = Path(utils.split_paths(cfg.data)[0])
        pipeline = None
        if cfg.source_lang is not None and cfg.target_lang is not None:
            pipeline = find_pipeline(folder, (cfg.source_lang, cfg.target_lang))
        pipeline = pipeline or TextPipeline.load(folder)  # says what is missing
        self._encode = pipeline.encoder(pipeline.source_lang)
        self._decode = pipeline.decoder()

    def encode(self, x: str) -> str:
        """A raw line of the source language to subwords."""
        return self._encode(x)

    def decode(self, x: str) -> str:
        """Subwords or tokens of the target language to plain text."""
        return self._decode(x)
