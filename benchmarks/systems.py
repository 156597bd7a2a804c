"""The systems of Table 6 at full size and tiny, on batches of IWSLT'14's lengths."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fairseq import options, tasks
from fairseq.data import data_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from torch import Tensor

import fairseq_cgc.models  # noqa: F401  (registers the architectures)
from fairseq_cgc.mt.reproduce.protocol import load_protocol
from fairseq_cgc.mt.reproduce.systems import system_options

#: Model -> its protocol.
PROTOCOLS = {"iwslt14": "iwslt14_de_en", "tiny": "multi30k"}
#: Device -> models.
MODELS = {"cpu": ("iwslt14", "tiny"), "cuda": ("iwslt14",)}
#: Model -> types in the dictionaries, including the four that fairseq adds. The tiny model
#: shares all embeddings.
TYPES = {"iwslt14": {"de": 8848, "en": 6632}, "tiny": {"de": 10_000, "en": 10_000}}
LENGTHS = Path(__file__).parent / "iwslt14_lengths.txt"
PAD, EOS, FIRST_WORD = 1, 2, 4


def build(
    system: str, *extra: str, model: str = "iwslt14", data: Path | None = None
) -> tuple[Any, Any, Any]:
    """The configuration, task and model of a system, untrained, with the same weights every time.

    Args:
        system: a key of ``fairseq_cgc.mt.reproduce.systems.SYSTEMS``.
        extra: further options of ``fairseq-train``.
        model: a key of :data:`PROTOCOLS`.
        data: folder with the dictionaries; by default they are made, of :data:`TYPES`.
    """
    protocol = load_protocol(PROTOCOLS[model])
    words = [str(data or _dictionaries(model)), *protocol.train_options, "--cpu"]
    words += [] if data else ["--source-lang", "de", "--target-lang", "en"]
    words += [*system_options(system, protocol), *extra]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(1)
    return cfg, task, task.build_model(cfg.model)


@cache
def _dictionaries(model: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    for language, size in TYPES[model].items():
        words = "".join(f"w{i} 1\n" for i in range(size - FIRST_WORD))
        (folder / f"dict.{language}.txt").write_text(words, encoding="utf-8")
    return folder


def batches(size: int, model: str = "iwslt14", *, unit: str = "tokens") -> list[dict[str, Any]]:
    """Batches that fairseq makes of sentence pairs with real lengths and random words.

    Args:
        size: the most that a batch may hold.
        model: a key of :data:`TYPES`.
        unit: of ``size``: "tokens" on the longer side, padding included, or "sentences".
    """
    lines = LENGTHS.read_text(encoding="utf-8").splitlines()
    pairs = [tuple(map(int, line.split())) for line in lines if not line.startswith("#")]
    order = sorted(range(len(pairs)), key=lambda i: pairs[i])
    rows = data_utils.batch_by_size(order, lambda i: max(pairs[i]), **{f"max_{unit}": size})
    generator = torch.Generator().manual_seed(1)
    return [_batch([pairs[i] for i in row], TYPES[model], generator) for row in rows]


def spread(samples: list[Any], count: int) -> list[Any]:
    """``count`` of the samples, spread evenly over their lengths; all if there are fewer."""
    step = max(1.0, len(samples) / count)
    return [samples[int((i + 0.5) * step)] for i in range(min(count, len(samples)))]


def _batch(pairs: list[Any], types: dict[str, int], generator: torch.Generator) -> dict[str, Any]:
    def words(language: str, lengths: list[int]) -> list[Tensor]:
        sentences = [
            torch.randint(FIRST_WORD, types[language], (length,), generator=generator)
            for length in lengths
        ]
        for sentence in sentences:
            sentence[-1] = EOS
        return sentences

    def collate(sentences: list[Tensor], **sides: bool) -> Tensor:
        return data_utils.collate_tokens(sentences, PAD, EOS, **sides)

    source = words("de", [pair[0] for pair in pairs])
    target = words("en", [pair[1] for pair in pairs])
    return {
        "id": torch.arange(len(pairs)),
        "nsentences": len(pairs),
        "ntokens": sum(pair[1] for pair in pairs),
        "net_input": {
            "src_tokens": collate(source, left_pad=True),
            "src_lengths": torch.tensor([pair[0] for pair in pairs]),
            "prev_output_tokens": collate(target, left_pad=False, move_eos_to_beginning=True),
        },
        "target": collate(target, left_pad=False),
    }
