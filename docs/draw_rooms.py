"""Draw docs/images/rooms.svg: the rooms of the package, from the imports of its modules.

    python docs/draw_rooms.py

A room is a folder of fairseq_cgc, or of fairseq_cgc/mt. An arrow points from the room that imports
to the room that is imported. Arrows that follow from others are left out.
"""

from __future__ import annotations

import ast
from collections import Counter
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from svg import Picture

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "images" / "rooms.svg"
_WIDTH, _ROW = 980, 92
_BOX = (130, 40)
_COLOURS = {"core": "#ffe8cc", "models": "#ddf4ff", "compat": "#ddf4ff"}


def room_of(name: str, root: Path = ROOT) -> str | None:
    """The room of a module, by its dotted name: ``fairseq_cgc.mt.train.training`` -> ``mt/train``.

    ``None`` for modules outside the package, and for those directly in ``fairseq_cgc`` or ``mt``.
    """
    package, *parts = name.split(".")
    room = "/".join(parts[: 2 if parts[:1] == ["mt"] else 1])
    is_room = package == "fairseq_cgc" and room not in ("", "mt")
    return room if is_room and (root / package / room).is_dir() else None


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Room -> the other rooms that its modules import, at the top or within functions."""
    found: dict[str, set[str]] = {}
    for path in sorted((root / "fairseq_cgc").rglob("*.py")):
        room = room_of(".".join(path.relative_to(root).with_suffix("").parts), root)
        if room is None:
            continue
        used = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            used |= {
                imported for name in names if (imported := room_of(name, root)) not in (None, room)
            }
    return found


def levels(rooms: dict[str, set[str]]) -> dict[str, int]:
    """Room -> its height: 0 at the bottom, and one more than everything that it imports.

    Raises:
        CycleError: if rooms import each other.
    """
    heights: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        heights[room] = 1 + max((heights[used] for used in rooms.get(room, ())), default=-1)
    return heights


def direct(rooms: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports without those that a path through other rooms implies."""

    def below(room: str) -> set[str]:
        return set().union(*({used} | below(used) for used in rooms.get(room, ())))

    return {
        room: {u for u in used if not any(u in below(other) for other in used - {u})}
        for room, used in rooms.items()
    }


def draw(rooms: dict[str, set[str]]) -> str:
    """The picture as SVG, with every room above the rooms that it imports."""
    heights = levels(rooms)
    rows = [
        sorted(room for room in heights if heights[room] == h)
        for h in range(max(heights.values()) + 1)
    ]
    middle: dict[str, float] = {}
    edges = direct(rooms)
    for row in rows:  # from the bottom: each room goes above the middle of what it imports
        row.sort(key=lambda room: fmean(middle[u] for u in edges[room]) if edges[room] else 0)
        for place, room in enumerate(row):
            middle[room] = _WIDTH * (place + 0.5) / len(row)
    picture = Picture(_WIDTH, _ROW * len(rows) + 10, "Rooms of fairseq_cgc and what they import")

    def y(room: str) -> float:
        return _ROW * (len(rows) - heights[room] - 0.5) + 5

    lanes: Counter[tuple[str, float]] = Counter()
    for room, used in edges.items():
        for target in sorted(used):
            points = [(middle[room], y(room) + _BOX[1] / 2)]
            for row in rows[heights[target] + 1 : heights[room]][::-1]:  # through a gap of each row
                places = [-_BOX[0] / 2, *(middle[other] for other in row), _WIDTH + _BOX[0] / 2]
                gaps = [(left + right) / 2 for left, right in pairwise(places)]
                x = min(gaps, key=lambda gap: abs(gap - points[-1][0]) + abs(gap - middle[target]))
                lanes[row[0], x] += 1
                x += 14 * (lanes[row[0], x] - 1)  # beside earlier arrows through the same gap
                points += [(x, y(row[0]) + sign * _BOX[1] / 2) for sign in (-1, 1)]
            picture.arrow([*points, (middle[target], y(target) - _BOX[1] / 2)])
    for room in sorted(heights):
        picture.box(middle[room], y(room), *_BOX, [room], _COLOURS.get(room, "#f6f8fa"))
    return str(picture)


if __name__ == "__main__":
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(draw(imports()), encoding="utf-8")
    print(OUTPUT)
