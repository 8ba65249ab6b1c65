"""Pieces of the pages in docs/: tables, anchors, links to sources, and the words of a claim's status."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from trimpot.knobs.evidence import SHIPPED
from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim, Source, Statement
from trimpot.knobs.status import Status, claim_statuses
from trimpot.knobs.text import by_claim, estimate_text


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar or a line's end inside a cell does not end it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def anchor(heading: str) -> str:
    """The address of a heading on its page, as GitHub makes it: lower case, hyphens for spaces, no other marks."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def source_link(key: str, library: Library) -> str:
    """The source's key, linked to where it stands, if that is known."""
    address = address_of(library.sources[key])
    return key if address is None else f"[{key}]({address})"


def address_of(source: Source) -> str | None:
    """Where the source is to be read; None where nothing right is known to stand anywhere, or it is trimpot itself."""
    first, *_ = (source.right_address or source.address).split()
    return None if source.unreachable or "." not in first else f"https://{first}"


def statement_text(statement: Statement, library: Library) -> str:
    """The words, with the source or claim that their numbers come from."""
    if statement.source is not None:
        return f"{statement.text} ({source_link(statement.source, library)})"
    return statement.text if statement.claim is None else f"{statement.text} (`{statement.claim}`)"


def shipped_statuses(claims: Iterable[str], library: Library, shipped: Path = SHIPPED) -> list[list[Status]]:
    """The statuses of each claim by the evidence in ``shipped`` alone, whatever the user's own folder holds."""
    return by_claim(claim_statuses(claims, library, shipped, own=shipped / "nobody"))


def claim_text(claim: Claim, library: Library) -> str:
    """A claim with its source and its name."""
    return f"{claim.statement} ({source_link(claim.source, library)}) `{claim.id}`"


def tested_text(status: Status) -> str:
    """What one study measured of a claim, linked to the study's part of the page of evidence; nothing without one."""
    tested, evidence = status.tested, status.evidence
    if tested is None or evidence is None:
        return ""
    link = f"[{evidence.study}](evidence.md#{anchor(evidence.study)})"
    margin = "" if tested.margin is None else f", equal within ±{tested.margin:g}"
    seen = "" if tested.smallest_effect is None else f", could see {tested.smallest_effect:.2g}"
    seeds = f"{len(evidence.seeds)} seeds on {evidence.conditions.model}"
    return f"{tested.quantity}: {estimate_text(tested.effect)}{margin}; {seeds}{seen}; {link}"


def missing_text(claim: Claim) -> str:
    """Why a claim has no evidence."""
    if claim.untestable is not None:
        return claim.untestable
    return "no study yet" if claim.study is None else f"study {claim.study} has no evidence for these words"


def sections(*parts: str) -> str:
    """The parts that say something, with an empty line between them, as a whole page."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
