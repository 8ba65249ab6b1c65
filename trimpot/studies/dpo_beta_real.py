"""How far does DPO move from its reference on a real language model, and does a larger β hold it nearer?

It asks of SmolLM2-135M what ``dpo-beta`` asks of a tiny model. A user's own model is for that study, by ``--model``:
here the model is part of the question.
"""

from __future__ import annotations

from trimpot.studies.dpo_beta import CLAIMS, CONTROL, TESTS, arms, run
from trimpot.studies.study import Budget, Chart, Study
from trimpot.studies.subject import prepare_subject

SETTINGS = {
    "subject": "own", "model": "smollm2-135m", "data": "embedded:reasoning-easy",
    "sft_steps": 30, "sft_batch": 8, "sft_learning_rate": 5e-5, "chats": 240,
    "prompts": 200, "pairs": 96, "held_out": 32, "samples": 4, "max_tokens": 24,
    "steps": 24, "batch": 8, "learning_rate": 1e-5, "keep_reference": True,
}  # fmt: skip
ARMS = {**arms((0.03, 0.1, 0.5), 0.2), **arms((0.1,), 0.2, order=1)}

STUDY = Study(
    id="dpo-beta-real",
    question="How far from its reference does DPO end on a real language model, against β?",
    model="smollm2-135m",
    scale=(
        "SmolLM2-135M-Instruct in float32 from a 4-bit file, fine-tuned for 30 steps on easy reasoning questions, then"
        " DPO on its own samples of other questions, paired by a verifier, one label in five wrong; all weights, AdamW;"
        " settings near those of recipes/demo.yaml, not chosen by trials"
    ),
    tests=TESTS,
    claims=CLAIMS,
    budgets={"quick": Budget(ARMS, 1, SETTINGS, minutes=5.0), "full": Budget(ARMS, 3, SETTINGS, minutes=18.0)},
    prepare=prepare_subject,
    run=run,
    first_seed=10,
    control=CONTROL,
    chart=Chart(
        metric="kl",
        knob="beta",
        where={"order": 0},
        metric_title="KL to the reference, nats per completion",
        knob_title="β",
    ),
)
