from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# SmolLM2's own, word for word.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)
# Qwen3: the last answer is written with its thinking (empty if there is none), earlier answers without.
THINKING = (
    "{% for message in messages %}{% set text = message['content'] %}"
    "{% if message['role'] == 'assistant' %}{% set parts = text.split('</think>') %}"
    "{% if loop.last %}{% if parts | length == 1 %}{% set text = '<think>\n\n</think>\n\n' + text %}{% endif %}"
    "{% else %}{% set text = parts[-1] | trim %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# DeepSeek-R1: generation opens a thinking block, which no finished answer shows.
OPENS_THINKING = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|start|>' + message['content'].split('</think>')[-1] + eos_token }}"
    "{% else %}{{ '<|end|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|><think>\n' }}{% endif %}"
)
# Llama 2: no generation prompt, a space on either side of the answer.
NO_GENERATION_PROMPT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + "
    "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
NO_END = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML, "llama3": LLAMA3, "thinking": THINKING, "opens_thinking": OPENS_THINKING,
    "no_generation_prompt": NO_GENERATION_PROMPT, "no_end": NO_END, "none": None, "smollm2": SMOLLM2,
}  # fmt: skip
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>"]
CORPUS = ["assistant\nHello there\n\nuser\n 12 + 7 = 19\n\n system: answer only. assistant: Yes\n"] * 20


def build_tokenizer(
    template: str | None, adds_bos: bool = False, eos: str | None = "</s>", pad: str | None = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a few merges, some of them across line ends."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=eos, pad_token=pad)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_with() -> Callable[..., PreTrainedTokenizerFast]:
    """A builder: the name of a template -> a small byte-level tokenizer with it."""
    made: dict[object, PreTrainedTokenizerFast] = {}

    def get(name: str, **options: object) -> PreTrainedTokenizerFast:
        key = (name, *sorted(options.items()))
        if key not in made:
            made[key] = build_tokenizer(TEMPLATES.get(name, name), **options)
        return made[key]

    return get
