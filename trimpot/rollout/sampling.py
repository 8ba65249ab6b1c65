"""How a token is drawn: settings, truncation of the distribution, and a search by blocks.

Shape suffixes: R rows, V vocabulary, N blocks of it, K most likely words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.settings import setting

BLOCK = 128
"""Words of one block: a draw searches the sums of blocks, then one block; divides most vocabularies."""
FIRST_CANDIDATES = 256
"""Words that top_p sorts at first; eight times as many when they hold too little of the probability."""


@dataclass(frozen=True)
class SamplingSettings:
    """How completions are drawn.

    Temperature comes first, then top_k, top_p of what that left, and min_p, as in transformers; what is left is
    renormalised. Greedy sampling (temperature 0) truncates nothing. Words as likely as the last that stays, stay.
    """

    temperature: float = setting(1.0, "0 is greedy; else divides the logits", "TRL's GRPOConfig", at_least=0)
    max_tokens: int = setting(256, "longest completion in tokens", "ours; TRL 1.16 GRPOConfig has 512", at_least=1)
    top_k: int = setting(0, "draw from so many most likely words; 0: off", "TRL's GRPOConfig", at_least=0)
    top_p: float = setting(
        1.0, "draw from the most likely words that hold this much probability; 1: off",
        "arXiv 1904.09751; TRL's GRPOConfig", above=0, at_most=1,
    )  # fmt: skip
    min_p: float = setting(
        0.0, "leave out words less likely than this share of the likeliest; 0: off",
        "arXiv 2407.01082; off in TRL's GRPOConfig", at_least=0, at_most=1,
    )  # fmt: skip
    stop: tuple[str, ...] | None = setting(
        None, "texts that end a completion and stay in it; default: end tokens alone"
    )

    def __post_init__(self) -> None:
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop or ()):
            raise UsageError("stop", f"{self.stop!r} is no list of texts", "Give texts of at least one character.")

    @property
    def truncates(self) -> bool:
        """Whether words are left out of the distribution."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


