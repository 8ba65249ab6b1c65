"""The check of sources, claims and disagreements: nothing they name is missing, every flag and number says whence."""

from __future__ import annotations

import re
from collections.abc import Collection

from trimpot.knobs.library import Library
from trimpot.knobs.schema import Claim

_DIGIT = re.compile(r"\d")


def check_sources(library: Library) -> list[str]:
    """Sources whose flag, address or place in the list says too little.

    A source of the reading list has a claim, or says why none is taken from it.
    """
    problems = []
    cited = {claim.source for claim in library.claims.values()}
    for source in library.sources.values():
        where = f"source {source.key}"
        if source.flag != "none" and not source.meant:
            problems.append(f"{where}: is {source.flag}, but does not say what was meant")
        if source.flag == "moved" and source.right_address is None:
            problems.append(f"{where}: is moved, but does not say where to")
        if source.flag == "none" and source.right_address is not None:
            problems.append(f"{where}: has a right address, but no flag")
        if source.reading_list is not None and source.key not in cited and not source.no_claims:
            problems.append(f"{where}: is on the list, has no claim and does not say why")
        if source.key in cited and source.no_claims:
            problems.append(f"{where}: says why it has no claim, but has one")
    return problems


def check_claims(library: Library, studies: Collection[str], margins: Collection[str] = ()) -> list[str]:
    """Claims that name what there is not, or what contradicts itself.

    ``margins``: the claims of equality for which a study says what counts as equal.
    """
    problems = []
    shown = {name: card.path for card in library.cards.values() for name in card.claims}
    for claim in library.claims.values():
        where = f"claim {claim.id}"
        problems += citation(f"{where}: source", claim.source, library)
        problems += _tests(claim, studies, margins)
        problems += _knob(where, claim.knob, library)
        if claim.id in shown and claim.knob != shown[claim.id]:
            problems.append(f"{where}: is on the card {shown[claim.id]}, but its knob is {claim.knob!r}")
        if (_DIGIT.search(claim.statement) or claim.number is not None) and not claim.place.strip():
            problems.append(f"{where}: has a number without a place")
        if not claim.condition.strip():
            problems.append(f"{where}: has no condition; write that the source gives none")
    return problems


def check_disagreements(library: Library, studies: Collection[str]) -> list[str]:
    """Disagreements whose sides, knob or study there are not."""
    problems = []
    for one in library.disagreements.values():
        where = f"disagreement {one.id}"
        problems += _knob(where, one.knob, library)
        if one.study is not None and one.study not in studies:
            problems.append(f"{where}: study {one.study!r} is unknown")
        if not one.decides.strip():
            problems.append(f"{where}: does not say what decides")
        for number, side in enumerate(one.sides):
            place = f"{where}: sides[{number}]"
            if side.claim is not None and side.claim not in library.claims:
                problems.append(f"{place}: claim {side.claim!r} is unknown")
            if side.source is not None:
                problems += citation(f"{place}: source", side.source, library)
    return problems


def citation(where: str, key: str, library: Library) -> list[str]:
    """A source that is unknown, or a dead link: nothing right is known to stand anywhere."""
    source = library.sources.get(key)
    if source is None:
        return [f"{where} {key!r} is unknown"]
    return [f"{where} {key!r} is a dead link ({source.really})"] if source.unreachable else []


def _tests(claim: Claim, studies: Collection[str], margins: Collection[str]) -> list[str]:
    where = f"claim {claim.id}"
    problems = []
    if claim.untestable is not None and not claim.untestable.strip():
        problems.append(f"{where}: is untestable, but names nothing that is missing")
    if claim.study is None:
        return problems + ([f"{where}: names further studies, but no first one"] if claim.also else [])
    problems += [f"{where}: study {study!r} is unknown" for study in claim.studies if study not in studies]
    if claim.untestable is not None:
        problems.append(f"{where}: names a study and a reason why none can test it")
    if claim.direction == "equal" and claim.id not in margins:
        # That no effect was found is not that there is none: without a margin nothing can be confirmed.
        problems.append(f"{where}: says equal, and no study says within which margin")
    return problems


def _knob(where: str, path: str | None, library: Library) -> list[str]:
    return [f"{where}: card {path!r} is unknown"] if path is not None and path not in library.cards else []
