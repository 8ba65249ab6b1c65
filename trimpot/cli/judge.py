"""The commands judge and raters: which answers are better, can the judge be believed, and do raters agree?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.bars import progress_bars
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimpot.evaluation.judges.duel import Judged
    from trimpot.evaluation.judges.judge import PairwiseJudge
    from trimpot.evaluation.judges.report import JudgeReport, JudgeSettings
    from trimpot.statistics.bradley_terry import Rating
    from trimpot.store.outcomes import Outcome

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
REWARD, LABELS = "reward:", "labels:"
WAYS = ("letter", "text", "written")
SHOWN = 20
"""Suspicious rows that are printed; --json has all."""


def judge(
    outcomes: Annotated[
        list[str], typer.Argument(metavar="A B …", help="Outcomes of two or more models: RUN/STAGE or a file.")
    ],
    judge: Annotated[str, typer.Option(help="A model, reward:FOLDER of a reward model, or labels:FILE of people.")],
    way: Annotated[
        str,
        typer.Option(help="How a model judges: letter (likelihood of A and B), text (the same without chat), written."),
    ] = "letter",
    repeats: Annotated[int, typer.Option(min=1, help="Times each question is asked: shows the judge's noise.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of written verdicts; 0 says the same each time.")] = 0.0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="probes=50, seed=0, length_limit=0.8 or difficulty=SLICE; repeatable."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the verdicts as outcomes, for compare.")] = None,
    json: Json = False,
) -> None:
    """Which model's answers are better: in both orders, with null baselines, and with length taken out."""
    from trimpot.evaluation.compare.files import outcomes_of
    from trimpot.evaluation.judges.report import JudgeSettings, judge_report, rate_models

    if len(outcomes) < 2:
        raise UsageError(
            "judge", f"{len(outcomes)} set of outcomes given", "Give two: trimpot judge A B --judge MODEL."
        )
    if len(set(outcomes)) < len(outcomes):
        raise UsageError("judge", "the same outcomes are given twice", "Give each model once.")
    chosen = _settings(JudgeSettings(draws=repeats), settings or ())
    read = {name: outcomes_of(name) for name in outcomes}
    paired = _paired(read)
    reports, duels = [], {}
    with _opened(judge, way, temperature) as found, progress_bars() as bars:
        for (a, b), pairs in paired.items():
            report, judged = judge_report(found, (a, b), pairs, chosen, bars(f"{a} and {b}"))
            # The null baselines are the judge's own: one pair of models is enough to ask.
            chosen = replace(chosen, probes=0)
            reports.append(report)
            duels[a, b] = judged
    reports = _same_faults(reports)
    ratings = rate_models(duels, chosen.seed) if len(outcomes) > 2 else []
    if output is not None:
        _write(output, reports, duels, read)
    if json:
        print_json({"reports": [one.as_dict() for one in reports], "ratings": [asdict(one) for one in ratings]})
    else:
        for report in reports:
            print_lines(_report_lines(report))
        print_lines(_rating_lines(ratings))
        print_lines([] if output is None else [("written:", str(output))])


def _settings(start: JudgeSettings, given: Sequence[str]) -> JudgeSettings:
    known = {one.name: one for one in fields(start) if one.name != "draws"}
    kinds: Mapping[str, type] = {"probes": int, "seed": int, "length_limit": float, "difficulty": str}
    values: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise UsageError(f"--set {text}", f"{name!r} is no setting of a judge", nearest(name, known))
        try:
            values[name] = kinds[name](value)
        except ValueError as error:
            problem = f"{value!r} is not a {'whole ' if kinds[name] is int else ''}number"
            raise UsageError(f"--set {name}", problem, f"Give {name}=NUMBER.") from error
    found = replace(start, **values)
    if found.probes < 0:
        raise UsageError("--set probes", f"is {found.probes}", "Give 0 or more.")
    if not 0.5 <= found.length_limit <= 1:
        raise UsageError("--set length_limit", f"is {found.length_limit:g}", "Give a share between 0.5 and 1.")
    return found


def _paired(read: Mapping[str, Sequence[Outcome]]) -> dict[tuple[str, str], Any]:
    from itertools import combinations

    from trimpot.evaluation.judges.pairs import pair_outcomes

    result = {}
    for a, b in combinations(read, 2):
        found = pair_outcomes(read[a], read[b], (a, b))
        result[a, b] = found.pairs
        left = ((found.only_a, f"only {a} has"), (found.only_b, f"only {b} has"), (found.empty, "have no text:"))
        texts = [f"{count} outcomes {why}" for count, why in left if count]
        if texts:
            typer.echo(f"left out: {'; '.join(texts)}", err=True)
    return result


