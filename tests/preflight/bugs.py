"""Planted bugs: each is put into a clean stage by wrapping what is built or by patching a function, and named with the
check that must catch it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.preflight import bench
from tests.preflight.wrapped import wrapped
from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import Document, LossOut, Streams
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.evaluation import likelihood
from trimpot.models import attention
from trimpot.models.tiny import tiny
from trimpot.preflight.check import Built, Memory
from trimpot.preflight.zeroed import PromptsZeroed
from trimpot.rollout import engine
from trimpot.training import checkpoint, loop
from trimpot.training.reference import RowReference, frozen_copy

Planted = contextlib.AbstractContextManager[Built]


@dataclass(frozen=True)
class Bug:
    """A bug, the check that must catch it, what it is, and how a stage of a kind is built with it."""

    name: str
    check: str
    what: str
    plant: Callable[[str], Planted]


# Rows


@contextlib.contextmanager
def repeated_rows(kind: str) -> Iterator[Built]:
    rows = bench.chats() if kind == "sft" else bench.pairs()
    yield bench.built(kind, rows=[*rows, *rows[:2]])


@contextlib.contextmanager
def test_rows_in_training(kind: str) -> Iterator[Built]:
    one = bench.built(kind)
    leaked = [PromptRow((Message("user", f" {word.upper()} "),), "") for word in bench.words(3, "train")]
    yield replace(one, evaluation=[*one.evaluation, *leaked])


@contextlib.contextmanager
def empty_answer(kind: str) -> Iterator[Built]:
    rows: list[Any] = list(bench.chats() if kind == "sft" else bench.pairs())
    blank = (Message("assistant", "  "),)
    if kind == "sft":
        rows[3] = replace(rows[3], messages=rows[3].messages[:-1] + blank)
    else:
        rows[3] = replace(rows[3], rejected=blank)
    yield bench.built(kind, rows=rows)


@contextlib.contextmanager
def cut_rows(kind: str) -> Iterator[Built]:
    """A tenth of the rows has an answer that max_length cuts."""
    rows: list[Any] = list(bench.chats() if kind == "sft" else bench.pairs())
    for place in range(0, len(rows), 10):
        long = (Message("assistant", answer_text(rows[place]) * 30),)
        if kind == "sft":
            rows[place] = replace(rows[place], messages=rows[place].messages[:-1] + long)
        else:
            rows[place] = replace(rows[place], chosen=long)
    yield bench.built(kind, rows=rows)


def answer_text(row: ChatRow | PreferencePair) -> str:
    return (row.messages if isinstance(row, ChatRow) else row.chosen)[-1].content


# Mask and template


@contextlib.contextmanager
def mask_off_by_one(kind: str) -> Iterator[Built]:
    """Every target is the token before the one that is meant."""
    one = bench.built(kind)

    def shifted(branch: Branch) -> Branch:
        return replace(branch, supervised=(*branch.supervised[1:], False))

    yield bench.with_samples(one, [_of_branches(sample, shifted) for sample in one.samples])


@contextlib.contextmanager
def other_template(kind: str) -> Iterator[Built]:
    """Rows are tokenised with another chat template than the model is sampled with."""
    one = bench.built(kind)
    tokenizer = tiny("0.1m").tokenizer
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "### ")
    yield bench.with_samples(one, tokenise(one.rows, ChatTemplate(tokenizer), bench.MAX_LENGTH).samples)


def _of_branches(sample: Sample, change: Callable[[Branch], Branch]) -> Sample:
    return replace(sample, branches=tuple(change(branch) for branch in sample.branches))


# The model


@contextlib.contextmanager
def wrong_weights(kind: str) -> Iterator[Built]:
    """SFT: random weights where pretrained ones are meant. Preference: the reference is another model."""
    one = bench.built(kind)
    if kind == "sft":
        yield replace(bench.built(kind, scratch=True), scratch=False)
    else:
        yield replace(one, plan=replace(one.plan, reference=RowReference(tiny("0.1m", seed=9))))


@contextlib.contextmanager
def prompts_unseen(kind: str) -> Iterator[Built]:
    """The embeddings of prompts are 0, in training and out of it."""
    one = bench.built(kind)
    yield replace(one, trainee=PromptsZeroed(one.trainee))


@contextlib.contextmanager
def prompts_unseen_from_scratch(kind: str) -> Iterator[Built]:
    one = bench.built(kind, scratch=True)
    yield replace(one, trainee=PromptsZeroed(one.trainee))


@contextlib.contextmanager
def rows_mixed(kind: str) -> Iterator[Built]:
    """The first token of a batch has a part, far below rounding, in all that follows."""
    one = bench.built(kind)

    def mix(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output + 1e-12 * output[:, :1]

    with _hooked(one.trainee.model.model.norm, mix):
        yield one


@contextlib.contextmanager
def sees_the_future(kind: str) -> Iterator[Built]:
    """Attention without a causal mask."""

    def attend(self: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling, enable_gqa=True)

    with mock.patch.object(attention.Call, "attend", attend):
        yield bench.built(kind)


@contextlib.contextmanager
def documents_joined(kind: str) -> Iterator[Built]:
    """Packed rows attend to all that lies before them."""
    original = attention.plan_of

    def plan_of(documents: Any, device: Any, window: Any) -> Any:
        whole = Document(documents[0].start, documents[0].start, ((documents[0].start, documents[-1].stop),))
        return original([whole], device, window)

    one = bench.built(kind)
    with mock.patch.object(attention, "plan_of", plan_of):
        yield one


@contextlib.contextmanager
def batch_dependent_evaluation(kind: str) -> Iterator[Built]:
    """What an evaluation reads depends on how many rows share the pass."""
    original = likelihood.last_hidden

    def last_hidden(*arguments: Any) -> Iterator[Any]:
        for ended, hidden in original(*arguments):
            yield ended, hidden * (1 + 1e-3 * len(ended))

    with mock.patch.object(likelihood, "last_hidden", last_hidden):
        yield bench.built(kind)


@contextlib.contextmanager
def other_temperature(kind: str) -> Iterator[Built]:
    """The sampler draws at temperature 0.7, and the trainer scores at 1."""
    original = engine.generate

    def generate(policy: Any, prompts: Any, samples: int, settings: Any, *more: Any) -> Any:
        return original(policy, prompts, samples, replace(settings, temperature=0.7), *more)

    with mock.patch.object(engine, "generate", generate):
        yield bench.built(kind)


# The step


@contextlib.contextmanager
def unseeded_noise(kind: str) -> Iterator[Built]:
    """Noise of a millionth on log-probs, from the global generator."""
    one = bench.built(kind)

    def streams(batch: Any, wanted: Any) -> Mapping[str, Tensor]:
        found = dict(one.trainee.streams(batch, wanted))
        return {**found, "logprob_N": found["logprob_N"] + 1e-6 * torch.randn_like(found["logprob_N"])}

    yield wrapped(one, streams=streams)


@contextlib.contextmanager
def broken_accumulation(kind: str) -> Iterator[Built]:
    """Every micro-batch is divided by its own count, and nothing by their number."""
    original = loop._backward

    def backward(out: LossOut, counts: Mapping[str, float], totals: dict[str, float]) -> None:
        original(out, {term.name: term.count for term in out.terms}, totals)

    with mock.patch.object(loop, "_backward", backward):
        yield bench.built(kind)


@contextlib.contextmanager
def frozen_in_optimiser(kind: str) -> Iterator[Built]:
    """A layer is frozen after the optimiser was given its weights."""
    one = bench.built(kind)
    parameters = one.trainee.trainable()
    one.trainee.model.model.layers[0].requires_grad_(False)
    yield wrapped(one, trainable=lambda: parameters)


@contextlib.contextmanager
def gradient_lost(kind: str) -> Iterator[Built]:
    """The gradient of one matrix is 0 in every pass."""
    one = bench.built(kind)
    hook = one.trainee.model.model.layers[0].mlp.up_proj.weight.register_hook(torch.zeros_like)
    yield one
    hook.remove()


@dataclass(frozen=True)
class LastDropped:
    """An objective that leaves the last target of a batch out."""

    inner: Any

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def stage(self) -> str:
        return self.inner.stage

    @property
    def needs(self) -> tuple[str, ...]:
        return self.inner.needs

    def __call__(self, streams: Streams) -> LossOut:
        kept_N = torch.ones_like(streams.logprob_N)
        kept_N[-1] = 0
        changed = {name: getattr(streams, name) * kept_N for name in self.needs}
        return self.inner(replace(streams, **changed))


@contextlib.contextmanager
def last_target_dropped(kind: str) -> Iterator[Built]:
    one = bench.built(kind)
    yield replace(one, plan=replace(one.plan, objective=LastDropped(one.plan.objective)))


# Short runs


@contextlib.contextmanager
def huge_weight_decay(kind: str) -> Iterator[Built]:
    """Weight decay of 100 in place of 0.1 pulls all matrices to 0."""
    one = bench.built(kind)
    yield replace(one, plan=replace(one.plan, optimizer=replace(one.plan.optimizer, weight_decay=100.0)))


@contextlib.contextmanager
def wrong_sign(kind: str) -> Iterator[Built]:
    """The first layer and the embeddings climb where all else descends."""
    one = bench.built(kind)
    model = one.trainee.model.model
    values = [*model.layers[0].parameters(), *model.embed_tokens.parameters()]
    hooks = [value.register_hook(lambda gradient: -gradient) for value in values]
    yield one
    for hook in hooks:
        hook.remove()


@contextlib.contextmanager
def answers_at_random(kind: str) -> Iterator[Built]:
    """Answers have nothing to do with their prompts; of pairs either answer may be the chosen one."""
    draw = stream(3, "random answers")
    if kind == "sft":
        rows: list[Any] = [
            replace(row, messages=(*row.messages[:-1], Message("assistant", "".join(draw.choices(bench.LETTERS, k=3)))))
            for row in bench.chats()
        ]
    else:
        rows = [
            replace(row, chosen=row.rejected, rejected=row.chosen) if draw.random() < 0.5 else row
            for row in bench.pairs()
        ]
    yield bench.built(kind, rows=rows)


@contextlib.contextmanager
def rate_times_hundred(kind: str) -> Iterator[Built]:
    one = bench.built(kind)
    rate = one.plan.optimizer.learning_rate * 100
    yield replace(one, plan=replace(one.plan, optimizer=replace(one.plan.optimizer, learning_rate=rate)))


@contextlib.contextmanager
def stale_copy(kind: str) -> Iterator[Built]:
    """A copy made before training is what the stage leaves behind."""
    one = bench.built(kind)
    copy = {"model": frozen_copy(one.trainee)}
    yield wrapped(one, models=lambda: copy)


@contextlib.contextmanager
def moments_forgotten(kind: str) -> Iterator[Built]:
    """A checkpoint's moments are not restored."""
    original = checkpoint.restore_checkpoint

    def restore(state: Any, folder: Any, settings: Any) -> None:
        original(state, folder, settings)
        for entry in state.optimizer.state.values():
            entry["exp_avg"].zero_()
            entry["exp_avg_sq"].zero_()

    with mock.patch.object(checkpoint, "restore_checkpoint", restore):
        yield bench.built(kind)


