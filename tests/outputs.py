"""Made-up references and translations of them with more or fewer errors."""

from __future__ import annotations

import random

WORDS = [
    *("the", "a", "dog", "cat", "man", "woman", "runs", "sees", "on", "under", "red", "green"),
    *("house", "tree", "quickly", "often"),
]


def noisy(references: list[str], errors: float, seed: int) -> list[str]:
    """The references with that share of their words replaced."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < errors else word for word in line.split())
        for line in references
    ]


def sentences(number: int, seed: int = 0) -> list[str]:
    """Lines of 4 to 14 words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 14))) for _ in range(number)]
