"""Failures that are alike, together: TF-IDF of prompt and answer, agglomerative clustering. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DISTANCE = 0.7
"""Mean cosine distance up to which clusters are joined."""
NAMING = 4


@dataclass(frozen=True)
class Clusters:
    """``labels[i]`` is the number of text i's cluster, 0 the largest; ``names[c]`` are cluster c's heaviest words."""

    labels: tuple[int, ...]
    names: tuple[str, ...]


def clustered(texts: Sequence[str], distance: float = DISTANCE) -> Clusters:
    """Texts that share words, by average linkage of cosine distances of their TF-IDF vectors, cut at ``distance``.

    w = (1 + ln tf)·(ln((1 + n)/(1 + df)) + 1) over words but stop words, vectors of length 1. Clusters are
    numbered by size, the larger first, equals in the order of their first text.

    Raises:
        ValueError: distance outside (0, 1].
    Edge cases: no texts: no clusters; one: one cluster; texts without a word in any of them: all in one cluster.
    Source: scikit-learn's TfidfVectorizer and AgglomerativeClustering; Perez 2022 (arXiv 2202.03286) section 3.4
        clusters by fastText vectors and k-means, this needs no vectors and no number of clusters.
    """
    if not 0 < distance <= 1:
        raise ValueError(f"distance is {distance}; it must lie in (0, 1]")
    if not texts:
        return Clusters((), ())
    import numpy as np
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        vectors = vectorizer.fit_transform(texts).toarray()
    except ValueError:  # no words but stop words
        return Clusters((0,) * len(texts), ("",))
    filled = vectors.any(axis=1)
    raw = np.full(len(texts), -1)  # texts without words, whose cosine is not defined, stay together
    if filled.sum() == 1:
        raw[filled] = 0
    else:
        method = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=distance)
        raw[filled] = method.fit_predict(vectors[filled])
    kinds = list(dict.fromkeys(raw.tolist()))
    order = sorted(kinds, key=lambda kind: -int((raw == kind).sum()))
    words = vectorizer.get_feature_names_out()
    names = []
    for kind in order:
        weight = vectors[raw == kind].mean(axis=0)
        heaviest = [index for index in np.argsort(-weight, kind="stable") if weight[index] > 0]
        names.append(", ".join(str(words[index]) for index in heaviest[:NAMING]))
    return Clusters(tuple(order.index(kind) for kind in raw.tolist()), tuple(names))