def choose(logits_RV: Tensor, uniform_R: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row, its log-prob and the entropy of the distribution it was drawn from.

    Sampling inverts cumulative distributions at one uniform number per row: that of blocks of words, then that of the
    words of one block. Over the vocabulary go one softmax, one sum and one product.

    log q(t) = log p(t) − log Z, H(q) = log Z − Σ p(v) log p(v) / Z, with p = softmax(logits / temperature), 0 where
    truncated, Z = Σ p.

    Shapes: logits_RV [R, V], uniform_R [R] in [0, 1), read unless greedy -> [R], [R], [R]. Units: nats.
    Edge cases: a word of logit −∞ is never drawn. A row with NaN draws any word, of log-prob and entropy NaN. Greedy:
        the first of the likeliest, scored at temperature 1.
    Source: ours.
    """
    if settings.temperature > 0 and settings.temperature != 1:
        logits_RV = logits_RV / settings.temperature
    probabilities_RV = logits_RV.softmax(1)
    if settings.truncates:
        cutoff_R = _cutoff(probabilities_RV, settings)
        probabilities_RV.masked_fill_(probabilities_RV < cutoff_R[:, None], 0)
    blocks_RNB = _blocks(probabilities_RV, 0)
    sums_RN = blocks_RNB.sum(-1)
    total_R = sums_RN.sum(1)
    if settings.temperature == 0:
        tokens_R = _likeliest(_blocks(logits_RV, -torch.inf))
    else:
        tokens_R = _draw(blocks_RNB, sums_RN, uniform_R).clamp_max(logits_RV.shape[1] - 1)
    logit_R = logits_RV.gather(1, tokens_R[:, None])[:, 0]
    logprob_R = probabilities_RV.gather(1, tokens_R[:, None])[:, 0].log()
    mean_R = torch.linalg.vecdot(probabilities_RV, logits_RV)
    if not bool(mean_R.isfinite().all()):  # 0 · −∞
        mean_R = torch.linalg.vecdot(probabilities_RV, logits_RV.clamp_min(torch.finfo(logits_RV.dtype).min))
    # log p(v) is logit(v) minus its normaliser, which is logit(t) − log p(t).
    entropy_R = total_R.log() + (logit_R - logprob_R) - mean_R / total_R
    return tokens_R, logprob_R - total_R.log(), entropy_R.clamp_min(0)


def _blocks(values_RV: Tensor, fill: float) -> Tensor:
    """[R, V] -> [R, N, BLOCK], the last block filled up; a view where BLOCK divides V."""
    missing = -values_RV.shape[1] % BLOCK
    if missing:
        values_RV = torch.nn.functional.pad(values_RV, (0, missing), value=fill)
    return values_RV.view(len(values_RV), -1, BLOCK)


def _likeliest(logits_RNB: Tensor) -> Tensor:
    block_R = logits_RNB.amax(-1).argmax(1)
    return block_R * BLOCK + _block_of(logits_RNB, block_R).argmax(1)


def _draw(probabilities_RNB: Tensor, sums_RN: Tensor, uniform_R: Tensor) -> Tensor:
    """A block by the first 26 bits of the uniform number, a word in it by the other 27.

    With what the first search left over, a word would be drawn whose place among all V depends on every rounding error
    before it: another batch then drew another word 4 times in 1000 (SmolLM2-135M), and not once in 6400 like this.
    """
    scaled_R = uniform_R.double() * 2**26
    first_R = scaled_R.floor()
    cumulative_RN = sums_RN.double().cumsum(1)
    block_R = _first_above(cumulative_RN, first_R / 2**26 * cumulative_RN[:, -1])
    cumulative_RB = _block_of(probabilities_RNB, block_R).double().cumsum(1)
    return block_R * BLOCK + _first_above(cumulative_RB, (scaled_R - first_R) * cumulative_RB[:, -1])


def _block_of(values_RNB: Tensor, block_R: Tensor) -> Tensor:
    return values_RNB[torch.arange(len(block_R), device=block_R.device), block_R]


def _first_above(cumulative_RN: Tensor, threshold_R: Tensor) -> Tensor:
    """The first place whose cumulative sum exceeds the threshold: one of probability above 0, whatever was rounded."""
    below_R = cumulative_RN[:, -1].nextafter(torch.zeros_like(threshold_R))
    place_R = torch.searchsorted(cumulative_RN, threshold_R.minimum(below_R)[:, None], right=True)[:, 0]
    return place_R.clamp_max(cumulative_RN.shape[1] - 1)  # of a row that is NaN no sum exceeds anything


def _cutoff(probabilities_RV: Tensor, settings: SamplingSettings) -> Tensor:
    """The probability [R] of the least likely word that stays."""
    sorted_RK = _likely(probabilities_RV, settings)
    cutoff_R = sorted_RK[:, 0] * settings.min_p
    if settings.top_k:
        cutoff_R = cutoff_R.maximum(sorted_RK[:, -1])
    if settings.top_p < 1:
        cumulative_RK = sorted_RK.double().cumsum(1)
        whole_R1 = cumulative_RK[:, -1:] if settings.top_k else torch.ones_like(cumulative_RK[:, :1])
        # A word stays while those before it hold less than top_p: the first one always does.
        kept_RK = cumulative_RK - sorted_RK < settings.top_p * whole_R1
        cutoff_R = cutoff_R.maximum(sorted_RK.gather(1, kept_RK.sum(1, keepdim=True) - 1)[:, 0])
    return cutoff_R


def _likely(probabilities_RV: Tensor, settings: SamplingSettings) -> Tensor:
    """The largest probabilities, descending: top_k of them; else as many as hold top_p in every row; else the first."""
    words = probabilities_RV.shape[1]
    if settings.top_k or settings.top_p == 1:
        return probabilities_RV.topk(min(settings.top_k or 1, words)).values
    count = min(FIRST_CANDIDATES, words)
    while True:
        sorted_RK = probabilities_RV.topk(count).values
        if count == words or bool((sorted_RK.sum(1) >= settings.top_p).all()):
            return sorted_RK
        count = min(8 * count, words)
