"""The commands source and claim: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from trimpot.cli.knobs import print_json, print_lines

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def source(
    key: Annotated[str | None, typer.Argument(help="The source, such as gns; without it all sources by topic.")] = None,
    json: Json = False,
) -> None:
    """A source: what it really is, how that was verified, and the knobs, claims and studies that go back to it."""
    from trimpot.knobs.own import known_library
    from trimpot.knobs.source_text import source_json, source_lines, source_list, sources_json

    known = known_library()
    if key is None:
        if json:
            print_json(sources_json(known))
        else:
            print_lines(source_list(known))
        return
    chosen = known.source(key)
    if json:
        print_json(source_json(chosen, known))
    else:
        print_lines(source_lines(chosen, known))


def claim(
    id: Annotated[str | None, typer.Argument(help="The claim; without it all claims with their status.")] = None,
    disagreements: Annotated[
        bool, typer.Option("--disagreements", help="Where sources contradict each other, and what decides.")
    ] = False,
    json: Json = False,
) -> None:
    """A claim: who says so and where, under which condition, and what evidence says of it."""
    from trimpot.knobs.claim_text import claim_json, claim_lines
    from trimpot.knobs.own import known_library
    from trimpot.knobs.status import claim_statuses

    known = known_library()
    if disagreements:
        _disagreements(id, json)
    elif id is None:
        _all_claims(json)
    else:
        statuses = claim_statuses([known.claim(id).id], known)
        if json:
            print_json(claim_json(statuses, known))
        else:
            print_lines(claim_lines(statuses, known))


def _all_claims(json: bool) -> None:
    from trimpot.knobs.claim_text import claim_json, claim_line, disagreement_json
    from trimpot.knobs.own import known_library
    from trimpot.knobs.status import WORDS, claim_statuses
    from trimpot.knobs.text import by_claim

    known = known_library()
    grouped = by_claim(claim_statuses(known.claims, known))
    words = [one[0].word for one in grouped]
    counts = {word: words.count(word) for word in WORDS}
    if json:
        print_json(
            {
                "claims": [claim_json(one, known) for one in grouped],
                "statuses": counts,
                "disagreements": [disagreement_json(one, known) for one in known.disagreements.values()],
            }
        )
    else:
        own = [one for one in grouped if known.is_yours("claim", one[0].claim.id)]
        print_lines([claim_line(one) for one in grouped if one not in own])
        print_lines([*([("Yours", "")] if own else []), *(claim_line(one) for one in own)])
        print_lines([(f"{len(grouped)} claims:", ", ".join(f"{count} {word}" for word, count in counts.items()))])


def _disagreements(id: str | None, json: bool) -> None:
    """All disagreements, or those that have the claim on a side."""
    from trimpot.knobs.claim_text import disagreement_json, disagreement_lines, disagreements_of
    from trimpot.knobs.own import known_library

    known = known_library()
    chosen = list(known.disagreements.values()) if id is None else disagreements_of(known.claim(id).id, known)
    if json:
        print_json({"disagreements": [disagreement_json(one, known) for one in chosen]})
    elif not chosen:
        print_lines([(f"{id}:", "is on no side of a disagreement")])
    else:
        print_lines([line for one in chosen for line in disagreement_lines(one, known)])
