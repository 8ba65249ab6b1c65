"""A reward model as the judge: the answer with the higher reward is better. torch is imported when one is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import FeedbackRow, Message
from trimpot.evaluation.judges.judge import Question, Verdict
from trimpot.evaluation.judges.pairs import conversation_of

Rewards = Callable[[Sequence[tuple[tuple[Message, ...], str]], Progress], list[float]]
"""(prompt, answer) each -> its reward, in the model's own units: only differences of one prompt mean anything."""

MAX_LENGTH = 2048
_BATCH = 8


@dataclass(frozen=True)
class RewardJudge:
    """Prefers the answer with the higher reward; equal rewards are a tie.

    It reads each answer by itself, so that the order plays no part, and it cannot tell "no difference" from a small
    one.
    """

    name: str
    rewards: Rewards

    order_matters = False
    temperature = 0.0
    reads_anything = True

    def verdicts(self, questions: Sequence[Question], draw: int = 0, progress: Progress = ignore) -> list[Verdict]:
        prompts = [conversation_of(question.pair.prompt) for question in questions]
        # Both orders of a pair, and the same answer against several, are scored once.
        asked = list(
            dict.fromkeys(
                (prompt, answer)
                for prompt, question in zip(prompts, questions, strict=True)
                for answer in (question.first, question.second)
            )
        )
        found = dict(zip(asked, self.rewards(asked, progress), strict=True))
        margins = [
            found[prompt, question.first] - found[prompt, question.second]
            for prompt, question in zip(prompts, questions, strict=True)
        ]
        return [_verdict(margin) for margin in margins]


def _verdict(margin: float) -> Verdict:
    if math.isnan(margin):
        return Verdict(None, "error", "the reward is not a number")
    return Verdict(0.5 if margin == 0 else float(margin > 0))


def load_reward_judge(folder: str, device: str = "cpu") -> RewardJudge:
    """The reward model of a folder, as a reward stage exports it.

    Raises:
        UsageError: no such folder, no reward head, or a process reward model, which scores steps and not answers.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"reward:{folder}", "there is no such folder", "Give the folder of a reward stage's model.")
    return RewardJudge(f"reward model {folder}", _loaded(folder, device))


def _loaded(folder: str, device: str) -> Rewards:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from trimpot.core.tensors import pack_one
    from trimpot.data.template import ChatTemplate
    from trimpot.models.load import folder_of
    from trimpot.models.reward import RewardModel

    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder_of(folder), dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(folder, f"is no reward model ({reason})", "Give the folder of a reward stage.") from error
    _check_head(folder, model, loading)
    reward_model = RewardModel(model.to(device).requires_grad_(False), tokenizer, folder)
    template = ChatTemplate(tokenizer)

    @torch.no_grad()
    def rewards(asked: Sequence[tuple[tuple[Message, ...], str]], progress: Progress = ignore) -> list[float]:
        values: list[float] = []
        for start in range(0, len(asked), _BATCH):
            samples = [_sample(template, prompt, answer) for prompt, answer in asked[start : start + _BATCH]]
            values += reward_model.rewards(pack_one(samples, device)).tolist()
            progress(len(values), len(asked))
        return values

    return rewards


def _sample(template: Any, prompt: tuple[Message, ...], answer: str) -> Any:
    row = FeedbackRow(prompt, (Message("assistant", answer),), True)
    done = template.feedback(row, None, MAX_LENGTH)
    if done.truncated_tokens:
        shown = prompt[-1].content[:40]
        raise UsageError(f"prompt {shown!r}", f"with its answer exceeds {MAX_LENGTH} tokens", "Leave the item out.")
    return done.sample


def _check_head(folder: str, model: Any, loading: Any) -> None:
    if model.config.num_labels != 1 or any(key.startswith("score") for key in loading["missing_keys"]):
        raise UsageError(folder, "has no reward head", "Give the folder of a reward stage, not that of a policy.")
    if getattr(model.config, "reward_model_scores", "answers") != "answers":
        problem = "is a process reward model: it scores steps, not answers"
        raise UsageError(folder, problem, "Give a reward model trained on preference pairs.")
