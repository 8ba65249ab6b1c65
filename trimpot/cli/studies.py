"""The command study: list all, run one, also on a model of one's own, or make one of a recipe without Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimpot.cli.group import SHOWN, ShowOr
from trimpot.cli.knobs import print_json, print_lines
from trimpot.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimpot.knobs.evidence import Evidence
    from trimpot.knobs.text import Line
    from trimpot.studies.study import Study
    from trimpot.studies.sweep import Sweep

app = typer.Typer(
    cls=ShowOr,
    rich_markup_mode=None,
    help="Studies: trimpot study lists them, trimpot study ID runs one, trimpot study new makes one of a recipe.",
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder for evidence and chart; by default your own.")]


@app.command(SHOWN)
def study(
    id: Annotated[str | None, typer.Argument(help="A study, such as dpo-beta, or one of your own; none: all.")] = None,
    budget: Annotated[str | None, typer.Option(help="quick (the default) or full.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds per arm; by default the study's own number.")] = None,
    model: Annotated[str | None, typer.Option(help="Ask the same of your own model: as a recipe names it.")] = None,
    data: Annotated[str | None, typer.Option(help="Your own rows, beside --model: a file or embedded:NAME.")] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """List all studies, or run one: its hypothesis is written first, a stopped one goes on, verdicts come out."""
    from trimpot.studies import STUDIES
    from trimpot.studies.sweep_files import read_sweep, sweep_names

    if (model is None) != (data is None):
        given, missing = ("--model", "--data") if data is None else ("--data", "--model")
        raise UsageError(given, f"is given without {missing}", "Give both: the study runs on your model and rows.")
    sweeps = sweep_names()
    if id is None:
        alone = [name for name, value in (("--budget", budget), ("--seeds", seeds), ("--model", model)) if value]
        if alone:
            raise UsageError(alone[0], "is given without a study", "Name one: trimpot study ID.")
        _print_list(sweeps, json)
    elif id in STUDIES:
        own = None if model is None or data is None else (model, data)
        _run_study(STUDIES[id], budget or "quick", seeds, own, output, json)
    elif id in sweeps:
        if budget is not None or seeds is not None or model is not None:
            mend = "Leave options out, or make another with trimpot study new."
            raise UsageError(f"study {id}", "is a sweep, whose arms, seeds and model its prediction has fixed", mend)
        _run_sweep(read_sweep(id), output, json)
    else:
        raise UsageError(f"study {id!r}", "there is no such study", nearest(id, [*STUDIES, *sweeps]))


@app.command("new")
def new(
    recipe: Annotated[Path, typer.Argument(help="The recipe file.")],
    arms: Annotated[
        list[str] | None,
        typer.Option(
            help="stage.key=value,value: a knob and its values, compared with each other. With several --arms, or one"
            " value, the recipe as it stands is an arm too, and each other arm differs from it in one knob: no grid."
        ),
    ] = None,
    predict: Annotated[
        str | None,
        typer.Option(
            help="What you expect: 'METRIC rises|falls|stays with KNOB', 'ARM is best' or 'ARM > ARM'; then '; why'."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds per arm; they take the place of the recipe's.")] = 5,
    metric: Annotated[
        str | None,
        typer.Option(
            help="accuracy (of the last evaluation), sampled_accuracy, loss, kl …, or STAGE.METRIC; by default that of"
            " the prediction, else accuracy."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name; by default the recipe's, the knobs' and a hash.")] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Make a study of a recipe: a knob's values, seeds, and your prediction, written first and scored after."""
    from trimpot.studies import STUDIES
    from trimpot.studies.sweep import new_sweep
    from trimpot.studies.sweep_prediction import GRAMMAR

    if predict is None:
        raise UsageError("--predict", "is missing: say first what you expect", GRAMMAR)
    sweep = new_sweep(recipe, arms or (), seeds, predict, metric, name)
    if sweep.name in (*STUDIES, "new", SHOWN):
        raise UsageError("--name", f"{sweep.name!r} is taken by trimpot", "Choose another.")
    _run_sweep(sweep, output, json)


def _run_study(
    chosen: Study, budget: str, seeds: int | None, own: tuple[str, str] | None, output: Path | None, json: bool
) -> None:
    from dataclasses import asdict

    from trimpot.knobs.evidence import user_folder, write_evidence
    from trimpot.studies.chart import draw
    from trimpot.studies.sweep_listing import minutes_text

    planned, asked = chosen.budget(budget), chosen.id
    counted = planned.seeds if seeds is None else seeds
    minutes = minutes_text(planned.minutes * counted / planned.seeds)
    again, where = f"trimpot study {asked} --budget {budget}", "on two cores"
    if own is not None:
        again += f" --model {own[0]} --data {own[1]}"
        where = f"on two cores with {chosen.model}; yours shows its time as it goes"
        chosen = _on_own(chosen, *own)
    _say(f"{asked}, {budget} budget: {len(planned.arms)} arms x {counted} seeds, about {minutes} {where}")
    folder = output or user_folder()
    partial = None if output is None else output / f"{chosen.id}.partial"
    evidence = _run(chosen, budget, seeds, again, partial=partial)
    file = write_evidence(evidence, folder)
    picture = None if chosen.chart is None else draw(evidence, chosen.chart, file.with_suffix(".svg"))
    if json:
        print_json({**asdict(evidence), "file": str(file), "chart": None if picture is None else str(picture)})
    else:
        print_lines(_study_lines(evidence, None if own is None else asked))
        print_lines(_file_lines(evidence, file, picture))


