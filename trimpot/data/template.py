"""Tokens and mask of a row under a tokenizer's chat template: trained on exactly what is generated from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.rows import NO_ORIGIN, ChatRow, Message, Messages, Origin, PreferencePair, PromptRow, TextRow
from trimpot.core.samples import Branch, Sample
from trimpot.data.turns import PLAIN_TEMPLATE, WHERE, Piece, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Masked = tuple[list[int], list[bool]]


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
    """Tokenises rows: an answer's content and its end-of-turn token are supervised, and nothing else.

    The text before an answer and the answer are tokenised apart and joined, so the ids before a trained answer are
    the ids ``prompt_ids`` gives at generation, in every turn. The end of turn is what the template writes after the
    content, up to and including its first special token; if it writes none, the end-of-sequence token. A tokenizer
    without a chat template gets ``PLAIN_TEMPLATE``.

    Raises: UsageError names the row's origin and what the row or the template does wrong.
    Edge cases: the first token of a sequence has no predecessor and is never supervised. Turns after the last
        answer are left out. Padding plays no part, so a pad token equal to end-of-sequence does no harm.
    Source: ours; the traps are trl#1623 (end never learned), trl#4147 (mask boundary), marin#7237 (empty mask).
    """

    tokenizer: PreTrainedTokenizerBase

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

    def chat(self, row: ChatRow, max_length: int) -> Tokenised:
        """A conversation as one branch without prefix; stream ``weight_N`` carries the row's weight."""
        with _naming(row.origin):
            (ids, supervised), rewritten = self._conversation(row.messages)
        branch, cut = _branch(ids, supervised, max_length, row.origin)
        branch = Branch(branch.ids, branch.supervised, {"weight_N": (row.weight,) * branch.targets})
        return Tokenised(Sample(row.id, (), (branch,)), cut, rewritten)

    def text(self, row: TextRow, max_length: int) -> Tokenised:
        """Plain text with the end of sequence after it; every token but the first is supervised."""
        eos = self.tokenizer.eos_token_id
        ids = [*self._leading_bos, *self._encode(row.text), *([] if eos is None else [eos])]
        branch, cut = _branch(ids, [True] * len(ids), max_length, row.origin)
        branch = Branch(branch.ids, branch.supervised, {"weight_N": (row.weight,) * branch.targets})
        return Tokenised(Sample(row.id, (), (branch,)), cut)

    def pair(self, row: PreferencePair, max_length: int) -> Tokenised:
        """The prompt as prefix, chosen and rejected as branches; stream ``margin_S`` carries the margin (None: 0)."""
        with _naming(row.origin):
            prefix, before = self._prompt(row.prompt)
        streams = {"margin_S": row.margin or 0.0}
        branches, lost, rewritten = [], 0, 0
        for side in (row.chosen, row.rejected):
            with _naming(row.origin):
                (ids, supervised), turns = self._conversation(row.prompt + side)
            if tuple(ids[: len(prefix)]) != prefix:
                problem = "the template rewrites the prompt once more turns follow"
                raise UsageError(str(row.origin), problem, "End chosen and rejected after their first answer.")
            branch, cut = _branch(ids, supervised, max_length, row.origin, start=len(prefix))
            branches.append(Branch(branch.ids, branch.supervised, streams))
            lost, rewritten = lost + cut, rewritten + turns - before
        if branches[0].ids == branches[1].ids:
            where = f"within {max_length} tokens" if lost else "under this template"
            raise UsageError(
                str(row.origin), f"chosen and rejected are the same {where}", "Raise max_length or drop the row."
            )
        return Tokenised(Sample(row.id, prefix, tuple(branches)), lost, rewritten)

    def _prompt(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], int]:
        """Ids to generate from, and the number of rewritten turns in them."""
        pieces, rewritten = self.renderer.history(messages, self.renderer.frame(messages).opening)
        return tuple(self._join(pieces)[0]), rewritten

    def _conversation(self, messages: Messages) -> tuple[Masked, int]:
        """Ids and mask up to the end of the last answer, and the number of rewritten turns."""
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if not answers:
            raise UsageError("messages", "no assistant turn", "Give at least one answer to learn from.")
        opening, answer = self.renderer.answer(messages, answers[-1])
        pieces, rewritten = self.renderer.history(messages[: answers[-1]], opening)
        return self._join([*pieces, answer]), rewritten

    def _join(self, pieces: Sequence[Piece]) -> Masked:
        ids = list(self._leading_bos) if self.renderer.template is PLAIN_TEMPLATE else []
        supervised = [False] * len(ids)
        for piece in pieces:
            more = self._encode(piece.text)
            if piece.closes:
                more.append(self._eos())
            ids += more
            supervised += [piece.supervised] * len(more)
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            raise UsageError(WHERE, "begins with two beginning-of-sequence tokens", "Take one out of the template.")
        return ids, supervised

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


def _branch(
    ids: Sequence[int], supervised: Sequence[bool], max_length: int, origin: Origin, start: int = 0
) -> tuple[Branch, int]:
    """The branch from ``start`` on, cut to max_length tokens of the whole sequence, and the tokens cut."""
    stop = min(len(ids), max_length)
    # The first token of a sequence is predicted by nothing.
    mask = tuple(flag and place > 0 for place, flag in enumerate(supervised))[start:stop]
    cut = len(ids) - max(stop, start)
    if not any(mask):
        problem = f"no supervised token within the first {max_length} of {len(ids)} tokens"
        raise UsageError(str(origin), problem, f"Raise max_length to {len(ids)} or drop the row.")
    return Branch(tuple(ids[start:stop]), mask), cut
