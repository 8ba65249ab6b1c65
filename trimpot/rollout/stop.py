"""Stop strings: texts that end a completion, looked for as tokens come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SLACK = 8
"""Tokens read beyond the longest that a stop string can have: a decoder may change the start of what it decodes."""


class StopStrings:
    """Says after every token whether a completion now holds one of the texts.

    Only the last tokens are decoded. A token adds at least one byte, so a text of b bytes lies in the last b tokens;
    that they may open in the middle of a character does not matter, as UTF-8 finds its way back with the next.
    Special tokens count as their text.
    """

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self.tokenizer, self.texts = tokenizer, tuple(texts)
        self.tokens = max((len(text.encode()) for text in self.texts), default=0) + SLACK

    def end(self, ids: Sequence[int]) -> bool:
        """Whether one of the texts is in these ids, of which all but the last were asked before."""
        if not self.texts:
            return False
        text = self.tokenizer.decode(ids[-self.tokens :], skip_special_tokens=False)
        return any(stop in text for stop in self.texts)
