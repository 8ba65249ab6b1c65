"""Completions of one or several turns: sampled tokens, what an environment put between them, and which is which."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trimpot.core.rows import Message, PromptRow
from trimpot.core.samples import Branch
from trimpot.core.seeds import seed_for
from trimpot.data.template import ChatTemplate
from trimpot.data.turns import PROBE
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, context_limit, decode, generate
from trimpot.rollout.environments import Environment, Reply, reply_ids
from trimpot.rollout.sampling import SamplingSettings


@dataclass(frozen=True)
class Turn:
    """An answer and the whole of the ids it was sampled after."""

    prompt: tuple[int, ...]
    completion: Completion


@dataclass
class Trajectory:
    """What followed a prompt: one answer, or several with an environment's replies between them.

    ``reward`` is the environment's, None if it gave none; ``error`` says how the environment failed. ``out_of_room``:
    the context had no room for another answer.
    """

    prompt: tuple[int, ...]
    turns: list[Turn]
    reward: float | None = None
    error: str | None = None
    out_of_room: bool = False

    @property
    def finished(self) -> bool:
        """It ended by itself, not at a limit of tokens."""
        return self.turns[-1].completion.finished and not self.out_of_room

    @property
    def length(self) -> int:
        """Sampled tokens; the environment's are not counted."""
        return sum(len(turn.completion.ids) for turn in self.turns)

    @property
    def logprobs(self) -> list[float]:
        """The sampler's, of the sampled tokens."""
        return [value for turn in self.turns for value in turn.completion.logprobs]

    @property
    def entropies(self) -> list[float]:
        """Of the distributions the tokens were drawn from."""
        return [value for turn in self.turns for value in turn.completion.entropies]

    def branch(self) -> Branch:
        """All that followed the prompt, with the sampled tokens supervised.

        Raises:
            RuntimeError: a turn was not sampled after exactly the tokens that stand before it. Rendering a conversation
                anew would do that, and the policy would be trained on tokens it never saw (verl#3720,
                prime-rl#1334).
        """
        ids = list(self.prompt)
        supervised: list[bool] = []
        for number, turn in enumerate(self.turns):
            if list(turn.prompt[: len(ids)]) != ids:
                raise RuntimeError(
                    f"turn {number + 1} was sampled after other tokens than those of the turns before it"
                )
            between = turn.prompt[len(ids) :]
            supervised += [False] * len(between) + [True] * len(turn.completion.ids)
            ids += [*between, *turn.completion.ids]
        return Branch(tuple(ids[len(self.prompt) :]), tuple(supervised))

    def joined(self) -> Completion:
        """All that followed the prompt as one completion, for rewards that read tokens."""
        return Completion(list(self.branch().ids), self.logprobs, self.entropies, self.finished)


@dataclass(frozen=True)
class Play:
    """How conversations go: a new environment for each, and the most answers one may have."""

    environment: Callable[[], Environment]
    turns: int
    template: ChatTemplate


@dataclass
class _Conversation:
    """A trajectory under way with its environment and the messages so far; answers stand in them as PROBE."""

    row: PromptRow
    trajectory: Trajectory
    name: int
    environment: Environment | None = None
    messages: list[Message] = field(default_factory=list)

    def reply_to(self, text: str, play: Play) -> str | None:
        """Hands the last answer to the environment; its text, or None when it ended the conversation or failed."""
        try:
            if self.environment is None:
                self.environment = play.environment()
                self.environment.begin(self.row)
            reply = self.environment.reply(text)
            if not isinstance(reply, Reply):
                raise TypeError(f"reply returned {type(reply).__name__}, not a Reply")
            if not isinstance(reply.text, str | None):
                raise TypeError(f"the reply's text is {type(reply.text).__name__}, not text")
            if reply.reward is not None and not math.isfinite(float(reply.reward)):
                raise ValueError(f"the reward is {reply.reward}")
        except Exception as error:  # the user's code may fail in any way; it costs this conversation alone
            self.trajectory.error = f"{type(error).__name__}: {error}"
            return None
        if reply.reward is not None:
            self.trajectory.reward = float(reply.reward)
        return reply.text


def sample_trajectories(
    policy: Policy,
    rows: Sequence[PromptRow],
    prompts: Sequence[tuple[int, ...]],
    samples: int,
    settings: SamplingSettings,
    seed: int,
    play: Play | None = None,
) -> list[list[Trajectory]]:
    """``samples`` trajectories of every prompt; without ``play`` each is one completion.

    An answer that did not finish ends its trajectory. Every answer has its own random stream, named by turn, prompt and
    number, so that no trajectory changes another.
    """
    groups = [
        [Trajectory(prompt, [Turn(prompt, completion)]) for completion in group]
        for prompt, group in zip(prompts, generate(policy, prompts, samples, settings, seed), strict=True)
    ]
    if play is None:
        return groups
    under_way = [
        _Conversation(row, trajectory, place * samples + number, messages=list(row.prompt))
        for place, (row, group) in enumerate(zip(rows, groups, strict=True))
        for number, trajectory in enumerate(group)
    ]
    for turn in range(1, play.turns + 1):
        next_prompts = [_next_prompt(policy, one, settings, play, turn) for one in under_way]
        going = [(one, ids) for one, ids in zip(under_way, next_prompts, strict=True) if ids is not None]
        if not going:
            break
        under_way, prompts = [one for one, _ in going], [ids for _, ids in going]
        names = [one.name for one in under_way]
        answers = generate(policy, prompts, 1, settings, seed_for(seed, "turn", turn), names=names)
        for one, ids, (completion,) in zip(under_way, prompts, answers, strict=True):
            one.trajectory.turns.append(Turn(ids, completion))
    return groups


def _next_prompt(
    policy: Policy, one: _Conversation, settings: SamplingSettings, play: Play, turn: int
) -> tuple[int, ...] | None:
    """The ids of the conversation with the environment's reply; None when it is over."""
    last = one.trajectory.turns[-1]
    text = one.reply_to(decode(policy, last.completion), play)
    if text is None or turn == play.turns or not last.completion.finished:
        return None
    ids = (*last.prompt, *last.completion.ids, *reply_ids(play.template, one.messages, text))
    limit = context_limit(policy)
    if limit is not None and len(ids) + settings.max_tokens > limit:
        one.trajectory.out_of_room = True
        return None
    one.messages += [Message("assistant", PROBE), Message("user", text)]
    return ids