@contextlib.contextmanager
def memory_halved(kind: str) -> Iterator[Built]:
    """The moments are left out of the stated memory."""
    yield replace(bench.built(kind), memory=Memory(0.5e9, lambda seconds: 1e9))


@contextlib.contextmanager
def _hooked(module: Any, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


BUGS = (
    Bug("duplicated rows", "duplicates", "two rows are there twice", repeated_rows),
    Bug("test rows trained on", "train_test_overlap", "three evaluation prompts, in capitals", test_rows_in_training),
    Bug("empty answer", "empty_targets", "an answer of blanks", empty_answer),
    Bug("rows cut", "truncation", "a tenth of the answers is longer than max_length", cut_rows),
    Bug("mask off by one", "decoded_targets", "targets begin a token early", mask_off_by_one),
    Bug("wrong template", "template", "rows in another chat template than the model is sampled with", other_template),
    Bug("wrong weights", "initial_loss", "random ones; DPO: another reference", wrong_weights),
    Bug("zeroed input", "zeroed_input", "prompts are zeros for the trainee", prompts_unseen),
    Bug("rows mixed", "gradient_across_rows", "10⁻¹² of the first token in every state", rows_mixed),
    Bug("future leak", "future_leak", "attention without a causal mask", sees_the_future),
    Bug("documents joined", "packed_documents", "packed rows attend to those before them", documents_joined),
    Bug("batch changes score", "evaluation_batches", "states grow with the rows of a pass", batch_dependent_evaluation),
    Bug("other temperature", "rollout_trainer", "drawn at 0.7, scored at 1", other_temperature),
    Bug("unseeded noise", "same_seed", "10⁻⁶ of global noise on log-probs", unseeded_noise),
    Bug("broken accumulation", "accumulation", "each micro-batch divided by its own count", broken_accumulation),
    Bug("frozen in optimiser", "gradients_reach", "a layer frozen after the optimiser was made", frozen_in_optimiser),
    Bug("gradient lost", "gradients_reach", "one matrix gets zeros", gradient_lost),
    Bug("last target dropped", "loop_loss", "the loss leaves out a batch's last target", last_target_dropped),
    Bug("weight decay 100", "overfit", "matrices are pulled to 0", huge_weight_decay),
    Bug("zeroed input, untrained", "zeroed_input_trained", "the same with random weights", prompts_unseen_from_scratch),
    Bug("wrong sign", "capacity", "lower layers climb", wrong_sign),
    Bug("answers at random", "baselines", "answers do not belong to their prompts", answers_at_random),
    Bug("learning rate x100", "learning_rate", "100 times the clean stage's rate", rate_times_hundred),
    Bug("stale copy", "fixed_batch", "the exported model is a copy from before", stale_copy),
    Bug("moments forgotten", "save_resume", "AdamW's moments are 0 after a resume", moments_forgotten),
    Bug("memory halved", "memory_estimate", "half of the measured memory is stated", memory_halved),
)
"""All of them, in the order of the checks."""
