"""The fifteen bugs that shipped in other projects: each has a test here that carries its number."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
BUGS = {
    1: "everything masked: loss 0.0 over a NaN forward (trl#6668)",
    2: "the mask begins or ends a token off (trl#4147, verl PR#3287)",
    3: "the end of sequence is never learned (trl#1623, PR#3091)",
    4: "the gradient depends on accumulation (transformers#34191, trl#5619)",
    5: "rollouts from other weights than the trainer's (unsloth PR#8701)",
    6: "the sampler's log-probs differ from the trainer's (NeMo-RL#1801, #4243)",
    7: "multi-turn conversations tokenised anew (verl#3720, prime-rl#1334)",
    8: "another template in training, teaching or use (LLaMA-Factory#2509)",
    9: "the chosen answers become less likely under DPO (trl#800)",
    10: "groups without variance, and no cause named (trl#3857)",
    11: "a verifier with two scores shifts every later reward (NeMo-RL PR#3635)",
    12: "a resumed run restarts its data or changes its loss (prime-rl#3332, verl#4156)",
    13: "the wrong reference model (trl#1340, PR#6443)",
    14: "a metric that is not what it says, an export that drops weights (verl 0.4, unsloth#3454)",
    15: "templates without generation markers mask everything (marin#7237)",
}
NAMED = re.compile(r"def test_\w*bug_(\d+)_")


@pytest.mark.parametrize("number", BUGS, ids=[f"{number:02}" for number in BUGS])
def test_every_shipped_bug_has_a_test_of_its_name(number):
    found = {int(name) for file in TESTS.rglob("test_*.py") for name in NAMED.findall(file.read_text())}
    assert number in found, BUGS[number]
