"""Stop strings over token and character boundaries, and in generation."""

from __future__ import annotations

import pytest

from trimpot.models.tiny import byte_tokenizer, tiny
from trimpot.rollout.engine import decode, generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.stop import StopStrings

PROMPTS = [(5, 6, 7), (9,), (11, 12, 13, 14, 15, 16, 17), (20, 21)]


class Words:
    """A tokenizer whose tokens are texts of any length."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(self.words[token] for token in ids)


def first_end(stops: StopStrings, ids: list[int]) -> int | None:
    """After how many tokens a completion of these ids ends."""
    return next((count for count in range(1, len(ids) + 1) if stops.end(ids[:count])), None)


@pytest.mark.parametrize("stop", ["END", "ä", "日本", "</a>€\n", "<|im_start|>"])
@pytest.mark.parametrize("before", ["", "text ", "x" * 200, "日" * 30, "EN"])
def test_a_text_of_many_tokens_ends_it_with_its_last_token(stop: str, before: str) -> None:
    tokenizer = byte_tokenizer()
    ids, end = tokenizer(before + stop + " more")["input_ids"], len(tokenizer(before + stop)["input_ids"])
    assert len(tokenizer(stop)["input_ids"]) > 1 or stop == "<|im_start|>"
    assert first_end(StopStrings(tokenizer, [stop]), ids) == end


def test_a_text_inside_a_token_ends_it() -> None:
    stops = StopStrings(Words("one", " two END three", " four"), ["END"])
    assert first_end(stops, [0, 0, 1, 2]) == 3


def test_a_text_across_tokens_of_any_cut_ends_it() -> None:
    stops = StopStrings(Words("a", "xE", "N", "Dy"), ["END", "never"])
    assert first_end(stops, [0] * 50 + [1, 2, 3, 0]) == 53
    assert first_end(stops, [0] * 50 + [1, 3, 2, 0]) is None


def test_no_texts_end_nothing_and_decode_nothing() -> None:
    assert not StopStrings(None, ()).end([1, 2, 3])


def test_generation_ends_at_a_stop_string_and_keeps_its_ids_whole() -> None:
    policy = tiny("0.1m")
    free = [one for group in generate(policy, PROMPTS, 4, SamplingSettings(1.0, 24), seed=5) for one in group]
    stop = decode(policy, free[3])[4:6]
    assert len(stop) == 2
    settings = SamplingSettings(1.0, 24, stop=(stop, "never to be seen"))
    stopped = [one for group in generate(policy, PROMPTS, 4, settings, seed=5) for one in group]
    assert stopped[3].finished
    assert len(stopped[3].ids) < 24
    for one, other in zip(stopped, free, strict=True):
        length = len(one.ids)
        assert one.ids == other.ids[:length]
        assert one.logprobs == pytest.approx(other.logprobs[:length], abs=1e-5)
        texts = [policy.tokenizer.decode(other.ids[:count]) for count in range(1, length + 1)]
        assert [stop in text for text in texts] == [False] * (length - 1) + [stop in texts[-1]]
        assert one.finished == (stop in texts[-1] or other.finished)
