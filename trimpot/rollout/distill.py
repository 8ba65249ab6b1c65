"""On-policy distillation: the rows' answers, or the student's own, for a teacher to be followed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, PromptRow
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.data.order import RowSource
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.groups import completion_statistics, rollout_tokens
from trimpot.rollout.settings import Sampling
from trimpot.rollout.trajectories import Trajectory, Turn


@dataclass(frozen=True)
class DistillSettings:
    """Who teaches, and on whose answers."""

    teacher: str = setting("", "the model to learn from: a name, folder or stage:NAME; must be given")
    on_policy_share: float = setting(
        0.5, "λ: share of rows on which the student's own completion stands for the answer", "TRL GKDConfig lmbda",
        at_least=0.0, at_most=1.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.teacher:
            raise UsageError("teacher", "is missing", "Name the model to learn from.")


class DistillSource:
    """Rows in epoch order; with probability λ a row's answer is replaced by one that the student samples.

    Whether it is, is drawn for each row of a step by a stream named by step and place. A sampled completion stands for
    the last answer, and its tokens are the targets; with the row's own answers, those of ``mask``. A prompt row has no
    answer to imitate: the student's is sampled always. A draw depends on seed, step and weights alone.

    Source: arXiv 2306.13649 algorithm 1; there, as in TRL, λ is drawn once for a whole batch, which has the same mean.
    Edge cases: a row's weight goes with the sampled completion as with its answer.

    Raises:
        UsageError: a row that cannot be tokenised.
    """

    steps_per_draw = 1

    def __init__(
        self,
        policy: Policy,
        rows: Sequence[ChatRow | PromptRow],
        sampling: Sampling,
        settings: DistillSettings,
        max_length: int,
        seed: int,
        mask: str = "assistant",
    ) -> None:
        self.policy, self.sampling, self.settings, self.seed = policy, sampling, settings, seed
        self.rows = {row.id: row for row in rows}
        template = sampling.template
        samples = [
            template.chat(row, max_length, mask).sample
            if isinstance(row, ChatRow)
            else template.prompt_sample(row, max_length).sample
            for row in self.rows.values()
        ]
        self.prompts = {row.id: _prompt(row, template, max_length) for row in self.rows.values()}
        self.order = RowSource(samples, sampling.prompts, seed)

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        """The samples of one step."""
        samples = list(self.order.draw(step - 1))
        share = self.settings.on_policy_share
        own = [
            place
            for place, sample in enumerate(samples)
            if not sample.branches or stream(self.seed, "on_policy", step, place).random() < share
        ]
        prompts = [self.prompts[samples[place].row_id] for place in own]
        seed = seed_for(self.seed, "rollout", step)
        groups = generate(self.sampling.sampler or self.policy, prompts, 1, self.sampling.settings, seed, names=own)
        trajectories, records = [], []
        for place, prompt, (completion,) in zip(own, prompts, groups, strict=True):
            row = self.rows[samples[place].row_id]
            weight = row.weight if isinstance(row, ChatRow) else 1.0
            samples[place] = Sample(row.id, prompt, (_branch(completion, weight),))
            trajectories.append(Trajectory(prompt, [Turn(prompt, completion)]))
            records.append(_record(row, decode(self.policy, completion)))
        stats = {
            **(completion_statistics(trajectories) if own else {}),
            "num_rollout_tokens": Stat(rollout_tokens(trajectories), 1),
            "distill/on_policy_share": Stat(len(own), len(samples)),
            "epoch": Stat(self.order.epoch(step), 1),
        }
        return Draw(tuple(samples), stats=stats, records=tuple(records))


def _prompt(row: ChatRow | PromptRow, template: ChatTemplate, max_length: int) -> tuple[int, ...]:
    """The ids to generate a row's last answer from, whatever the mask; of a row that is cut, the last that fits."""
    if isinstance(row, PromptRow):
        return template.prompt_sample(row, max_length).sample.prefix
    answers = [place for place, message in enumerate(row.messages) if message.role == "assistant"]
    prompts = [template.prompt_ids(row.messages[:place]) for place in answers]
    return next((ids for ids in reversed(prompts) if len(ids) < max_length), prompts[0])


def _branch(completion: Completion, weight: float) -> Branch:
    """A sampled answer with the streams that ChatTemplate.chat gives a row's own."""
    count = len(completion.ids)
    streams = {
        "weight_N": (weight,) * count,
        "answer_N": (1.0,) * count,
        "end_N": (0.0,) * (count - 1) + (float(completion.finished),),
    }
    return Branch(tuple(completion.ids), (True,) * count, streams)


def _record(row: ChatRow | PromptRow, text: str) -> dict[str, object]:
    if isinstance(row, PromptRow):
        return {"row": row.id, "prompt": row.prompt[-1].content, "expected": row.answer, "completion": text}
    last = max(place for place, message in enumerate(row.messages) if message.role == "assistant")
    prompt = row.messages[last - 1].content if last else ""
    return {"row": row.id, "prompt": prompt, "expected": row.messages[last].content, "completion": text}
