"""The table of who was tested with whom, as docs/interop.md shows it: made from what a run of the tests saw."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/interop.md"
ENCODINGS = ("json", "snappy-json", "protobuf", "snappy-protobuf", "thrift", "snappy-thrift")
"""Those that the wire format promises to everybody; others have no column of their own."""
ROLES = {"caller": "calls a worker of ours", "worker": "serves a proxy of ours"}
START, END = "<!-- made by make interop -->", "<!-- end -->"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One peer in one role and one encoding."""

    peer: str
    role: str
    encoding: str


def table(cells: Collection[Cell], notes: Mapping[str, str]) -> str:
    """The table in Markdown; notes tell why a peer lacks some cells."""
    lines = [f"| peer | | {' | '.join(ENCODINGS)} | besides |", f"|---|---|{':-:|' * len(ENCODINGS)}---|"]
    for peer in dict.fromkeys(cell.peer for cell in sorted(cells)):
        for role, title in ROLES.items():
            found = {cell.encoding for cell in cells if (cell.peer, cell.role) == (peer, role)}
            if not found:
                continue
            marks = ["✓" if encoding in found else "-" for encoding in ENCODINGS]
            besides = ", ".join(sorted(found - set(ENCODINGS)))
            lines.append(f"| {peer} | {title} | {' | '.join(marks)} | {besides} |")
    explained = [f"- {peer}: {note}" for peer, note in sorted(notes.items()) if note]
    return "\n".join([*lines, "", *explained])


def page_with(text: str, cells: Collection[Cell], notes: Mapping[str, str]) -> str:
    """The page with the table of these cells."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table(cells, notes)}\n\n{END}{after}"


def cells_of(text: str) -> set[Cell]:
    """The cells that a page shows."""
    roles = {title: role for role, title in ROLES.items()}
    found = set()
    for line in text.partition(START)[2].partition(END)[0].splitlines():
        columns = [column.strip() for column in line.strip("|").split("|")]
        if len(columns) == len(ENCODINGS) + 3 and columns[1] in roles:
            marked = [encoding for encoding, mark in zip(ENCODINGS, columns[2:-1], strict=True) if mark == "✓"]
            besides = [encoding for encoding in columns[-1].split(", ") if encoding]
            found |= {Cell(columns[0], roles[columns[1]], encoding) for encoding in [*marked, *besides]}
    return found
