"""A small release in the layout of Multi30k with BPE, for tests of whole experiments."""

from __future__ import annotations

import random
from pathlib import Path

from fairseq_cgc.inference.text.subwords import Subwords, learn

WORDS = {"hund": "dog", "mann": "man", "ball": "ball", "stuhl": "chair", "sieht": "sees"}


def write_release(folder: Path) -> Path:
    """Tokens split into subwords, 240 + 20 + 21 pairs, and the code."""
    folder.mkdir(parents=True)
    draw = random.Random(1)
    tokens: dict[str, list[str]] = {}
    for name, number in (("train", 240), ("valid", 20), ("test.2016", 21)):
        sentences = [draw.choices(list(WORDS), k=draw.randint(2, 6)) for _ in range(number)]
        tokens[f"{name}.de"] = [" ".join([*words, "."]) for words in sentences]
        tokens[f"{name}.en"] = [" ".join([*map(WORDS.get, words), "."]) for words in sentences]
    for name, lines in tokens.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    learn("subword_nmt", [folder / "train.de", folder / "train.en"], 12, folder / "code")
    encode = Subwords.load(folder / "code").encode
    for name, lines in tokens.items():
        text = "".join(encode(line) + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
