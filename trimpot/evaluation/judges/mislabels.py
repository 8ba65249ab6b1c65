"""Rows whose label does not fit what all others teach: the area under the margin. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import PreferencePair
from trimpot.core.seeds import seed_for
from trimpot.evaluation.judges.preferences import text_of
from trimpot.statistics.arrays import Floats
from trimpot.statistics.intervals import wilson

PERCENTILE = 99.0
FEWEST = 60
CHANCE_LIMIT = 0.45
"""Rows at the cut are ½ where words tell nothing; not shown to be fewer than this, they are not listed."""

# Legend of shapes: E epochs, N rows, K classes, D features, P parts.


@dataclass(frozen=True)
class AumSettings:
    """How preference rows are learned; all ours.

    Args:
        epochs: few, so that the classifier has learned what rows share and not yet each row.
        rate: of plain stochastic gradient descent on answers of length 1.
        batch: rows per step.
        parts: each row's label is flipped in one of so many runs, together with one in ``parts`` of all labels.
        buckets: that words and pairs of words are hashed into.
        seed: of parts and order.
    """

    epochs: int = 8
    rate: float = 0.5
    batch: int = 16
    parts: int = 5
    buckets: int = 2**14
    seed: int = 0


@dataclass(frozen=True)
class Mislabels:
    """``areas`` [N], the cut, and the rows at or below it, the most suspicious first.

    ``note``: why rows are not listed, or empty.
    """

    areas: tuple[float, ...]
    cut: float
    suspicious: tuple[int, ...]
    note: str = ""


def margins(logits_ENK: NDArray[Any], labels_N: NDArray[Any]) -> Floats:
    """[E, N]: z_y − max_{k≠y} z_k, the lead of a row's own label over the best other one.

    Example: logits 2, 5, 1 with label 0: 2 − 5 = −3.
    Raises:
        ValueError: fewer than two classes, or a label outside them.
    """
    logits, labels = np.asarray(logits_ENK, dtype=np.float64), np.asarray(labels_N)
    if logits.ndim != 3 or logits.shape[2] < 2:
        raise ValueError(f"logits of shape [epochs, rows, at least 2 classes] are needed, not {logits.shape}")
    if labels.shape != logits.shape[1:2] or (labels.size and not 0 <= labels.min() <= labels.max() < logits.shape[2]):
        raise ValueError(f"{logits.shape[1]} rows need as many labels below {logits.shape[2]}")
    own = np.take_along_axis(logits, labels[None, :, None], axis=2)[:, :, 0]
    others = np.where(np.arange(logits.shape[2]) == labels[:, None], -np.inf, logits)
    return own - others.max(axis=2)


def find_mislabels(
    areas_N: Sequence[float], threshold_areas: Sequence[float], percentile: float = PERCENTILE
) -> Mislabels:
    """Rows whose area is at or below the 99th percentile of rows that are mislabelled on purpose.

    AUM_i = mean over epochs of the margin; threshold samples were given a class of their own, which nothing supports,
    so that their areas are what a wrong label gives.
    Example: areas 3, −1, 0.2 and threshold areas −2, 0: the cut is −0.02, the second row is suspicious.

    Shapes: areas [N], threshold_areas any. Units: logits.
    Raises:
        ValueError: no threshold sample, or a percentile outside [0, 100].
    Edge cases: no rows: none suspicious.
    Source: Pleiss et al. 2020, arXiv 2001.10528, sections 3.1 and 3.2.
    """
    if not len(threshold_areas):
        raise ValueError("there is no threshold sample to cut by")
    areas, cut = np.asarray(areas_N, dtype=np.float64), float(np.percentile(threshold_areas, percentile))
    order = np.argsort(areas, kind="stable")
    return Mislabels(tuple(map(float, areas)), cut, tuple(int(i) for i in order if areas[i] <= cut))


def preference_mislabels(
    pairs: Sequence[PreferencePair], settings: AumSettings = AumSettings(), progress: Progress = ignore
) -> Mislabels:
    """Preference rows whose chosen and rejected answers may be swapped: their own label fits worse than the other.

    A logistic regression σ(w·x) reads x, the difference of the two answers' hashed words and pairs of words (each
    answer of length 1) and of their log-lengths. It is trained ``parts`` times; in each run the labels of one part of
    the rows are flipped. A row's margin is s·w·x, s = ±1 the label in that run, its area the mean over epochs. The
    result's ``areas`` are AUM with the row's own label (mean over runs) less AUM with it flipped: both are of rows the
    classifier trained on, so that learning rows by heart weighs on both sides alike. The cut is 0.
    A threshold class, as the paper has it, does not serve here: in a linear model with two classes it is the class's
    share of the rows that decides the cut, not what its rows look like.

    Measured by tests/evaluation/judges/test_mislabels.py on constructed rows in which words tell the better answer, 15%
    of these words crossed (400 rows, 4 seeds): of 10% flips recall 0.95 with precision 0.80, of 20% flips 0.96 with
    0.88; of rows without a fault 2–3% are listed. Real rows are harder.

    Raises:
        UsageError: fewer than 60 rows.
    Edge cases: words that tell nothing put half of all rows at the cut: then none is listed, and ``note`` says so. More
        than half of all labels wrong: the right ones are listed. Two answers in the same words have the area 0.
    Source: ours, of arXiv 2001.10528.
    """
    if len(pairs) < FEWEST:
        raise UsageError("rows", f"{len(pairs)} are too few to find mislabels among", f"Give at least {FEWEST}.")
    features = _features(pairs, settings.buckets)
    generator = np.random.default_rng(seed_for(settings.seed, "aum"))
    part_N = generator.permutation(len(pairs)) % settings.parts
    areas_NP = _areas(features, part_N, settings, generator, progress)
    flipped_N = areas_NP[np.arange(len(pairs)), part_N]
    lead_N = (areas_NP.sum(axis=1) - flipped_N) / (settings.parts - 1) - flipped_N
    order = np.argsort(lead_N, kind="stable")
    suspicious = tuple(int(i) for i in order if lead_N[i] <= 0)
    high, note = wilson(len(suspicious), len(pairs)).high, ""
    if high is None or high >= CHANCE_LIMIT:
        note = f"{len(suspicious)} of {len(pairs)} rows fit the other label better: words do not tell which is chosen"
        suspicious = ()
    return Mislabels(tuple(map(float, lead_N)), 0.0, suspicious, note)


def _features(pairs: Sequence[PreferencePair], buckets: int) -> sparse.csr_matrix:
    """[N, D]: chosen less rejected. Features of fewer than three rows serve only to learn those by heart."""
    chosen = _hashed([text_of(pair.chosen) for pair in pairs], buckets)
    difference = sparse.csr_matrix(chosen - _hashed([text_of(pair.rejected) for pair in pairs], buckets))
    rows_D = np.bincount(difference.indices[difference.data != 0], minlength=difference.shape[1])
    return sparse.csr_matrix(difference[:, np.flatnonzero(rows_D >= 3)])


def _hashed(texts: Sequence[str], buckets: int) -> sparse.csr_matrix:
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(n_features=buckets, ngram_range=(1, 2), alternate_sign=False, norm="l2").transform(texts)
    lengths = np.log1p([len(text) for text in texts])[:, None] / 10
    return sparse.hstack([words, sparse.csr_matrix(lengths)], format="csr")


def _areas(
    features_ND: sparse.csr_matrix,
    part_N: NDArray[np.intp],
    settings: AumSettings,
    generator: np.random.Generator,
    progress: Progress,
) -> Floats:
    """[N, P]: the mean over epochs of each row's margin in each run. All runs go through the rows in one order."""
    rows, width = features_ND.shape
    sign_NP = np.where(part_N[:, None] == np.arange(settings.parts), -1.0, 1.0)
    weights_DP, total_NP = np.zeros((width, settings.parts)), np.zeros((rows, settings.parts))
    for epoch in range(settings.epochs):
        order = generator.permutation(rows)
        for start in range(0, rows, settings.batch):
            chosen = order[start : start + settings.batch]
            batch, sign = features_ND[chosen], sign_NP[chosen]
            pull = sign * expit(-sign * (batch @ weights_DP))
            # Only the rows' own features move; a dense step would touch all of them for nothing.
            touched = np.unique(batch.indices)
            weights_DP[touched] += settings.rate / len(chosen) * (batch[:, touched].T @ pull)
        total_NP += sign_NP * (features_ND @ weights_DP)
        progress(epoch + 1, settings.epochs)
    return total_NP / settings.epochs
