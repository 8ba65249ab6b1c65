"""Generation: every peer samples the same number of tokens after the same prompts, and no other number passes."""

import pytest

from benchmarks import generation
from benchmarks.measure import SCORED, weights_of

pytestmark = pytest.mark.usefixtures("allocator_untouched")
SIZES = {"completions": 16, "new_tokens": 5}


@pytest.mark.parametrize("workload", generation.WORKLOADS)
def test_peers_do_the_same_work(workload, tiny_folder):
    peers = ("generate", "generate, 16 at once, same allocator", "generate_batch", "trimpot")
    found = {peer: generation.run(peer, workload, tiny_folder, **SIZES) for peer in peers}
    ours = found["trimpot"]
    assert all(one["work"] == ours["work"] for one in found.values())
    assert ours["work"]["new_tokens"] == 80
    tokens = ours["work"]["prompt_tokens"] + 80
    assert ours["operations"] == weights_of(tiny_folder).operations(SCORED, tokens, 80)


def test_prompts_have_spread_lengths_in_no_order(tiny_folder):
    lengths = [len(prompt) for prompt in generation.build_prompts(tiny_folder, 64)]
    assert (min(lengths), max(lengths)) == (generation.SHORTEST, generation.LONGEST)
    assert len(set(lengths)) == 64
    assert lengths != sorted(lengths)


def test_a_peer_that_samples_fewer_tokens_is_refused(tiny_folder, monkeypatch):
    monkeypatch.setattr(generation, "_trimpot", lambda _: lambda prompts, samples, new: [[1] * (new - 1)] * 16)
    with pytest.raises(RuntimeError, match="5 tokens"):
        generation.run("trimpot", "mixed", tiny_folder, **SIZES)