def _on_own(chosen: Study, model: str, data: str) -> Study:
    """The study on the user's model and rows, under a name that no other model or rows have.

    Raises:
        UsageError: it cannot run on them; the model cannot be loaded.
    """
    from dataclasses import replace

    from trimpot.models.load import load
    from trimpot.studies.own import on_own
    from trimpot.studies.sweep_arms import rooted
    from trimpot.studies.sweep_files import own_name

    model, data = rooted(model), rooted(data)
    changed = on_own(chosen, model, data)
    load(model)
    return replace(changed, id=own_name(chosen.id, model, data))


def _run_sweep(sweep: Sweep, output: Path | None, json: bool) -> None:
    """Runs what is missing of a sweep, or shows what it gave."""
    from trimpot.knobs.evidence import read_evidence, user_folder, write_evidence
    from trimpot.studies.recheck import differing
    from trimpot.studies.sweep import BUDGET, check_arms, check_inputs, study_of
    from trimpot.studies.sweep_files import is_of, write_sweep
    from trimpot.studies.sweep_listing import minutes_text
    from trimpot.studies.sweep_result import draw_sweep

    file = (output or user_folder()) / f"{sweep.name}.json"
    evidence = read_evidence(file) if file.exists() else None
    made, known = study_of(sweep)
    if evidence is not None and is_of(evidence, sweep):
        if made.plan(BUDGET, sweep.seeds, known.claims)["code"]["hash"] != evidence.conditions.settings["code"]:
            _say(f"{sweep.name} was run by other code of trimpot than today's; to run it again, delete {file}")
    else:
        from trimpot.studies.runner import WORKERS

        check_inputs(sweep)
        minutes = check_arms(sweep) / WORKERS / 60
        place = write_sweep(sweep)
        made, known = study_of(sweep, minutes)
        size = f"{len(sweep.arms)} arms x {sweep.seeds} seeds"
        long = "under 1 min" if minutes < 1 else f"about {minutes_text(minutes)}"
        _say(f"{sweep.name}: {size}, {long} by the dry run (tiny models take longer); {place}")
        evidence = _run(made, BUDGET, None, f"trimpot study {sweep.name}", known=known)
        write_evidence(evidence, file.parent)
    wrong = differing(evidence, made)
    if wrong:
        mend = f"Delete the file and run again: trimpot study {sweep.name}."
        raise UsageError(str(file), f"its runs do not give what it says of {', '.join(wrong)}", mend)
    picture = draw_sweep(evidence, sweep.metric, file.with_suffix(".svg"))
    if json:
        print_json(_sweep_json(sweep, evidence, file, picture))
    else:
        print_lines(_sweep_lines(sweep, evidence))
        print_lines(_file_lines(evidence, file, picture))


def _run(chosen: Study, budget: str, seeds: int | None, again: str, **beside: Any) -> Evidence:
    from trimpot.store.ledger import Ledger
    from trimpot.studies import runner
    from trimpot.studies.sweep_files import studies_folder

    try:
        with _progress() as tell:
            return runner.run_study(
                chosen, Ledger(), studies_folder(), budget, seeds, runner.WORKERS, tell, **beside
            )  # fmt: skip
    except KeyboardInterrupt:
        _say(f"trimpot: stopped. Go on with: {again}")
        raise typer.Exit(130) from None


def _print_list(sweeps: list[str], json: bool) -> None:
    from trimpot.studies import STUDIES
    from trimpot.studies.sweep_listing import study_entry, study_lines, sweep_entry, sweep_lines

    studies = {name: study_entry(one) for name, one in STUDIES.items()}
    yours = {name: sweep_entry(name) for name in sweeps}
    if json:
        print_json({"studies": studies, "yours": yours})
        return
    print_lines([line for name, entry in studies.items() for line in study_lines(name, entry)])
    print_lines([line for name, entry in yours.items() for line in sweep_lines(name, entry)])


