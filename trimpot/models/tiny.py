"""Tiny decoders with random weights and a byte vocabulary, for tests and studies: ``tiny-0.1m`` … ``tiny-5m``."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from trimpot.core.errors import UsageError, nearest
from trimpot.core.seeds import seed_for
from trimpot.models.policy import Policy

SIZES = {"0.1m": (2, 64, 2), "0.5m": (3, 112, 4), "1m": (5, 128, 4), "2m": (4, 192, 6), "5m": (6, 256, 8)}
"""Size name -> layers, hidden size, heads; parameters are about 12 · layers · hidden² beside the embedding."""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte and ChatML's two markers; <|im_end|> ends a turn, <|pad|> pads."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text) for text in ("<|pad|>", "<|im_start|>", "<|im_end|>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = CHATML
    return fast


def tiny(size: str = "0.1m", architecture: str = "llama", seed: int = 0, **changes: Any) -> Policy:
    """A randomly initialised decoder of a named size.

    ``architecture`` is a transformers model type (llama, qwen3, gemma, gpt2); ``changes`` override its configuration.
    Deterministic in ``seed``; the process's random state is left as it was.

    Raises:
        UsageError: unknown size.
    """
    if size not in SIZES:
        raise UsageError(f"tiny-{size}", "unknown size", nearest(size, SIZES))
    layers, hidden, heads = SIZES[size]
    tokenizer = byte_tokenizer()
    if architecture == "gpt2":
        shape: dict[str, Any] = {"n_layer": layers, "n_embd": hidden, "n_head": heads, "n_positions": 2048}
    else:
        shape = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "intermediate_size": 8 * hidden // 3,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "head_dim": hidden // heads,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        }
    special = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **{**shape, **special, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "tiny", size, architecture))
        model = AutoModelForCausalLM.from_config(config)
    return Policy(model, tokenizer, f"tiny-{size}")
