"""What a study trains: the tiny task, the embedded real model, or a user's own model and rows, by one interface."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import ChatRow, Origin, PreferencePair, PromptRow
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for
from trimpot.data.forms import record_of, row_of
from trimpot.data.pairs import pairs_from_samples
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.store.atomic import write_text
from trimpot.studies.own import UNJUDGED, Own
from trimpot.studies.study import Settings
from trimpot.studies.words import Words
from trimpot.studies.workers import one_thread

VERIFIER_SECONDS = 10.0
"""How long a verifier may take for one completion."""
SAMPLES_FOR_A_PAIR = 8
"""Completions of a prompt among which a right and a wrong one are looked for."""


class Task(Protocol):
    """A base model and rows of one seed."""

    @property
    def max_length(self) -> int:
        """The longest row in tokens."""

    @property
    def sampling(self) -> SamplingSettings:
        """How completions are drawn."""

    def prepare(self) -> None:
        """Leaves in the seed's folder what ``base`` needs."""

    def base(self) -> Policy: ...

    def chats(self) -> list[ChatRow]: ...

    def prompts(self) -> list[PromptRow]: ...

    def held_out(self) -> list[PromptRow]: ...

    def given_pairs(self) -> tuple[list[PreferencePair], list[PreferencePair]] | None:
        """The user's own pairs, to train on and held out; None where pairs have to be constructed."""

    def kept(self, name: str) -> Path | None:
        """A file of pairs that outlives the study, where the task keeps them; None where it does not."""


TASKS: Mapping[str, Callable[[Settings, int, Path], Task]] = {"words": Words, "own": Own}


@dataclass
class Subject:
    """The model and rows of one seed of a study; see ``subject_of``.

    ``prompts`` are unseen by fine-tuning and meant for training; ``held_out`` are unseen by anything. Pairs are the
    user's, or constructed from the base model's own samples by the verifier, as many as ``settings["pairs"]`` at most.
    """

    settings: Settings
    seed: int
    folder: Path
    task: Task

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template of the base model."""
        return template_of(self.task.base())

    @property
    def max_length(self) -> int:
        """The longest row in tokens; longer ones are cut."""
        return self.task.max_length

    @property
    def sampling(self) -> SamplingSettings:
        """How completions are drawn."""
        return self.task.sampling

    def base(self) -> Policy:
        """The base model afresh, all weights trainable; what is done to it changes no other."""
        return self.task.base()

    def chats(self) -> list[ChatRow]:
        """The conversations that the base was fine-tuned on, or the user's own to train on."""
        return self.task.chats()

    def prompts(self) -> list[PromptRow]:
        """Prompts to train on that fine-tuning did not see."""
        return self.task.prompts()

    def held_out(self) -> list[PromptRow]:
        """Prompts that nothing has seen."""
        return self.task.held_out()

    def pairs(self) -> list[PreferencePair]:
        """Pairs to train on.

        Raises:
            ValueError: the settings ask for no pairs, or the seed is not prepared.
        """
        return self._pairs(0)

    def held_out_pairs(self) -> list[PreferencePair]:
        """Pairs of held-out prompts.

        Raises:
            ValueError: the settings ask for no pairs, or the seed is not prepared.
        """
        return self._pairs(1)

    def samples(self, rows: Sequence[Any], policy: Policy, mask: str = "assistant") -> tuple[Sample, ...]:
        """Rows of any kind tokenised for the policy; ``mask`` is for conversations."""
        return tokenise(rows, template_of(policy), self.max_length, mask).samples

    def sampled(
        self, policy: Policy, rows: Sequence[PromptRow], samples: int, seed: int
    ) -> tuple[list[list[Completion]], list[list[float]]]:
        """``samples`` completions of every row, and their scores by the row's verifier.

        A completion without an end has 0. NaN: the verifier failed on it, or the row has none.
        """
        template = template_of(policy)
        prompts = [template.prompt(row) for row in rows]
        groups = generate(policy, prompts, samples, self.sampling, seed)
        return groups, _scores(policy, rows, prompts, groups)

    def construct_pairs(self) -> None:
        """Makes the pairs, or takes those that the task keeps, and leaves them in the seed's folder.

        Raises:
            UsageError: no prompt to train on got both a right and a wrong answer.
        """
        wanted = [(self.prompts, "pairs", self.settings["pairs"]), (self.held_out, "held-out pairs", None)]
        for (rows, stream, most), file in zip(wanted, self._files, strict=True):
            kept = self.task.kept(file.name)
            if kept is None or not kept.exists():
                found = _constructed(self, rows(), seed_for(self.seed, stream))[:most]
                if not found and stream == "pairs":
                    problem = "no prompt got both a right and a wrong answer, so there are no pairs"
                    raise UsageError(
                        f"seed {self.seed}", problem, "Give easier or harder prompts, or pairs of your own."
                    )
                text = "".join(json.dumps(record_of(pair), ensure_ascii=False) + "\n" for pair in found)
                for place in (file, kept) if kept else (file,):
                    write_text(place, text)
            else:
                write_text(file, kept.read_text(encoding="utf-8"))

    @property
    def _files(self) -> tuple[Path, Path]:
        return self.folder / "pairs.jsonl", self.folder / "held-out-pairs.jsonl"

    def _pairs(self, side: int) -> list[PreferencePair]:
        given = self.task.given_pairs()
        if given is not None:
            return given[side]
        file = self._files[side]
        if not file.exists():
            raise ValueError(f"there are no pairs in {self.folder}: the settings must ask for them, before preparation")
        # Not splitlines: JSON strings may hold U+2028 and other characters that it counts as line ends.
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        rows = [row_of(json.loads(line), Origin(file.name, place)) for place, line in enumerate(lines, start=1)]
        return [row for row in rows if isinstance(row, PreferencePair)]


