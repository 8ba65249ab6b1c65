"""Prompt and prefix tuning: virtual tokens, real positions with ids past the vocabulary, open every sequence.

What is learned of them is a parameter of the model: ``virtual_tokens.prompt``, their input embeddings [n, H], or
``virtual_tokens.prefix``, their keys (after rotary) and values in every layer [n, L, 2, G, D].
Shape suffixes: T packed tokens, n virtual tokens, H hidden, L layers, A query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import pack_one
from trimpot.models.attention import AttentionPlan, plan_for

FOLDER = "virtual_tokens"
KINDS = {"prompt": "PROMPT_TUNING", "prefix": "PREFIX_TUNING"}
"""Our name -> peft's type."""
COMMON_TOKENS = 5000
"""Virtual tokens start as words among this many first ids; merges are learned in order of frequency."""


def kind_of(model: Any) -> str | None:
    """``prompt`` or ``prefix``; None for a model without virtual tokens."""
    return next(iter(model.virtual_tokens)) if hasattr(model, FOLDER) else None


def virtual_ids(model: Any) -> tuple[int, ...]:
    """The ids that must open every sequence: V … V + n − 1; empty for a model without virtual tokens."""
    kind = kind_of(model)
    return () if kind is None else ids_from(model, len(model.virtual_tokens[kind]))


def ids_from(model: Any, count: int) -> tuple[int, ...]:
    """The ids of ``count`` virtual tokens: those that follow the rows of the input embedding."""
    first = model.get_input_embeddings().num_embeddings
    return tuple(range(first, first + count))


def attach(model: Any, kind: str, values: Tensor) -> None:
    """Makes the values [n, …] a parameter of the model; copies, checkpoints and the hash of weights then hold it."""
    parameter = torch.nn.Parameter(values.detach().float().contiguous())
    model.virtual_tokens = torch.nn.ParameterDict({kind: parameter})


def add(model: Any, tokenizer: Any, kind: str, count: int, seed: int) -> None:
    """Gives the model ``count`` virtual tokens that start as words drawn from the vocabulary.

    Prompt: their embeddings. Prefix: the keys and values the model makes of them, so that at the start it answers as if
    those words opened every sequence.

    Raises:
        UsageError: keys and values differ in shape between layers.
    Source: Lester et al. 2021 (arXiv 2104.08691, section 3.2: sampled vocabulary); Li & Liang 2021 (arXiv 2101.00190,
        section 7.4: activations of real words). Without the latter's reparametrising network, as in peft's default.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    rows = model.get_input_embeddings().num_embeddings
    words = [token for token in range(min(COMMON_TOKENS, rows, len(tokenizer))) if token not in special]
    drawn = tuple(stream(seed, "virtual tokens").choices(words, k=count))
    with torch.no_grad():
        if kind == "prompt":
            ids = torch.tensor(drawn, device=model.get_input_embeddings().weight.device)
            attach(model, kind, model.get_input_embeddings()(ids))
        else:
            attach(model, kind, _keys_and_values(model, drawn))


@dataclass(frozen=True)
class _Recorder:
    """An attention plan that keeps the keys and values of every layer, each [G, T, D]."""

    inner: AttentionPlan
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        self.pairs.append((key[0], value[0]))
        return self.inner.attend(layer, query, key, value, scaling)


def _keys_and_values(model: Any, ids: tuple[int, ...]) -> Tensor:
    """The keys and values that the model makes of these ids: [n, L, 2, G, D]."""
    device = model.get_input_embeddings().weight.device
    batch = pack_one([Sample("virtual tokens", (), (Branch(ids, (False,) * len(ids)),))], str(device))
    recorder = _Recorder(plan_for(batch))
    model.base_model(
        input_ids=batch.ids_T[None], position_ids=batch.positions_T[None], use_cache=False, attention_plan=recorder
    )
    if len({part.shape for pair in recorder.pairs for part in pair}) > 1:
        problem = f"{model.config.model_type}: keys and values differ in shape between layers"
        raise UsageError("trainable", problem, "Use trainable: prompt.")
    return torch.stack([torch.stack(pair) for pair in recorder.pairs]).permute(3, 0, 1, 2, 4)


@dataclass(frozen=True)
class PrefixPlan:
    """An attention plan before which the keys and values at the virtual positions are the learned ones.

    ``places_M`` are the packed positions of virtual tokens, ``index_M`` their numbers among the n.
    """

    inner: AttentionPlan
    prefix: Tensor
    places_M: Tensor
    index_M: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See AttentionPlan."""
        learned = self.prefix[self.index_M, layer].to(key.dtype).permute(1, 2, 0, 3)[:, None]  # [2, 1, G, M, D]
        key, value = key.index_copy(2, self.places_M, learned[0]), value.index_copy(2, self.places_M, learned[1])
        return self.inner.attend(layer, query, key, value, scaling)