@contextmanager
def _opened(name: str, way: str, temperature: float) -> Iterator[PairwiseJudge]:
    """The judge of a name; a model answers from the response cache what it was asked before."""
    from trimpot.evaluation.judges.labels import read_labels
    from trimpot.evaluation.judges.model_judge import LETTER_TEXT, JudgePrompt, LikelihoodJudge, WrittenJudge
    from trimpot.evaluation.judges.reward_judge import load_reward_judge

    if way not in WAYS:
        raise UsageError("--way", f"{way!r} is unknown", nearest(way, WAYS))
    plain = name.startswith((REWARD, LABELS))
    if temperature > 0 and (plain or way != "written"):
        raise UsageError("--temperature", "plays no part in this judge's verdicts", "Add --way written, or leave it.")
    if name.startswith(LABELS):
        yield read_labels(Path(name.removeprefix(LABELS)))
        return
    if name.startswith(REWARD):
        yield load_reward_judge(name.removeprefix(REWARD))
        return
    from trimpot.cli.evaluate import open_model
    from trimpot.evaluation.cache import CachedModel, open_cache

    with open_cache(None) as cache:
        model = CachedModel(open_model(name), cache)
        if way == "written":
            yield WrittenJudge(model, temperature=temperature)
        else:
            yield LikelihoodJudge(model, JudgePrompt(LETTER_TEXT, "text") if way == "text" else JudgePrompt())


def _same_faults(reports: Sequence[JudgeReport]) -> list[JudgeReport]:
    """Null baselines were asked once; what they say of the judge holds for all pairs of models."""
    asked = reports[0].baselines
    faults = tuple(one.fault for one in asked if one.fault)
    others = [replace(one, baselines=asked, faults=(*faults, *one.faults)) for one in reports[1:]]
    return [reports[0], *others]


def _write(
    folder: Path,
    reports: Sequence[JudgeReport],
    duels: Mapping[tuple[str, str], Sequence[Judged]],
    read: Mapping[str, Sequence[Outcome]],
) -> None:
    """The report, and the verdicts as outcomes of A and of B; several pairs of models have a folder each."""
    from trimpot.evaluation.judges.duel import judged_outcomes
    from trimpot.store.atomic import write_json
    from trimpot.store.outcomes import write_outcomes

    names = list(read)
    for report, ((a, b), judged) in zip(reports, duels.items(), strict=True):
        place = folder if len(duels) == 1 else folder / f"{names.index(a) + 1}-{names.index(b) + 1}"
        for side, name in (("a", a), ("b", b)):
            weights = next((one.weights for one in read[name]), "")
            outcomes = judged_outcomes(judged, f"judged by {report.judge}", weights, side)
            write_outcomes(place / side / "outcomes.parquet", outcomes)
        write_json(place / "judge.json", report.as_dict())


def _report_lines(report: JudgeReport) -> list[tuple[str, str]]:
    won, bias, spread = report.win_rate, report.bias, report.spread
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items())
    controlled = won.win_rate.text(".1%") + (f"; {won.note}" if won.note else "")
    lines = [
        (f"{report.b} against {report.a}", f"by {report.judge}: {counts}"),
        ("win rate of B:", f"{won.raw.text('.1%')}, ties {report.ties.text('.1%')}"),
        ("at equal length:", controlled),
        ("longer wins:", f"{report.length.agreement.text('.1%')} of decided pairs"),
    ]
    if bias is None:
        lines.append(("order:", "plays no part, or was not recorded"))
    else:
        direction = f"gains first {bias.first:g}, second {bias.second:g}: {bias.direction}"
        lines.append(("order conflicts:", f"{bias.rate.text('.1%')}; {direction}"))
    if spread is not None:
        text = f"variance {_number(spread.variance.value)}, two draws differ {spread.disagreement.text('.1%')}"
        lines.append((f"{spread.draws} repeats:", text))
    lines += [(f"{one.name}:", f"wins {one.win_rate.text('.1%')}") for one in report.baselines]
    if not report.baselines:
        lines.append(("null baselines:", "not asked: this judge's worth is unknown"))
    lines += [("UNUSABLE:", fault) for fault in report.faults]
    return lines


def _rating_lines(ratings: Sequence[Rating]) -> list[tuple[str, str]]:
    lines = [("Bradley–Terry:", "Elo with 95% intervals over prompts")] if ratings else []
    for one in ratings:
        elo, shown = one.elo, "no rating"
        if elo.value is not None:
            low, high = ("?" if bound is None else f"{bound:.0f}" for bound in (elo.low, elo.high))
            shown = f"{elo.value:.0f} [{low}, {high}]"
        wins = f"mean win rate {100 * one.mean_win_rate:.0f}%, which depends on the models compared"
        lines.append(("", f"{one.name}: {shown}; {wins}{'; ' + one.note if one.note else ''}"))
    return lines