def prepare_subject(settings: Settings, seed: int, folder: Path) -> None:
    """Leaves in the folder what all arms of a seed share: the base model, and pairs if ``settings["pairs"]`` is set.

    Raises:
        UsageError: unknown subject; a model or rows that cannot be read; too few rows.
    """
    subject = subject_of(settings, seed, folder)
    with one_thread():
        subject.task.prepare()
        if settings.get("pairs") and subject.task.given_pairs() is None:
            subject.construct_pairs()


def subject_of(settings: Settings, seed: int, folder: Path) -> Subject:
    """The subject of a seed whose folder is prepared.

    ``settings["subject"]``: words (the default), a tiny model that writes four letters backwards, with stop_at,
    sft_steps, prompts, held_out and pairs, see ``Words``; or own, with model and data, see ``Own``.

    Raises:
        UsageError: unknown subject.
    """
    name = settings.get("subject", "words")
    if name not in TASKS:
        raise UsageError(f"subject {name!r}", "is unknown", nearest(str(name), TASKS))
    return Subject(settings, seed, folder, TASKS[name](settings, seed, folder))


def template_of(policy: Policy) -> ChatTemplate:
    """The policy's chat template; virtual tokens, where it has them, stand before every sequence."""
    return ChatTemplate(policy.tokenizer, policy.virtual_ids)


def _constructed(subject: Subject, rows: Sequence[PromptRow], seed: int) -> list[PreferencePair]:
    policy = subject.base()
    groups, scores = subject.sampled(policy, rows, SAMPLES_FOR_A_PAIR, seed)
    pairs = pairs_from_samples(rows, [[decode(policy, one) for one in group] for group in groups], scores)
    return [pair for pair in pairs if pair.chosen != pair.rejected]


def _scores(
    policy: Policy, rows: Sequence[PromptRow], prompts: Sequence[tuple[int, ...]], groups: Sequence[list[Completion]]
) -> list[list[float]]:
    judged = [place for place, row in enumerate(rows) if row.verifier != UNJUDGED]
    scores = [[math.nan] * len(group) for group in groups]
    texts = [[decode(policy, one) for one in groups[place]] for place in judged]
    with Rewards(None, {}, VERIFIER_SECONDS) as rewards:
        scored = rewards.score(
            [rows[place] for place in judged],
            [prompts[place] for place in judged],
            [groups[place] for place in judged],
            texts,
        )
    for place, marks in zip(judged, scored, strict=True):
        ended = zip(groups[place], marks, strict=True)
        scores[place] = [mark.value if one.finished else 0.0 for one, mark in ended]
    return scores
