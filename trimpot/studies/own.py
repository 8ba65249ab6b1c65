"""The subject of a study on a real model: a model as a recipe names it, and a user's rows or the embedded ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from trimpot.core.errors import UsageError
from trimpot.core.hashing import bytes_hash, file_sha256
from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow, Row, kind_of
from trimpot.core.seeds import seed_for
from trimpot.data.load import EMBEDDED, load_rows
from trimpot.data.prepare import split_held_out, tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.load import load
from trimpot.models.policy import Policy
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.rollout.sampling import SamplingSettings
from trimpot.studies.study import Settings, Study
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

BASE = "base.safetensors"
HELD_OUT, FEWEST = 0.2, 8
"""Share of the prompts that is held out, and the fewest rows that each side needs."""
UNJUDGED = "none"
"""The verifier of prompts whose completions nothing can score: those of preference pairs."""
KINDS = {"preference pair": "pairs", "prompt": "prompts", "chat": "chats"}
"""Kind of row -> what a study calls it."""
BOUNDS = {"prompts": 256, "pairs": 256, "held_out": 64, "samples": 4, "steps": 40, "batch": 8}
"""The most that a study made for a tiny model takes on a larger one, so that it ends in a working day on a CPU."""
RATE_FACTOR = 1 / 30
"""What it multiplies learning rates by there: DPO's 3e-4 for the tiny model stands beside 1e-5 for SmolLM2-135M."""
RATE, TINY = "learning_rate", "tiny-"


@dataclass(frozen=True)
class Own:
    """A model of one's own, or the embedded one, on rows of one's own or the embedded ones.

    Settings: ``model`` as a recipe names it; ``data``, a file or data set of preference pairs, prompts with a verifier,
    or conversations, or embedded:reasoning-easy; ``prompts``, ``held_out`` and ``pairs``, the most rows of each;
    ``max_tokens`` of a completion (24 with embedded rows, else 128) and ``max_length`` of a row (512).

    Of a file a fifth of the prompts, by a hash of their content, is held out: the same for every seed. The embedded
    rows are drawn by seed, from splits that have no question in common. There the base may be fine-tuned before all
    arms, on ``chats`` (512) conversations: ``sft_steps`` (0), ``sft_batch`` (8), ``sft_learning_rate`` (2e-5).

    A pair serves as a conversation with its chosen answer, and as a prompt that nothing can score; a prompt with an
    answer as a conversation; a conversation as a prompt whose answer is its last turn, word for word.
    """

    settings: Settings
    seed: int
    folder: Path

    @property
    def max_length(self) -> int:
        return int(self.settings.get("max_length", 512))

    @property
    def sampling(self) -> SamplingSettings:
        return SamplingSettings(max_tokens=int(self.settings.get("max_tokens", 24 if self._embedded else 128)))

    def prepare(self) -> None:
        """Fine-tunes the base where the settings say so, and reads the rows, so that what is wrong shows at once.

        Raises:
            UsageError: the model or the rows cannot be read, or there are too few rows.
        """
        if not self._embedded:
            split_rows(self.settings["data"])
        steps = int(self.settings.get("sft_steps", 0))
        if steps and self._embedded:
            policy = self._loaded()
            self._fine_tune(policy, steps)
            save_file({name: value.contiguous() for name, value in policy.trainable().items()}, self.folder / BASE)

    def base(self) -> Policy:
        policy = self._loaded()
        file = self.folder / BASE
        if file.exists():
            policy.model.load_state_dict(load_file(file, str(policy.device)), strict=False)
        return policy

    def chats(self) -> list[ChatRow]:
        if self._embedded:
            rows = load_rows(self.settings["data"], "chat", "train", int(self.settings.get("chats", 512)), self.seed)
        else:
            rows = list(split_rows(self.settings["data"])[0])
        return [as_chat(row) for row in rows]

    def prompts(self) -> list[PromptRow]:
        return self._prompts("pairs", 0, "prompts")

    def held_out(self) -> list[PromptRow]:
        return self._prompts("evaluation", 1, "held_out")

    def given_pairs(self) -> tuple[list[PreferencePair], list[PreferencePair]] | None:
        if self._embedded:
            return None
        train_rows, held_out = split_rows(self.settings["data"])
        if not isinstance(train_rows[0], PreferencePair):
            return None
        sides = [[row for row in rows if isinstance(row, PreferencePair)] for rows in (train_rows, held_out)]
        return sides[0][: self.settings.get("pairs")], sides[1][: self.settings.get("held_out")]

    def kept(self, name: str) -> Path | None:
        """Nothing of a model of any size is kept beyond the study."""
        return None

    @property
    def _embedded(self) -> bool:
        return str(self.settings["data"]).startswith(EMBEDDED)

    def _loaded(self) -> Policy:
        return load(self.settings["model"], seed=self.seed)

    def _prompts(self, split: str, side: int, setting: str) -> list[PromptRow]:
        most = self.settings.get(setting)
        if self._embedded:
            rows = load_rows(self.settings["data"], "prompt", split, most, self.seed)
        else:
            rows = list(split_rows(self.settings["data"])[side][:most])
        return [as_prompt(row) for row in rows]

    def _fine_tune(self, policy: Policy, steps: int) -> None:
        batch = int(self.settings.get("sft_batch", 8))
        samples = tokenise(self.chats(), ChatTemplate(policy.tokenizer, policy.virtual_ids), self.max_length).samples
        source = DatasetSource(samples, batch, seed_for(self.seed, "sft"))
        optimizer = OptimizerSettings(learning_rate=float(self.settings.get("sft_learning_rate", 2e-5)))
        plan = Plan(SupervisedFineTuning(), source, LoopSettings(steps=steps, batch=batch), optimizer)
        for _ in train(TrainState.new(policy, optimizer), plan):
            pass


