"""A constructed task whose answers differ in length: a tiny model writes words of several lengths backwards."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trimpot.core.hashing import content_hash
from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.core.seeds import seed_for, stream
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.rollout.sampling import SamplingSettings
from trimpot.studies.code import files_hash, reached
from trimpot.studies.reversal import LETTERS
from trimpot.studies.study import Settings
from trimpot.studies.subject import Subject, subject_of
from trimpot.studies.words import BASE, cached
from trimpot.studies.workers import one_thread
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

LEARN, PROBE, BATCH, CHECK_EVERY = 2000, 128, 32, 25
"""Words that the base learns, words that show when to stop, rows of a step, steps between looks."""


@dataclass(frozen=True)
class Lengths:
    """A tiny model that writes words of several lengths backwards, so that its completions differ in length.

    Constructed: words of ``shortest`` (3) to ``longest`` (8) of the letters a to h, every length as likely. Completions
    have room for ``max_tokens`` (24). The base is fine-tuned until ``stop_at`` (0.4) of its samples are right, for at
    most ``sft_steps`` (1500); other settings as of ``Words``.
    """

    settings: Settings
    seed: int
    folder: Path
    max_length = 96

    @property
    def sampling(self) -> SamplingSettings:
        return SamplingSettings(temperature=1.0, max_tokens=int(self.settings.get("max_tokens", 24)))

    def prepare(self) -> None:
        """Copies the seed's base into the folder; it is made where no study has made it yet."""
        key = {
            "settings": [
                self.settings.get(name) for name in ("shortest", "longest", "max_tokens", "stop_at", "sft_steps")
            ],
            "torch": torch.__version__,
            "code": files_hash(reached([Path(__file__)])),
        }
        kept = cached(f"lengths-{self.seed}-{content_hash(key)}", self._make)
        shutil.copyfile(kept / BASE, self.folder / BASE)

    def base(self) -> Policy:
        policy = tiny("0.1m", seed=self.seed)
        policy.model.load_state_dict(load_file(self.folder / BASE), strict=False)
        return policy

    def chats(self) -> list[ChatRow]:
        """What the base was fine-tuned on."""
        return [ChatRow((*row.prompt, Message("assistant", row.answer))) for row in self._words(LEARN)]

    def prompts(self) -> list[PromptRow]:
        count = LEARN + PROBE + int(self.settings["prompts"])
        return self._words(count)[LEARN + PROBE :]

    def held_out(self) -> list[PromptRow]:
        count = LEARN + PROBE + int(self.settings["prompts"])
        return self._words(count + int(self.settings["held_out"]))[count:]

    def given_pairs(self) -> tuple[list[PreferencePair], list[PreferencePair]] | None:
        return None

    def kept(self, name: str) -> Path | None:
        return None

    def _words(self, count: int) -> list[PromptRow]:
        shortest, longest = (int(self.settings.get(name, size)) for name, size in (("shortest", 3), ("longest", 8)))
        return words_of_lengths(count, shortest, longest, self.seed)

    def _make(self, folder: Path) -> None:
        subject = Subject(self.settings, self.seed, folder, self)
        with one_thread():
            base = self._fine_tuned(subject)
        save_file({name: value.contiguous() for name, value in base.trainable().items()}, folder / BASE)

    def _fine_tuned(self, subject: Subject) -> Policy:
        policy, probe = tiny("0.1m", seed=self.seed), self._words(LEARN + PROBE)[LEARN:]
        source = DatasetSource(subject.samples(self.chats(), policy), BATCH, seed_for(self.seed, "sft"))
        optimizer = OptimizerSettings(learning_rate=1e-3, schedule="constant", warmup=0.05)
        loop = LoopSettings(steps=int(self.settings.get("sft_steps", 1500)), batch=BATCH)
        for step in train(TrainState.new(policy, optimizer), Plan(SupervisedFineTuning(), source, loop, optimizer)):
            if step.number % CHECK_EVERY == 0:
                _, scores = subject.sampled(policy, probe, 1, seed_for(self.seed, "probe"))
                if sum(score for group in scores for score in group) >= self.settings.get("stop_at", 0.4) * PROBE:
                    break
        return policy


def words_of_lengths(count: int, shortest: int, longest: int, seed: int) -> list[PromptRow]:
    """Distinct words with every length as likely; the answer is the word reversed. More words begin with the fewer.

    Raises:
        ValueError: more are asked for than half of all there are, so that drawing them would take long.
    """
    there_are = sum(len(LETTERS) ** length for length in range(shortest, longest + 1))
    if count > there_are / 2:
        raise ValueError(f"{count} words are asked for, and there are {there_are}")
    draw, found = stream(seed, "words of lengths", shortest, longest), dict[str, None]()
    while len(found) < count:
        found["".join(draw.choice(LETTERS) for _ in range(draw.randint(shortest, longest)))] = None
    return [PromptRow((Message("user", word),), word[::-1]) for word in found]


def subject_with_lengths(settings: Settings, seed: int, folder: Path) -> Subject:
    """The subject ``lengths`` (see ``Lengths``), or any other that ``subject_of`` knows."""
    if settings.get("subject") == "lengths":
        return Subject(settings, seed, folder, Lengths(settings, seed, folder))
    return subject_of(settings, seed, folder)


def prepare_lengths(settings: Settings, seed: int, folder: Path) -> None:
    """Leaves the base model of ``subject_with_lengths`` in the folder."""
    subject_with_lengths(settings, seed, folder).task.prepare()
