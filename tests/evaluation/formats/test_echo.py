from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.formats.server import echo
from trimpot.evaluation.formats.echo import echoed

WORDS = st.lists(st.text("abcé", min_size=1, max_size=4), min_size=1, max_size=5)


@given(WORDS, WORDS, st.sampled_from(["", "<s>", "<|begin_of_text|>"]), st.booleans(), st.booleans())
def test_every_token_after_the_context_counts_once_wherever_its_space_is(context, continuation, begin, usage, space):
    """The constructed server's token at place n has −n, and a word with the space before it is a token."""
    before, after = " ".join(context), " ".join(continuation)
    pair = (before + " ", after) if space else (before, " " + after)
    found = echoed(echo("".join(pair), begin, usage), *pair, "x")
    first = len(context) + bool(begin)
    assert found.tokens == len(continuation)
    assert found.logprob == -sum(range(first, first + len(continuation)))