@cache
def split_rows(data: str) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The rows of a user's file: to train on, and held out; a prompt's rows are all on one side.

    Raises:
        UsageError: the rows cannot be read, are of several kinds or of one that no study takes, or are too few.
    """
    rows = load_rows(data)
    kinds = sorted({kind_of(row) for row in rows})
    if len(kinds) > 1 or kinds[0] not in KINDS:
        mend = f"Give rows of one kind: {', '.join(KINDS)}."
        raise UsageError(data, f"holds {' and '.join(kinds)} rows, of which no study is made", mend)
    train_rows, held_out = split_held_out(rows, HELD_OUT, 0)
    if min(len(train_rows), len(held_out)) < FEWEST:
        problem = (
            f"has too few rows: of {len(rows)}, {len(held_out)} would be held out and {len(train_rows)} trained on"
        )
        mend = f"Give at least {round(2 * FEWEST / HELD_OUT)} rows with prompts of their own."
        raise UsageError(data, problem, mend)
    return tuple(train_rows), tuple(held_out)


def as_chat(row: Row) -> ChatRow:
    """The row as a conversation to imitate.

    Raises:
        UsageError: a prompt without an answer.
    """
    if isinstance(row, ChatRow):
        return row
    if isinstance(row, PreferencePair):
        return ChatRow((*row.prompt, *row.chosen), slices=row.slices, origin=row.origin)
    assert isinstance(row, PromptRow)
    if not row.answer.strip():
        raise UsageError(
            str(row.origin), "has no answer to imitate", "Give the row an answer, or rows of another kind."
        )
    return ChatRow((*row.prompt, Message("assistant", row.answer)), slices=row.slices, origin=row.origin)


def as_prompt(row: Row) -> PromptRow:
    """The row as a prompt; the last answer of a conversation is what a completion is compared with.

    Raises:
        UsageError: a conversation that does not end with an answer to a prompt.
    """
    if isinstance(row, PromptRow):
        return row
    if isinstance(row, PreferencePair):
        return PromptRow(row.prompt, verifier=UNJUDGED, slices=row.slices, origin=row.origin)
    assert isinstance(row, ChatRow)
    *prompt, answer = row.messages
    if not prompt or answer.role != "assistant" or row.tools:
        problem = "is no prompt with one plain answer at its end"
        raise UsageError(str(row.origin), problem, "End the conversation with an answer, without tools.")
    return PromptRow(tuple(prompt), answer.content, slices=row.slices, origin=row.origin)


def on_own(study: Study, model: str, data: str) -> Study:
    """The same study on a user's model and rows: question, arms, tests and rule are the same.

    Its plan names model and data with a hash of what stands in them, so that other rows under the same name make
    another plan. The base is not fine-tuned. On a model that is not tiny the settings are cut to BOUNDS and learning
    rates, tuned ones too, multiplied by RATE_FACTOR.

    Raises:
        UsageError: the study cannot run on a user's model, does not take rows of this kind, or the rows are too few.
    """
    if not study.kinds:
        mend = "Its description says why; choose another study."
        raise UsageError(f"study {study.id}", "cannot run on a model and rows of one's own", mend)
    if not data.startswith(EMBEDDED):
        kind = KINDS[kind_of(split_rows(data)[0][0])]
        if kind not in study.kinds:
            wanted = " or ".join(study.kinds)
            raise UsageError(data, f"holds {kind}, and the study {study.id} takes {wanted}", f"Give {wanted}.")
    identity = {"model_hash": _identity(Path(model)), "data_hash": _identity(Path(data))}
    own: dict[str, Any] = {"subject": "own", "model": model, "data": data, "sft_steps": 0, **identity}
    tiny, tuning = model.startswith(TINY), study.tuning
    budgets = {
        name: replace(one, settings={**(one.settings if tiny else _cut(one.settings)), **own})
        for name, one in study.budgets.items()
    }
    if tuning is not None and tuning.knob == RATE and not tiny:
        tuning = replace(tuning, values=tuple(value * RATE_FACTOR for value in tuning.values))
    scale = f"{model} on {data}, chosen by the user; its settings are in the plan"
    return replace(study, model=model, scale=scale, budgets=budgets, tuning=tuning)


def _cut(settings: Settings) -> Settings:
    bounds = {name: min(settings[name], most) for name, most in BOUNDS.items() if name in settings}
    rate = {RATE: settings[RATE] * RATE_FACTOR} if RATE in settings else {}
    return {**settings, **bounds, **rate}


def _identity(path: Path) -> str | None:
    """A hash of a file, or of a folder's weights and data; None for what is no path (a name, a hub id)."""
    if path.is_file():
        return file_sha256(path)[:16]
    if not path.is_dir():
        return None
    return _folder_hash(sorted(file for file in path.rglob("*") if file.is_file()), path)


def _folder_hash(files: Sequence[Path], folder: Path) -> str:
    return bytes_hash(
        part.encode() for file in files for part in (file.relative_to(folder).as_posix(), file_sha256(file))
    )
