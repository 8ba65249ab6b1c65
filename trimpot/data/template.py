"""Tokens and mask of a row under a tokenizer's chat template: trained on exactly what is generated from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.rows import (
    NO_ORIGIN,
    ChatRow,
    FeedbackRow,
    Message,
    Messages,
    Origin,
    PreferencePair,
    PromptRow,
    StepsRow,
    TextRow,
)
from trimpot.core.samples import Branch, Sample
from trimpot.data.marks import Marked
from trimpot.data.masks import supervised_pieces
from trimpot.data.turns import PLAIN_TEMPLATE, WHERE, Piece, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STEP_SEPARATOR = "\n"
"""Stands after every step of a solution; a step's label is the target there. The default of TRL's PRM trainer."""


@dataclass(frozen=True)
class Tokenised:
    """A tokenised row and what was lost on the way.

    ``truncated_tokens`` were cut on the right. ``rewritten_turns`` answers are context only, because the template
    rewrites them once the conversation goes on; a row of its own for each makes all of them targets.
    """

    sample: Sample
    truncated_tokens: int
    rewritten_turns: int = 0


@dataclass(frozen=True)
class ChatTemplate:
    """Tokenises rows: an answer's content, tool calls and end of turn are supervised, and by default nothing else.

    The text before an answer and the answer are tokenised apart and joined, so the ids before a trained answer are
    the ids ``prompt_ids`` gives at generation, in every turn. The end of turn is what the template writes after the
    content, up to and including its first special token; if it writes none, the end-of-sequence token. A tokenizer
    without a chat template gets ``PLAIN_TEMPLATE``. ``lead`` (a prompt-tuned model's virtual tokens) stands before
    every sequence, is never supervised and counts against max_length.

    Raises: UsageError names the row's origin and what the row or the template does wrong.
    Edge cases: the first token after the lead is never supervised: without a lead nothing predicts it. Turns after the
        last answer are left out. Padding plays no part, so a pad token equal to end-of-sequence does no harm.
    Source: ours; the traps are trl#1623 (end never learned), trl#4147 (mask boundary), marin#7237 (empty mask).
    """

    tokenizer: PreTrainedTokenizerBase
    lead: tuple[int, ...] = ()

    @cached_property
    def renderer(self) -> Renderer:
        tokenizer = self.tokenizer
        try:
            template = tokenizer.get_chat_template() if tokenizer.chat_template else PLAIN_TEMPLATE
        except ValueError as error:
            raise UsageError(WHERE, "the tokenizer has several, none of them the default", "Name one.") from error
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        special = sorted({*added, *tokenizer.all_special_tokens})
        if template is PLAIN_TEMPLATE and tokenizer.eos_token is None:
            raise UsageError("tokenizer", "has neither a chat template nor an end-of-sequence token", "Give it one.")
        return Renderer(tokenizer, template, tuple(special))

    @cached_property
    def hash(self) -> str:
        """Identity of the template: its text and the tokens it opens and ends with."""
        tokenizer = self.tokenizer
        return content_hash(["template", self.renderer.template, tokenizer.bos_token, tokenizer.eos_token])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer: the template's end of turn and the end of sequence."""
        end = self.renderer.end_of_turn(self.renderer.frame([Message("user", "?")]).tail)
        ids = self._encode(end)[-1:] if end else []
        eos = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([*ids, eos] if eos is not None else ids))

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids to generate the next answer from, generation prompt included."""
        return self._prompt(messages)[0]

    def prompt(self, row: PromptRow) -> tuple[int, ...]:
        """The ids of a prompt row."""
        with _naming(row.origin):
            return self.prompt_ids(row.prompt)

    def prompt_sample(self, row: PromptRow, max_length: int) -> Tokenised:
        """A prompt row as a prefix without branches. A prompt is never cut: that would take its question away."""
        ids = self.prompt(row)
        if len(ids) >= max_length:
            problem = f"the prompt's {len(ids)} tokens leave no room for an answer within {max_length}"
            raise UsageError(str(row.origin), problem, f"Raise max_length above {len(ids)}.")
        return Tokenised(Sample(row.id, ids, ()), 0)

    def chat(self, row: ChatRow, max_length: int, mask: str = "assistant") -> Tokenised:
        """A conversation as one branch without prefix; ``mask`` (see ``supervised_pieces``) chooses its targets.

        Streams: ``weight_N`` the row's weight, ``end_N`` 1 where a target ends an answer and 0 elsewhere, and under the
        masks assistant and last_turn ``answer_N``, 1 in an answer and 0 elsewhere: there a 0 is a fault of the mask
        (see the detector prompt_leak), while completion and all train on other roles' text by choice.
        """
        with _naming(row.origin):
            marked, rewritten = self._conversation(row.messages, mask, row.tools)
        branch, cut = marked.branch(max_length, row.origin)
        return Tokenised(Sample(row.id, (), (marked.with_streams(branch, row.weight, mask),)), cut, rewritten)

    def text(self, row: TextRow, max_length: int, mask: str = "assistant") -> Tokenised:
        """Plain text with the end of sequence after it; all but the first token are supervised under every ``mask``.

        Streams as ``chat`` under the same mask, so that texts and conversations can share a batch.
        """
        eos = self.tokenizer.eos_token_id
        marked = Marked(self.lead)
        marked.add(self._leading_bos)
        marked.add(self._encode(row.text), supervised=True, answer=True)
        if eos is not None:
            marked.add([eos], supervised=True, answer=True, ends=True)
        branch, cut = marked.branch(max_length, row.origin)
        return Tokenised(Sample(row.id, (), (marked.with_streams(branch, row.weight, mask),)), cut)

    def pair(self, row: PreferencePair, max_length: int) -> Tokenised:
        """The prompt as prefix, chosen and rejected as branches; stream ``margin_S`` carries the margin (None: 0)."""
        streams = [{"margin_S": row.margin or 0.0}] * 2
        done = self._answers(row, (row.chosen, row.rejected), streams, max_length)
        chosen, rejected = done.sample.branches
        if chosen.ids == rejected.ids:
            where = f"within {max_length} tokens" if done.truncated_tokens else "under this template"
            raise UsageError(
                str(row.origin), f"chosen and rejected are the same {where}", "Raise max_length or drop the row."
            )
        return done

    def feedback(self, row: FeedbackRow, mismatched: Messages | None, max_length: int) -> Tokenised:
        """The prompt as prefix; the answer, and another row's answer (None: there is none), as branches.

        Stream ``kind_S``: 1 for a desirable answer, 0 for an undesirable one, -1 for the mismatched one.
        """
        own = self._answers(row, (row.completion,), [{"kind_S": float(row.desirable)}], max_length)
        if mismatched is None:
            return own
        other = self._answers(row, (mismatched,), [{"kind_S": -1.0}], max_length)
        branches = own.sample.branches + other.sample.branches
        return replace(own, sample=Sample(row.id, own.sample.prefix, branches))

    def steps(self, row: StepsRow, max_length: int) -> Tokenised:
        """The prompt as prefix, the steps as one branch: a target stands in the separator after every step.

        The target is the separator's last token, which is tokenised apart from the steps; stream ``label_N`` is 1 for
        a right step and 0 for a wrong one. Steps that are cut away are left out with their labels.
        """
        with _naming(row.origin):
            prefix, _ = self._prompt(row.prompt)
            gap = self.renderer.frame(row.prompt).gap
        separator = self._encode(STEP_SEPARATOR)
        marked = Marked(self.lead)
        marked.add(prefix[len(self.lead) :])
        for number, step in enumerate(row.steps):
            ids = self._encode(step if number else gap + step)
            if not step.strip() or not ids:
                raise UsageError(str(row.origin), f"step {number + 1} is empty", "Take it out, and its label too.")
            marked.add(ids)
            marked.add(separator[:-1])
            marked.add(separator[-1:], supervised=True)
        branch, cut = marked.branch(max_length, row.origin, start=len(prefix))
        labels = tuple(float(label) for label in row.labels[: branch.targets])
        branch = Branch(branch.ids, branch.supervised, {"label_N": labels})
        return Tokenised(Sample(row.id, prefix, (branch,)), cut)

    def _answers(
        self, row: PreferencePair | FeedbackRow, sides: Sequence[Messages], streams: Sequence[Mapping[str, float]],
        max_length: int,
    ) -> Tokenised:  # fmt: skip
        """The row's prompt as prefix, and one branch for each of the sides with its streams."""
        with _naming(row.origin):
            prefix, before = self._prompt(row.prompt)
        branches, lost, rewritten = [], 0, 0
        for side, values in zip(sides, streams, strict=True):
            with _naming(row.origin):
                marked, turns = self._conversation(row.prompt + side)
            if tuple(marked.ids[: len(prefix)]) != prefix:
                problem = "the template rewrites the prompt once more turns follow"
                raise UsageError(str(row.origin), problem, "End every side after its first answer.")
            branch, cut = marked.branch(max_length, row.origin, start=len(prefix))
            branches.append(Branch(branch.ids, branch.supervised, values))
            lost, rewritten = lost + cut, rewritten + turns - before
        return Tokenised(Sample(row.id, prefix, tuple(branches)), lost, rewritten)

    def _prompt(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], int]:
        """Ids to generate from, and the number of rewritten turns in them."""
        self.renderer.refuse_dropped(messages)
        cut = self.renderer.history(messages, self.renderer.frame(messages).opening)
        return tuple(self._join(cut.pieces, [False] * len(cut.pieces)).ids), cut.rewritten

    def _conversation(
        self, messages: Messages, mask: str = "assistant", tools: tuple[Mapping[str, Any], ...] = ()
    ) -> tuple[Marked, int]:
        """The tokens up to the end of the last answer, and the number of rewritten turns."""
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if not answers:
            raise UsageError("messages", "no assistant turn", "Give at least one answer to learn from.")
        renderer, last = replace(self.renderer, tools=tools), answers[-1]
        renderer.refuse_dropped(messages[: last + 1])
        frame = renderer.frame(messages[:last])
        cut = renderer.history(messages[:last], frame.opening)
        pieces = [*cut.pieces, renderer.answer(messages, last, frame)]
        return self._join(pieces, supervised_pieces(mask, pieces, cut.first)), cut.rewritten

    def _join(self, pieces: Sequence[Piece], supervised: Sequence[bool]) -> Marked:
        marked = Marked(self.lead)
        if self.renderer.template is PLAIN_TEMPLATE:
            marked.add(self._leading_bos)
        for piece, target in zip(pieces, supervised, strict=True):
            ids = self._encode(piece.text) + ([self._eos()] if piece.closes else [])
            marked.add(ids, target, piece.answer, ends=piece.answer)
        bos = self.tokenizer.bos_token_id
        if bos is not None and marked.ids[marked.lead : marked.lead + 2] == [bos, bos]:
            raise UsageError(WHERE, "begins with two beginning-of-sequence tokens", "Take one out of the template.")
        return marked

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _eos(self) -> int:
        eos = self.tokenizer.eos_token_id
        if not isinstance(eos, int):
            problem = "writes no special token after an answer, and the tokenizer has no end-of-sequence token"
            raise UsageError(WHERE, problem, "Give the tokenizer an eos_token.")
        return eos

    @cached_property
    def _leading_bos(self) -> tuple[int, ...]:
        """The beginning-of-sequence token if this tokenizer opens plain text with it."""
        bos = self.tokenizer.bos_token_id
        return (bos,) if bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos] else ()


@contextmanager
def _naming(origin: Origin) -> Iterator[None]:
    """Puts the row's origin in front of what is wrong with its template or turns."""
    try:
        yield
    except UsageError as error:
        if origin == NO_ORIGIN:
            raise
        raise UsageError(f"{origin}: {error.where}", error.problem, error.mend) from error