def raters(
    file: Annotated[Path, typer.Argument(help="Ratings, preference rows, or logits by epoch: JSONL.")],
    mislabels: Annotated[
        bool, typer.Option("--mislabels", help="List preference rows whose answers may be swapped.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the classifier that finds mislabels.")] = 0,
    json: Json = False,
) -> None:
    """Do raters agree (κ, α, who confuses what)? Does a preference set reward more than length? Which rows are wrong?

    Rows {"item", "rater", "label"} are ratings; {"chosen", "rejected"} preference rows; {"id", "label", "logits"} of
    every training epoch, with "threshold": true for rows put into a class of their own, give AUM mislabels.
    """
    from trimpot.data.files import read_records

    first = next(iter(read_records(str(file), "train")), None)
    if first is None:
        raise UsageError(str(file), "holds no rows", "Give a file with at least one row.")
    keys = set(first[1])
    if "rater" in keys:
        if mislabels:
            problem = "--mislabels needs preference rows or logits, not ratings"
            raise UsageError(str(file), problem, "Give rows with chosen and rejected.")
        _ratings(file, json)
    elif {"logits", "label"} <= keys:
        _logits(file, json)
    elif {"chosen", "rejected"} <= keys:
        _preferences(file, mislabels, seed, json)
    else:
        mend = "Give rows with item, rater and label; chosen and rejected; or id, label and logits."
        raise UsageError(str(file), f"unknown form of row (keys: {', '.join(sorted(map(str, keys))) or 'none'})", mend)


def _ratings(file: Path, json: bool) -> None:
    from trimpot.data.files import read_records
    from trimpot.evaluation.judges.raters import rater_agreement, ratings_of

    found = rater_agreement(ratings_of(read_records(str(file), "train"), str(file)))
    if json:
        print_json(found.as_dict())
        return
    lines = [
        (f"{found.items} items, {len(found.raters)} raters", f"labels {', '.join(found.labels)}"),
        ("Krippendorff's α:", found.alpha.text()),
        ("Fleiss's κ:", "not all items have the same number of ratings" if found.fleiss is None else ""),
    ]
    if found.fleiss is not None:
        lines[-1] = ("Fleiss's κ:", found.fleiss.text())
    lines += [("Cohen's κ:", f"{a}, {b}: {kappa.text()} on {kappa.n} items") for (a, b), kappa in found.pairs.items()]
    for one in found.raters:
        confused = "; ".join(f"says {mine} for {theirs}: {count}" for mine, theirs, count in one.confused[:3])
        lines.append(
            (f"{one.rater}:", f"as the others on {one.agreement.text('.1%')}{'; ' + confused if confused else ''}")
        )
        if one.orders is not None:
            orders = one.orders
            text = (
                f"contradicts itself on {orders.rate.text('.1%')}; gains first {orders.first}, second {orders.second}"
            )
            lines.append(("", text))
    print_lines(lines)


def _preferences(file: Path, mislabels: bool, seed: int, json: bool) -> None:
    from trimpot.data.load import load_rows
    from trimpot.evaluation.judges.mislabels import AumSettings, preference_mislabels
    from trimpot.evaluation.judges.preferences import preference_rules

    rows: Any = load_rows(str(file), "preference pair")
    rules = preference_rules(rows)
    found = None
    if mislabels:
        with progress_bars() as bars:
            progress = bars("mislabels")
            found = preference_mislabels(rows, AumSettings(seed=seed), progress)
    listed = [] if found is None else [(str(rows[i].origin), found.areas[i]) for i in found.suspicious]
    if json:
        suspicious = [{"row": row, "lead": lead} for row, lead in listed]
        result = None if found is None else {"rows": len(rows), "suspicious": suspicious, "note": found.note}
        print_json(
            {"rules": [asdict(one) for one in rules], "usable": not any(r.fault for r in rules), "mislabels": result}
        )
        return
    lines = [(f"{one.name}:", f"right in {one.right.text('.1%')}") for one in rules]
    lines += [("UNUSABLE:", one.fault) for one in rules if one.fault]
    if found is not None:
        lines.append(("mislabels:", found.note or f"{len(listed)} of {len(rows)} rows fit the other label better"))
    lines += [("", f"{row} (lead {lead:+.2f})") for row, lead in listed[:SHOWN]]
    if len(listed) > SHOWN:
        lines.append(("", f"and {len(listed) - SHOWN} more: --json has all"))
    print_lines(lines)


def _logits(file: Path, json: bool) -> None:
    from trimpot.data.files import read_records
    from trimpot.evaluation.judges.dynamics import mislabels_of_dynamics

    names, found = mislabels_of_dynamics(read_records(str(file), "train"), str(file))
    listed = [(names[i], found.areas[i]) for i in found.suspicious]
    if json:
        print_json({"rows": len(names), "cut": found.cut, "suspicious": [{"row": r, "aum": a} for r, a in listed]})
        return
    lines = [("mislabels:", f"{len(listed)} of {len(names)} rows have an area under the margin below {found.cut:.3f}")]
    print_lines(lines + [("", f"{row} (AUM {area:+.3f})") for row, area in listed[:SHOWN]])


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
