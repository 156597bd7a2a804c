"""The tables of words; comments at the head of each say what its columns mean."""

from __future__ import annotations

import csv
from pathlib import Path


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of ``NAME.tsv`` by column; ``#`` begins a comment, ``-`` is an empty cell."""
    lines = Path(__file__).with_name(f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    return [{column: "" if cell == "-" else cell for column, cell in row.items()} for row in rows]
