"""Imports point downwards: from what people do to the method, never back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fairseq_cgc"
#: From the top of the house to its ground; a room imports from the rooms below it and from itself.
ROOMS = [
    "__main__", "commands", "demo", "analysis", "mt", "video", "vision", "models", "compat",
    "inference", "core", "support", "__init__", "_user_dir",
]  # fmt: skip
#: Within mt, the stages of an experiment.
STAGES = ["reproduce", "evaluate", "train", "prepare", "fairseq_commands"]
#: Rooms that must not load fairseq, whoever imports them.
WITHOUT_FAIRSEQ = [
    "__init__",
    "_user_dir",
    "_user_dir",
    "support",
    "core",
    "inference",
    "vision",
    "video",
]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> Iterator[tuple[Path, list[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        yield path, parts


def test_every_room_is_known():
    assert {parts[0] for _, parts in modules()} == set(ROOMS)


@pytest.mark.parametrize("order, depth", [(ROOMS, 0), (STAGES, 1)], ids=["rooms", "stages of mt"])
def test_imports_point_downwards(order, depth):
    prefix = ["fairseq_cgc", "mt"][: depth + 1]
    wrong = []
    for path, parts in modules():
        if parts[:depth] != prefix[1:] or parts[depth] not in order:
            continue
        for name in imports(path):
            imported = name.split(".")
            if imported[: depth + 1] != prefix or len(imported) < depth + 2:
                continue
            room = imported[depth + 1]
            if room in order and order.index(room) < order.index(parts[depth]):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_only_rooms_that_need_fairseq_name_it():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, parts in modules()
        if parts[0] in WITHOUT_FAIRSEQ
        for name in imports(path)
        if name.split(".")[0] in ("fairseq", "fairseq_cli")
    ]
    assert wrong == []
