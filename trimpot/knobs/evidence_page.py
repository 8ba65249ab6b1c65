"""The page docs/evidence.md, made from the evidence files that come with trimpot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from trimpot.knobs.evidence import SHIPPED, ClaimTest, Evidence, Verdict, read_evidence
from trimpot.knobs.library import Library
from trimpot.knobs.markdown import anchor, sections, source_link, table
from trimpot.knobs.noise import floor, of_mean_difference
from trimpot.knobs.text import estimate_text

FOLDER = "../trimpot/knobs/data/evidence"
"""The evidence as seen from docs/."""

NOISE = "label-noise-floor"
"""The study that runs recipes again without a change."""

FAMILIES = {"sft": "SFT", "preference": "DPO", "policy_gradient": "GRPO"}
"""Stage of a recipe -> the family of training under which that study has its noise."""

Floors = Mapping[str, Mapping[str, float]]
"""Family -> metric -> standard deviation between runs of one recipe."""

INTRODUCTION = """# Evidence

Made by `python tools/evidence_page.py` from `trimpot/knobs/data/evidence`; do not edit it.

What the studies that come with trimpot measured. Question, arms, seeds, decision rule and code of a study are hashed
and written down before its first run; every claim it tests is listed here, whatever came out. A verdict holds for the
model and scale it was reached on. p is Holm's over the study's tests; of a claim of equality, that of two one-sided
tests. "Could see" is the effect that the study finds with probability 0.8: an inconclusive verdict does not say that
there is no smaller one. The control is a pair of arms that differ in nothing that matters. "Noise" is how far a
difference of two arms strays over as many seeds when nothing differs, by the study label-noise-floor, whose recipes are
not the study's own. `trimpot card --check` finds files that were changed, and verdicts that do not follow from their
runs.
"""


def evidence_page(library: Library, shipped: Path = SHIPPED) -> str:
    """The page as markdown; a part for each evidence file in ``shipped``.

    Raises:
        UsageError: a file was changed after it was written, or is no evidence.
    """
    found = [read_evidence(file) for file in sorted(shipped.glob("*.json"))]
    floors = next((_floors(one) for one in found if one.study == NOISE), {})
    parts = [_study(one, library, shipped, floors) for one in found]
    return sections(INTRODUCTION, _overview(found), _rules(found), *parts)


def _overview(found: Sequence[Evidence]) -> str:
    verdicts: tuple[Verdict, ...] = get_args(Verdict)
    rows = []
    for one in found:
        counts = Counter(tested.verdict for tested in one.tested.values())
        cells = [str(counts[word]) if one.tested else "" for word in verdicts]
        link, under = f"[{one.study}](#{anchor(one.study)})", one.conditions
        rows.append((link, one.question, under.model, *cells, str(len(one.seeds)), _minutes(under.seconds)))
    all_of = Counter(tested.verdict for one in found for tested in one.tested.values())
    counted = ", ".join(f"{all_of[word]} {word}" for word in verdicts)
    heads = ("Study", "Question", "Model", *(word.capitalize() for word in verdicts), "Seeds", "Computing")
    return sections(f"Studies: {len(found)}; of their tests {counted}.", table(heads, rows))


def _rules(found: Sequence[Evidence]) -> str:
    """The decision rules in force, each with the studies that were decided by it."""
    by_rule: dict[str, list[str]] = {}
    for one in found:
        if one.plan is not None and one.tested:
            by_rule.setdefault(str(one.plan["rule"]), []).append(one.study)
    lines = [f"> {rule}\n>\n> ({', '.join(names)})" for rule, names in by_rule.items()]
    return sections("The decision rule:", *lines) if lines else ""


def _study(evidence: Evidence, library: Library, shipped: Path, floors: Floors) -> str:
    parts = [f"## {evidence.study}", evidence.question, _conditions(evidence), _verdicts(evidence, library, floors)]
    if evidence.study == NOISE:
        parts.append(_floor_table(floors))
    chart = shipped / f"{evidence.study}.svg"
    if chart.exists():
        parts.append(f"![{evidence.question}]({FOLDER}/{chart.name})")
    return sections(*parts, _tuning(evidence), _arms(evidence))


def _conditions(evidence: Evidence) -> str:
    under, machine = evidence.conditions, evidence.conditions.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items() if version)
    memory = machine.get("memory_bytes")
    settings = {name: value for name, value in under.settings.items() if name != "code"}
    plan = evidence.plan_hash + ("" if evidence.plan is not None else " (not kept in the file)")
    command = f"trimpot study {evidence.study} --budget {under.budget} --seeds {len(evidence.seeds)}"
    rows = [
        ("Model and scale", f"{under.model}: {under.scale}"),
        ("Arms and seeds", f"{len(evidence.arms)} arms, {len(evidence.seeds)} seeds: {_ranges(evidence.seeds)}"),
        ("Settings", _pairs(settings) or "none"),
        ("Budget", f"{under.budget}: {under.seconds:.0f} s of computing, runs one after the other"),
        ("Hypothesis", f"plan {plan}, code {under.settings.get('code', 'unknown')}, written before the first run"),
        (
            "Machine",
            f"{machine.get('processor')}, {machine.get('cpu_count')} cores, "
            f"{'unknown memory' if memory is None else f'{memory / 1e9:.0f} GB'}; {machine.get('platform')}; "
            f"Python {machine.get('python')}; {versions}",
        ),
        ("Commit, date", f"{under.commit or 'unknown'}, {under.created}"),
        ("Failed runs", "; ".join(evidence.failed) or "none"),
        ("Run it again", f"`{command}`"),
    ]
    return table(("", ""), rows)


def _verdicts(evidence: Evidence, library: Library, floors: Floors) -> str:
    if not evidence.tested:
        return "It tests no claim; what it counts is in [detectors](detectors.md)."
    planned = {} if evidence.plan is None else evidence.plan["claims"]
    rows = [
        (*_verdict(name, tested, library), _noise(name, evidence, library, floors), _refuted_by(planned.get(name)))
        for name, tested in evidence.tested.items()
    ]
    heads = ("Verdict", "Claim", "Quantity", "Mean over seeds", "p", "Could see", "Noise", "Refuted by")
    return sections(table(heads, rows), _control(evidence))


def _verdict(name: str, tested: ClaimTest, library: Library) -> Sequence[str]:
    claim = library.claims.get(name)
    source = "" if claim is None else f" ({source_link(claim.source, library)})"
    today = claim is not None and claim.statement == tested.statement
    stale = "" if today else " *(other words than the claim's today)*"
    margin = "" if tested.margin is None else f", equal within ±{tested.margin:g}"
    return (
        f"**{tested.verdict}**",
        f"{tested.statement}{source} `{name}`{stale}",
        tested.quantity,
        estimate_text(tested.effect) + margin,
        "" if tested.p_value is None else f"{tested.p_value:.2g}",
        "" if tested.smallest_effect is None else f"{tested.smallest_effect:.2g}",
    )


def _refuted_by(planned: Mapping[str, Any] | None) -> str:
    return "" if planned is None else str(planned.get("refuted_by", ""))


def _floors(evidence: Evidence) -> Floors:
    """How far each metric strays between runs of one recipe, by the family of training that its arms name."""
    families = dict.fromkeys(str(knobs["family"]) for knobs in evidence.arms.values() if "family" in knobs)
    return {family: floor(evidence, {"family": family}) for family in families}


def _floor_table(floors: Floors) -> str:
    metrics = list(dict.fromkeys(name for by in floors.values() for name in by))
    rows = [(family, *(_number(by.get(name)) for name in metrics)) for family, by in floors.items()]
    text = "The noise floor, the standard deviation between runs of one recipe on one base model:"
    return sections(text, table(("Training", *(f"`{name}`" for name in metrics)), rows))


def _noise(name: str, evidence: Evidence, library: Library, floors: Floors) -> str:
    """How far the claim's difference would stray over as many seeds if nothing differed; nothing where none is known.

    It is known for a plain difference of two arms, in a metric of the noise floor, of a knob of one kind of training.
    """
    claim = library.claims.get(name)
    card = None if claim is None or claim.knob is None else library.cards.get(claim.knob)
    if evidence.plan is None or card is None:
        return ""
    test = evidence.plan["tests"][evidence.plan["claims"][name]["test"]]
    deviation = floors.get(FAMILIES.get(card.recipe.partition(".")[0], ""), {}).get(test.get("metric"))
    if test["kind"] != "difference" or test["log"] or deviation is None:
        return ""
    return f"{of_mean_difference(deviation, len(evidence.seeds)):.2g}"


def _control(evidence: Evidence) -> str:
    control = evidence.control
    if control is None:
        return "Control: none."
    word = "not told from 0, as it must be" if control.passed else "**told from 0, so that no verdict counts**"
    effect = f"{estimate_text(control.effect)} ({control.effect.level:.0%} interval)"
    return f"Control: {control.quantity}: {effect}, {word}."


def _tuning(evidence: Evidence) -> str:
    if not evidence.tuned:
        return "Tuning: none; every arm has the settings above." if evidence.tested else ""
    tuning = {} if evidence.plan is None else evidence.plan.get("tuning") or {}
    knob, metric = tuning.get("knob", "the knob"), tuning.get("metric", "the metric")
    seeds = _ranges(tuple(tuning.get("seeds", ())))
    text = (
        f"Tuning: every arm tried every value of `{knob}` on the seeds {seeds}, which are not counted, and kept "
        f"the one with the {'lowest' if tuning.get('lowest') else 'highest'} mean `{metric}`."
    )
    tried = list(dict.fromkeys(value for one in evidence.tuned.values() for value in one["tried"]))
    rows = [
        (arm, _value(one["chosen"]), *(_number(one["tried"].get(value)) for value in tried))
        for arm, one in evidence.tuned.items()
    ]
    return sections(text, table(("Arm", "Chosen", *(f"{metric} at {value}" for value in tried)), rows))


def _arms(evidence: Evidence) -> str:
    """The arms with their knobs and the mean of every metric over the seeds that gave one."""
    if not evidence.tested:
        return ""
    metrics = list(dict.fromkeys(name for by in evidence.results.values() for one in by.values() for name in one))
    rows = []
    for arm, knobs in evidence.arms.items():
        runs = list(evidence.results.get(arm, {}).values())
        means = [_mean([run[name] for run in runs if name in run]) for name in metrics]
        rows.append((arm, _pairs(knobs), str(len(runs)), *(_number(mean) for mean in means)))
    heads = ("Arm", "Knobs", "Runs", *(f"`{name}`" for name in metrics))
    opening = "<details>\n<summary>Arms, and means over seeds</summary>"
    return sections(opening, table(heads, rows), "</details>")


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_pairs(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _ranges(seeds: Sequence[int]) -> str:
    """Seeds as first–last where they count up by one."""
    found: list[list[int]] = []
    for seed in seeds:
        if found and seed == found[-1][-1] + 1:
            found[-1].append(seed)
        else:
            found.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in found)