def forward_inputs(
    model: Any, ids_T: Tensor, positions_T: Tensor, plan: AttentionPlan
) -> tuple[dict[str, Tensor], AttentionPlan]:
    """What the trunk is called with for these packed ids: its token inputs and its attention plan.

    Raises:
        ValueError: a sequence does not open with the virtual tokens, or holds one elsewhere.
    """
    kind = kind_of(model)
    if kind is None:
        return {"input_ids": ids_T[None]}, plan
    learned, embedding = model.virtual_tokens[kind], model.get_input_embeddings()
    index_T = (ids_T - embedding.num_embeddings).clamp_min(-1)
    if not torch.equal(index_T, positions_T.where(positions_T < len(learned), -1)):
        raise ValueError("every sequence must open with the virtual tokens: give ChatTemplate lead=policy.virtual_ids")
    places_M = (index_T >= 0).nonzero()[:, 0]
    words_T = ids_T.clamp_max(embedding.num_embeddings - 1)
    if kind == "prefix":
        plan = PrefixPlan(plan, learned, places_M, index_T[places_M]) if len(places_M) else plan
        return {"input_ids": words_T[None]}, plan
    embedded_TH = embedding(words_T)
    values_MH = learned[index_T[places_M]].to(embedded_TH.dtype)
    return {"inputs_embeds": embedded_TH.index_copy(0, places_M, values_MH)[None]}, plan


def refuse_virtual_predictors(model: Any, ids_N: Tensor) -> None:
    """Raises ValueError where one of the tokens that targets are predicted from, ids_N, is virtual, in prefix tuning.

    There such a token is keys and values, without a hidden state of its own; in prompt tuning it has one.
    """
    if kind_of(model) == "prefix" and bool((ids_N >= model.get_input_embeddings().num_embeddings).any()):
        raise ValueError(
            "prefix tuning predicts nothing from a virtual token: leave a sequence's first token untrained"
        )


def write(model: Any, folder: Path, base: str) -> None:
    """Writes the virtual tokens in peft's format; ``base`` is where the base model will lie.

    peft loads them with ``PeftModel.from_pretrained(base_model, folder)``.
    """
    from peft import PrefixTuningConfig, PromptTuningConfig

    kind = kind_of(model)
    assert kind is not None
    values = model.virtual_tokens[kind].detach().cpu()
    common: dict[str, Any] = {
        "task_type": "CAUSAL_LM", "num_virtual_tokens": len(values), "num_transformer_submodules": 1,
        "base_model_name_or_path": base, "inference_mode": True,
    }  # fmt: skip
    if kind == "prompt":
        config = PromptTuningConfig(token_dim=values.shape[1], **common)
    else:
        _, layers, _, heads, size = values.shape
        config = PrefixTuningConfig(token_dim=heads * size, num_layers=layers, num_attention_heads=heads, **common)
    folder.mkdir()
    config.save_pretrained(folder)
    save_file({"prompt_embeddings": values.flatten(1).contiguous()}, folder / "adapter_model.safetensors")


def read(model: Any, folder: Path) -> None:
    """Attaches the virtual tokens of a folder in peft's format.

    Raises:
        UsageError: the folder is incomplete, of another kind, or made for a model of another size.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        values = load_file(folder / "adapter_model.safetensors")["prompt_embeddings"]
        kind = next(kind for kind, named in KINDS.items() if named == config["peft_type"])
        if kind == "prompt":
            values = values.reshape(config["num_virtual_tokens"], model.config.hidden_size)
        else:
            layers, heads = model.config.num_hidden_layers, config["num_attention_heads"]
            values = values.reshape(config["num_virtual_tokens"], layers, 2, heads, config["token_dim"] // heads)
    except (OSError, ValueError, KeyError, StopIteration, RuntimeError) as error:
        problem = f"holds no virtual tokens for this model ({type(error).__name__}: {error})"
        raise UsageError(str(folder), problem, "Export the model again, or remove the folder.") from error
    attach(model, kind, values)
