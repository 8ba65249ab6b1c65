"""One red teaming of a model, from seeds to files: attacks, twins, generated cases, failures, rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trimpot.core.progress import Progress, ignore
from trimpot.core.settings import check_settings
from trimpot.evaluation.language_model import Identity, LanguageModel
from trimpot.evaluation.redteam.attack import AttackSettings, Attempt, answers, attack
from trimpot.evaluation.redteam.failures import TOTAL, Failure, failures_of, write_failures
from trimpot.evaluation.redteam.families import FAMILIES, cases_of, expand
from trimpot.evaluation.redteam.generate import Generated, GenerationSettings, generate_cases, twins_of
from trimpot.evaluation.redteam.labelled import DetectorRates, known_rates
from trimpot.evaluation.redteam.minimise import CALLS
from trimpot.evaluation.redteam.outcomes import outcomes_of
from trimpot.evaluation.redteam.seeds import Seed
from trimpot.evaluation.redteam.summary import Rate, over_refusal, rates_by_family
from trimpot.evaluation.redteam.training_rows import training_rows, write_rows
from trimpot.store.atomic import write_json
from trimpot.store.outcomes import write_outcomes

OUTCOMES, FAILURES, ROWS, RECORD = "outcomes.parquet", "failures.jsonl", "pairs.jsonl", "redteam.json"
Steps = Callable[[str], Progress]
"""Name of a step (attacks, generated, failures) -> what hears of it."""


@dataclass(frozen=True)
class Plan:
    """What is tried.

    Args:
        families: names of ``FAMILIES`` or of groups of them.
        calls, total_calls: prompts that the minimisation of one failure, and of all, may ask; 0: none is minimised.
        generation: how the model writes cases itself; None: it does not.
        seed: of all draws.
    """

    seeds: tuple[Seed, ...]
    families: tuple[str, ...] = ("all",)
    settings: AttackSettings = field(default_factory=AttackSettings)
    calls: int = CALLS
    total_calls: int = TOTAL
    generation: GenerationSettings | None = None
    seed: int = 0


@dataclass(frozen=True)
class RedTeam:
    """What was found.

    Args:
        attempts: all tries, those of twins and of generated cases included.
        rates: success by family; the generated cases are families of their own.
        over_refusal: of the benign twins.
        detectors: the measured rates that the corrections used.
    """

    model: Identity
    attempts: list[Attempt]
    failures: list[Failure]
    rates: list[Rate]
    over_refusal: Rate
    generated: list[Generated]
    detectors: Mapping[str, DetectorRates]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: rates, counts and failures; not every answer."""
        used = {one.case.seed.detector for one in self.attempts} | {"refusal"}
        return {
            "model": {**asdict(self.model), "key": self.model.key},
            "families": [one.as_dict() for one in self.rates],
            "over_refusal": self.over_refusal.as_dict(),
            "detectors": [one.as_dict() for name, one in self.detectors.items() if name in used],
            "generated": [_about(one) for one in self.generated],
            "failures": [_shown(one) for one in self.failures],
        }


def red_team(model: LanguageModel, plan: Plan, steps: Steps = lambda step: ignore) -> RedTeam:
    """Attacks a model and its twins, lets it write cases itself where asked, and minimises what worked.

    Raises:
        UsageError: an unknown family, a setting out of range, or a case that the model cannot read.
    """
    check_settings(plan.settings, "redteam")
    cases = cases_of(plan.seeds, plan.families, plan.seed)
    attempts, generated = attack(model, cases, plan.settings, steps("attacks")), []
    if plan.generation is not None:
        check_settings(plan.generation, "redteam generation")
        generated = generate_cases(model, model, plan.seeds, plan.generation, plan.seed, steps("generated"))
        kept = [one for some in generated for one in some.attempts]
        twins = [(case, 0) for case in twins_of(kept)]
        attempts += [*kept, *answers(model, twins, 0.0, plan.generation.answer_tokens)]
    known = known_rates()
    return RedTeam(
        model.identity,
        attempts,
        failures_of(model, attempts, plan.calls, plan.total_calls, steps("failures")),
        rates_by_family(attempts, known, plan.seed),
        over_refusal(attempts, known, plan.seed),
        generated,
        known,
    )


def write_red_team(folder: Path, model: LanguageModel, found: RedTeam, plan: Plan) -> None:
    """Outcomes for comparisons and gates, failures to replay, rows to train on, and the record.

    Raises:
        UsageError: the disk is full.
    """
    families = expand(plan.families)
    about = {
        "seed": plan.seed,
        "seeds": [asdict(one) | {"id": one.id} for one in plan.seeds],
        "families_tried": {name: {"about": FAMILIES[name].about, "source": FAMILIES[name].source} for name in families},
        "settings": asdict(plan.settings),
        "generation": None if plan.generation is None else asdict(plan.generation),
    }
    write_outcomes(folder / OUTCOMES, outcomes_of(model, found.attempts, folder.name))
    write_failures(folder / FAILURES, found.failures)
    write_rows(folder / ROWS, training_rows(found.failures))
    write_json(folder / RECORD, {**found.as_dict(), **about})


def clusters_of(failures: Sequence[Failure]) -> list[tuple[str, list[Failure]]]:
    """(words, failures) of every cluster, the largest first."""
    numbers = sorted({one.cluster for one in failures if one.cluster is not None})
    groups = [[one for one in failures if one.cluster == number] for number in numbers]
    return [(group[0].cluster_words, group) for group in groups]


def _about(one: Generated) -> dict[str, Any]:
    names = ("method", "written", "valid", "self_bleu", "distinct_2")
    return {**{name: getattr(one, name) for name in names}, "kept": len(one.attempts)}


def _shown(one: Failure) -> dict[str, Any]:
    minimal = None if one.minimal_turns is None else list(one.minimal_turns)
    told = {"id": one.id, "family": one.case.family, "request": one.case.seed.request, "why": one.why}
    return {**told, "minimal_turns": minimal, "minimal": one.minimal, "cluster": one.cluster}
