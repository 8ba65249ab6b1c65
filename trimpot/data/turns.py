"""Which text of a rendered conversation the model would have written: the rendering side of the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
"""For tokenizers without a chat template: a line "role: content" per turn, end-of-sequence after an answer.

The generation prompt stops before the space, since vocabularies hold words with their leading space.
"""

PROBE = "trimpotprobe"
"""An answer rendered in place of the real one, to see what a template writes around it."""

WHERE = "chat template"


@dataclass(frozen=True)
class Piece:
    """A stretch of text that is tokenised on its own; ``closes`` asks for the end-of-sequence token after it."""

    text: str
    supervised: bool
    closes: bool = False


@dataclass(frozen=True)
class Frame:
    """What a template writes around the next answer: the text to generate from, and the text that follows it."""

    opening: str
    tail: str


@dataclass(frozen=True)
class Renderer:
    """Renders conversations and cuts them at the edges of what the model writes."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    special_tokens: tuple[str, ...]

    def render(self, messages: Sequence[Message], generate: bool) -> str:
        dumped = [message.as_dict() for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                dumped, chat_template=self.template, tokenize=False, add_generation_prompt=generate
            )
        except (TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message.role for message in messages) or "no turns"
            raise UsageError(WHERE, f"cannot render {roles}: {error}", "Change the row's turns.") from error
        return str(text)

    def frame(self, messages: Sequence[Message]) -> Frame:
        """The frame of the answer that follows these messages.

        The opening is the template's generation prompt where an answer is rendered after exactly that text. Where
        not (the template has none, or opens a thinking block that it leaves out of finished answers), it is what
        stands before an answer in the finished rendering: what is trained must be what is generated from.
        """
        before, prompt = self.render(messages, False), self.render(messages, True)
        finished = self.render([*messages, Message("assistant", PROBE)], False)
        head, found, tail = finished.rpartition(PROBE)
        if not found:
            raise UsageError(WHERE, "does not write an assistant turn's content", "Give another chat template.")
        if prompt != before and head.startswith(prompt):
            return Frame(prompt, tail)
        if not head.startswith(before):
            problem = "rewrites the prompt once an answer follows, so no text to generate from can be trained on"
            raise UsageError(WHERE, problem, "Give a template whose rendering only grows.")
        # A space before the answer stays with it, since vocabularies hold words with their leading space.
        return Frame(head.rstrip(" ") if len(head.rstrip(" ")) >= len(before) else before, tail)

    def end_of_turn(self, tail: str) -> str | None:
        """The tail up to and including its first special token. None: it has none."""
        ends = [(tail.find(token), -len(token), token) for token in self.special_tokens if token in tail]
        if not ends:
            return None
        place, _, token = min(ends)
        return tail[:place] + token

    def answer(self, messages: Sequence[Message], index: int) -> tuple[str, Piece]:
        """The text before the answer at ``index``, and the answer with its end of turn.

        Raises:
            UsageError: the template leaves out part of the answer, or writes another frame around it.
        """
        frame = self.frame(messages[:index])
        finished = self.render(messages[: index + 1], False)
        body = finished.removeprefix(frame.opening).removesuffix(frame.tail)
        if frame.opening + body + frame.tail != finished:
            problem = "writes something else around this answer than around others"
            raise UsageError(WHERE, problem, "Change the answer's text or the template.")
        if _squeezed(messages[index].content) not in _squeezed(body):
            problem = "leaves out part of the answer (its thinking?)"
            raise UsageError(WHERE, problem, "Take that part out of the row, or give a template that keeps it.")
        end = self.end_of_turn(frame.tail)
        return frame.opening, Piece(body + (end or ""), True, closes=end is None)

    def history(self, messages: Sequence[Message], text: str) -> tuple[list[Piece], int]:
        """``text``, the rendering of these messages, cut at the edges of the answers in it.

        An earlier answer is a piece of its own where it stands as the model would have generated it. The second
        value counts the others: those the template rewrites later on, e.g. by taking out their thinking.
        """
        pieces, place, rewritten = [], 0, 0
        for index in (i for i, message in enumerate(messages) if message.role == "assistant"):
            try:
                opening, answer = self.answer(messages, index)
            except UsageError:
                rewritten += 1
                continue
            if len(opening) < place or not text.startswith(opening + answer.text):
                rewritten += 1
                continue
            pieces += [Piece(text[place : len(opening)], False), answer]
            place = len(opening) + len(answer.text)
        return [*pieces, Piece(text[place:], False)], rewritten


def _squeezed(text: str) -> str:
    """Without white space: templates trim and re-flow it."""
    return "".join(text.split())
