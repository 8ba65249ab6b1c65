"""The reference's log-probs: computed once for each set of weights and tokenised row, kept in memory and on disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from trimpot.core.hashing import bytes_hash, content_hash
from trimpot.core.progress import Progress
from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, pack
from trimpot.models.policy import Policy
from trimpot.store.atomic import write_bytes

Reference = Callable[[Batch], Tensor]


class RowReference:
    """The reference of rows that come back every epoch: each row runs once. A call maps a batch to log-probs [N].

    With a folder, they are kept in ``FOLDER/WEIGHTS.safetensors``, WEIGHTS a hash of the reference's weights, for other
    runs that begin with the same model. A row is known by its tokens, targets and the temperature, so that neither a
    changed row nor another template meets old numbers.
    """

    def __init__(self, policy: Policy, folder: Path | None = None, temperature: float = 1.0) -> None:
        self.score: Reference = reference_of(policy, temperature)
        self.temperature = temperature
        self.file = None if folder is None else folder / f"{_base_hash(policy)}.safetensors"
        self.rows: dict[str, Tensor] = {}
        if self.file is not None and self.file.exists():
            self.rows = load_file(self.file)

    def __call__(self, batch: Batch) -> Tensor:
        keys = row_keys(batch, self.temperature)
        if any(key not in self.rows for key in keys):
            parts = self.score(batch).float().cpu().split(_targets_of_rows(batch))
            self.rows.update(zip(keys, (part.clone() for part in parts), strict=True))
        return torch.cat([self.rows[key] for key in keys]).to(batch.ids_T.device)

    def fill(self, samples: Sequence[Sample], token_budget: int, device: str, progress: Progress) -> None:
        """Runs the rows that are not known yet, writes the file, and lets the reference go: no other row may follow.

        Before training, not as rows come up: which rows share a pass then does not depend on where a run was stopped,
        and its rounding is that of the run that was not.
        """
        batches = pack(samples, token_budget, device) if samples else []
        new = [batch for batch in batches if any(key not in self.rows for key in row_keys(batch, self.temperature))]
        for number, batch in enumerate(new, start=1):
            self(batch)
            progress(number, len(new))
        if new and self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.file, save(self.rows))
        self.score = _gone


def _gone(batch: Batch) -> Tensor:
    raise RuntimeError(f"rows that were not there when the reference was filled: {', '.join(batch.row_ids)}")


def reference_of(policy: Policy, temperature: float = 1.0) -> Reference:
    """The reference's log-probs of a batch, [N]: the adapters switched off under LoRA, else a frozen copy."""
    frozen = None if policy.adapters is not None else frozen_copy(policy)

    @torch.no_grad()
    def score(batch: Batch) -> Tensor:
        if frozen is not None:
            return frozen.scores(batch, temperature).logprob_N
        with policy.adapters_off():
            return policy.scores(batch, temperature).logprob_N

    return score


def frozen_copy(policy: Policy) -> Policy:
    """The policy as it is now, without gradients."""
    model = copy.deepcopy(policy.model).requires_grad_(False)
    return Policy(model, policy.tokenizer, policy.name)


def row_keys(batch: Batch, temperature: float) -> list[str]:
    """An identity for each row of a batch: its tokens, how they attend, which are targets, and the temperature."""
    targets = batch.predict_from_N.split(_targets_of_rows(batch))
    keys = []
    for document, predict_from_N in zip(batch.documents, targets, strict=True):
        start = document.start
        branches = [[low - start, high - start] for low, high in document.branches]
        ids, places = batch.ids_T[start : document.stop].tolist(), (predict_from_N - start).tolist()
        keys.append(content_hash([ids, document.prefix_stop - start, branches, places, temperature]))
    return keys


def _targets_of_rows(batch: Batch) -> list[int]:
    by_sequence_S = torch.bincount(batch.sequence_N, minlength=batch.sequences)
    return [int(part.sum()) for part in by_sequence_S.split(list(batch.branches_per_row))]


def _base_hash(policy: Policy) -> str:
    """The hash of the reference's weights: under LoRA those of the model without its adapters."""
    if policy.adapters is None:
        return policy.weights_hash()
    state = {name: value for name, value in policy.model.state_dict().items() if ".lora_" not in name}
    return bytes_hash(
        chunk
        for name in sorted(state)
        for chunk in (name.encode(), state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    )