def _study_lines(evidence: Evidence, asked: str | None) -> list[Line]:
    """The verdicts. ``asked``: the study whose question was asked of a model of the user's own, else None."""
    from trimpot.knobs.evidence import evidence_of
    from trimpot.knobs.library import library
    from trimpot.knobs.text import estimate_text

    shipped = evidence_of(asked).get("shipped") if asked is not None else None
    lines: list[Line] = [("", evidence.question)]
    if asked is not None:
        lines.append(("yours:", evidence.conditions.scale))
    for claim, tested in evidence.tested.items():
        known = None if shipped is None else shipped.tested.get(claim)
        beside = "" if known is None else f"; shipped: {known.verdict}"
        head = f"{tested.verdict} (yours{beside}):" if asked is not None else f"{tested.verdict}:"
        lines.append((head, f"{tested.statement} ({library().claims[claim].source}) {tested_text(tested)}"))
    if evidence.control is not None:
        word = "not told from 0, as it must be" if evidence.control.passed else "differs, so nothing else counts"
        lines.append(("control:", f"{evidence.control.quantity} {estimate_text(evidence.control.effect)}: {word}"))
    if evidence.failed:
        lines.append(("failed:", "; ".join(evidence.failed)))
    return lines


def tested_text(tested: Any) -> str:
    """What a test measured, with its p-value and what it could have seen."""
    from trimpot.knobs.text import estimate_text

    kind = "Holm p" if tested.margin is None else f"p of being within {tested.margin:g}"
    p = "" if tested.p_value is None else f", {kind} {tested.p_value:.2g}"
    seen = "" if tested.smallest_effect is None else f", could see {tested.smallest_effect:.2g}"
    return f"{tested.quantity}: {estimate_text(tested.effect)}{p}{seen}"


def _sweep_lines(sweep: Sweep, evidence: Evidence) -> list[Line]:
    from trimpot.knobs.text import estimate_text
    from trimpot.studies.sweep_result import arm_results, detectors_fired, is_flat, outcome

    lines: list[Line] = [("", f"{evidence.question} {evidence.conditions.scale}")]
    lines += [(f"{outcome(evidence)}:", sweep.predict)]
    lines += [(f"{one.verdict}:", f"{one.statement}; {tested_text(one)}") for one in evidence.tested.values()]
    for one in arm_results(evidence, sweep.metric):
        text = f"{sweep.metric} {mean_text(one.mean)}"
        if one.difference is not None:
            p = "" if one.p_value is None else f", Holm p {one.p_value:.2g}"
            seen = "" if one.smallest_effect is None else f", could see {one.smallest_effect:.2g}"
            text += f"; against {next(iter(evidence.arms))} {estimate_text(one.difference)}{p}{seen}"
        lines.append((f"{one.arm}:", text))
    if is_flat(evidence, sweep.metric):
        lines.append(("flat:", f"{sweep.metric} is the same in every run, so this sweep can tell nothing of it"))
    fired = detectors_fired(evidence)
    if fired:
        lines.append(("alarms:", ", ".join(f"{name} in {count} runs" for name, count in fired.items())))
    return lines + [("failed:", text) for text in _failures(evidence)]


def mean_text(mean: Any) -> str:
    """A mean with its interval, without a sign."""
    if mean.value is None:
        return "no value"
    ends = "" if mean.low is None else f" [{mean.low:.3g}, {mean.high:.3g}]"
    return f"{mean.value:.3g}{ends}"


def _failures(evidence: Evidence) -> list[str]:
    """Every run that failed, with the reason where the ledger has it."""
    from trimpot.store.ledger import Ledger
    from trimpot.studies.sweep_runs import reason_of

    if not evidence.failed:
        return []
    runs = [run for run in Ledger().runs(evidence.plan_hash) if run["status"] == "failed"]
    reasons = {f"{run['arm']}, seed {run['seed']}": reason_of(run["result"]) for run in runs}
    return [f"{name}: {reasons[name]}" if name in reasons else name for name in evidence.failed]


def _sweep_json(sweep: Sweep, evidence: Evidence, file: Path, picture: Path) -> Mapping[str, Any]:
    from dataclasses import asdict

    from trimpot.studies.sweep_files import sweep_file
    from trimpot.studies.sweep_result import arm_results, detectors_fired, is_flat, outcome

    return {
        "predict": sweep.predict,
        "metric": sweep.metric,
        "outcome": outcome(evidence),
        "compared": [asdict(one) for one in arm_results(evidence, sweep.metric)],
        "flat": is_flat(evidence, sweep.metric),
        "alarms": detectors_fired(evidence),
        "failures": _failures(evidence),
        **asdict(evidence),
        "study_file": str(sweep_file(sweep.name)),
        "file": str(file),
        "chart": str(picture),
    }


def _file_lines(evidence: Evidence, file: Path, picture: Path | None) -> list[Line]:
    from trimpot.studies.sweep_listing import minutes_text

    chart = [] if picture is None else [("chart:", str(picture))]
    return [*chart, ("evidence:", f"{file} ({minutes_text(evidence.conditions.seconds / 60)} of computing)")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error, with the time left; on a file or pipe one line for each thing done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total, text: _say(f"{done}/{total} {text}")
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), text)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
