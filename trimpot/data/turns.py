"""Which text of a rendered conversation the model would have written: the rendering side of the mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.data.calls import show_as_python, unwritten
from trimpot.data.messages import with_written_arguments

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
    """A stretch of text that is tokenised on its own: an answer with its end of turn, or what stands between answers.

    ``closes`` asks for the end-of-sequence token after it.
    """

    text: str
    answer: bool
    closes: bool = False


@dataclass(frozen=True)
class Frame:
    """What a template writes around the next answer.

    ``opening`` is the text to generate from, ``gap`` what stands between it and the answer's content (a space, an empty
    thinking block; the model writes it), ``tail`` what follows the content.
    """

    opening: str
    gap: str
    tail: str


@dataclass(frozen=True)
class Cut:
    """A rendering cut into pieces.

    ``rewritten`` counts the answers in it that are no piece of their own, because the template rewrites them once the
    conversation goes on (e.g. by taking out their thinking). ``first`` is the piece that begins where the first answer
    does; it equals the number of pieces when there is no answer, and is None when the prompt is rewritten too.
    """

    pieces: list[Piece]
    rewritten: int
    first: int | None


@dataclass(frozen=True)
class Renderer:
    """Renders conversations and cuts them at the edges of what the model writes.

    ``tools`` are the functions that the template shows to the model. The arguments of calls reach the template as
    objects, and as JSON strings if it can only join strings.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str
    special_tokens: tuple[str, ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    def render(self, messages: Sequence[Message], generate: bool) -> str:
        dumped = [message.as_dict() for message in messages]
        calls = [call for message in messages for call in message.tool_calls]
        try:
            text = self._apply(dumped, generate)
            if not show_as_python(calls, text):
                return text
        except TypeError as error:
            if not calls:
                raise self._cannot_render(messages, error) from error
        except (TemplateError, KeyError) as error:
            raise self._cannot_render(messages, error) from error
        for turn in dumped:
            if "tool_calls" in turn:
                turn["tool_calls"] = with_written_arguments(turn["tool_calls"])
        try:
            return self._apply(dumped, generate)
        except (TemplateError, TypeError, KeyError) as error:
            raise self._cannot_render(messages, error) from error

    def _apply(self, dumped: list[dict[str, Any]], generate: bool) -> str:
        tools = [dict(tool) for tool in self.tools] or None
        return str(
            self.tokenizer.apply_chat_template(
                dumped, tools=tools, chat_template=self.template, tokenize=False, add_generation_prompt=generate
            )
        )

    def _cannot_render(self, messages: Sequence[Message], error: Exception) -> UsageError:
        roles = ", ".join(message.role for message in messages) or "no turns"
        return UsageError(WHERE, f"cannot render {roles}: {error}", "Change the row's turns.")

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
            return Frame(prompt, head[len(prompt) :], tail)
        if not head.startswith(before):
            problem = "rewrites the prompt once an answer follows, so no text to generate from can be trained on"
            raise UsageError(WHERE, problem, "Give a template whose rendering only grows.")
        # A space before the answer stays with it, since vocabularies hold words with their leading space.
        opening = head.rstrip(" ") if len(head.rstrip(" ")) >= len(before) else before
        return Frame(opening, head[len(opening) :], tail)

    def end_of_turn(self, tail: str) -> str | None:
        """The tail up to and including its first special token. None: it has none."""
        ends = [(tail.find(token), -len(token), token) for token in self.special_tokens if token in tail]
        if not ends:
            return None
        place, _, token = min(ends)
        return tail[:place] + token

    def answer(self, messages: Sequence[Message], index: int, frame: Frame) -> Piece:
        """The answer at ``index``, its tool calls included, with its end of turn; ``frame`` is the frame before it.

        Raises:
            UsageError: the template leaves out part of the answer, or writes another frame around it.
        """
        message, finished, tail = messages[index], self.render(messages[: index + 1], False), frame.tail
        if message.tool_calls and not finished.endswith(tail):
            # Calls may have an end of their own, as Llama 3's <|eom_id|>.
            tail = self._special_end(finished) or tail
        body = finished.removeprefix(frame.opening).removesuffix(tail)
        if frame.opening + body + tail != finished:
            problem = "writes something else around this answer than around others"
            raise UsageError(WHERE, problem, "Change the answer's text or the template.")
        if _squeezed(message.content) not in _squeezed(body):
            problem = "leaves out part of the answer (its thinking?)"
            raise UsageError(WHERE, problem, "Take that part out of the row, or give a template that keeps it.")
        end = self.end_of_turn(tail)
        return Piece(body + (end or ""), True, closes=end is None)

    def _special_end(self, finished: str) -> str | None:
        """The special token that a rendering ends with and the white space after it. None: it ends with none."""
        text = finished.rstrip()
        ends = [token for token in self.special_tokens if text.endswith(token)]
        return max(ends, key=len) + finished[len(text) :] if ends else None

    def history(self, messages: Sequence[Message], text: str) -> Cut:
        """``text``, the rendering of these messages, cut at the edges of the answers in it.

        It is cut wherever a text to generate from ends, so the tokens before a place are those of generation. An
        earlier answer is a piece of its own where it stands as the model would have generated it.
        """
        pieces: list[Piece] = []
        place, rewritten = 0, 0
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        first: int | None = None
        for index in answers:
            frame = self._frame_in(messages[:index], text, place)
            if frame is None:
                rewritten += 1
                continue
            pieces.append(Piece(text[place : len(frame.opening)], False))
            place = len(frame.opening)
            if index == answers[0]:
                first = len(pieces)
            try:
                answer = self.answer(messages, index, frame)
            except UsageError:
                rewritten += 1
                continue
            if not text.startswith(answer.text, place):
                rewritten += 1
                continue
            pieces.append(answer)
            place += len(answer.text)
        pieces.append(Piece(text[place:], False))
        return Cut(pieces, rewritten, first if answers else len(pieces))

    def _frame_in(self, messages: Sequence[Message], text: str, place: int) -> Frame | None:
        """The frame of the answer that follows the messages, where ``text`` shows its opening from ``place`` on."""
        try:
            frame = self.frame(messages)
        except UsageError:
            return None
        return frame if len(frame.opening) >= place and text.startswith(frame.opening) else None

    def refuse_dropped(self, messages: Sequence[Message]) -> None:
        """Raises UsageError when the template leaves out tools, a tool call or a tool's answer.

        Names and arguments of a call must be in what the call's turn adds to the rendering.
        """
        if self.tools and self.render(messages, False) == replace(self, tools=()).render(messages, False):
            raise UsageError(WHERE, "leaves out the row's tools", "Give a chat template that writes tools.")
        for index, message in enumerate(messages):
            if not message.tool_calls and message.role != "tool":
                continue
            before, after = self.render(messages[:index], False), self.render(messages[: index + 1], False)
            if message.role == "tool" and _squeezed(after) == _squeezed(before):
                raise UsageError(WHERE, "leaves out tool turns", "Give a chat template that writes them.")
            for call in message.tool_calls:
                lost = unwritten(call, after.removeprefix(before))
                if lost is not None:
                    problem = f"leaves out {lost} of a tool call in the answer"
                    raise UsageError(WHERE, problem, "Give a chat template that writes tool calls.")


def _squeezed(text: str) -> str:
    """Without white space: templates trim and re-flow it."""
    return "".join(text.split())
