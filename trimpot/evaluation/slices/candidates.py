"""Candidates for slices: shallow trees over metadata, then clusters of text. Found on one half, tested on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimpot.evaluation.slices.compare import Items, excess_error

Bools = NDArray[np.bool_]
DEPTH = 3
CLUSTERS = 8
KEPT = 3
"""Candidates of either kind that are tested: the worst ones of the half they were found on."""
PER_CLUSTER = 20
"""Items of the half, at least, for each cluster of text."""


@dataclass(frozen=True)
class Candidate:
    """A slice that errs more on the half it was found on: its name, kind, and which items of a table it holds."""

    name: str
    kind: str
    inside: Callable[[Items], Bools]


def tree_candidates(items: Items, seed: int) -> list[Candidate]:
    """The nodes of a regression tree of the errors over the items' metadata (``name=value`` or not), of depth 3.

    Edge cases: metadata that do not vary: none.
    """
    from sklearn.tree import DecisionTreeRegressor

    names = sorted(
        {f"{name}={value}" for place in range(len(items)) for name, value in items.attributes(place).items()}
    )
    features = _features(items, names)
    varying = np.flatnonzero(features.any(axis=0) & ~features.all(axis=0)) if len(names) else np.zeros(0, int)
    if not varying.size:
        return []
    kept = [names[place] for place in varying]
    leaf = max(10, len(items) // 20)
    model = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=leaf, random_state=seed % 2**32)
    model.fit(features[:, varying].astype(float), items.errors)
    found = [
        Candidate(" & ".join(sorted(_written(kept, rule))), "metadata", _rule(kept, rule))
        for rule in _rules(model.tree_, 0, ())
        if rule
    ]
    return _worst(items, found)


def text_candidates(items: Items, seed: int) -> list[Candidate]:
    """Clusters of the items' prompts: k-means on TF-IDF, named by the three words that weigh most in their centre.

    Edge cases: texts without words of their own, or too few items for two clusters: none.
    """
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    count = min(CLUSTERS, len(items) // PER_CLUSTER)
    if count < 2:
        return []
    # What nearly all prompts hold is their template.
    vectorizer = TfidfVectorizer(stop_words="english", min_df=2, max_df=0.8, token_pattern=r"(?u)\b[^\W\d_]{2,}\b")
    try:
        matrix = vectorizer.fit_transform(_texts(items))
    except ValueError:
        return []
    different = len({tuple(row.indices) for row in matrix})
    if different < count:
        return []
    model = KMeans(n_clusters=count, n_init=4, random_state=seed % 2**32).fit(matrix)
    words = vectorizer.get_feature_names_out()

    def inside_of(cluster: int) -> Callable[[Items], Bools]:
        return lambda table: model.predict(vectorizer.transform(_texts(table))) == cluster

    found = []
    for number, centre in enumerate(model.cluster_centers_):
        top = [str(words[place]) for place in np.argsort(-centre, kind="stable")[:3] if centre[place] > 0]
        found.append(
            Candidate(
                "texts with " + ", ".join(top) if top else "texts without common words", "text", inside_of(number)
            )
        )
    return _worst(items, found)


def _worst(items: Items, found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that err more than the rest, worst t first, each set of items once, at most ``KEPT``."""
    ranked: list[tuple[float, Candidate]] = []
    seen: set[bytes] = set()
    for one in found:
        inside = one.inside(items)
        difference = excess_error(items, inside)
        error = difference.standard_error
        if inside.tobytes() in seen or difference.value is None or difference.value <= 0 or not error:
            continue
        seen.add(inside.tobytes())
        ranked.append((difference.value / error, one))
    return [one for _, one in sorted(ranked, key=lambda pair: (-pair[0], pair[1].name))[:KEPT]]


Rule = tuple[tuple[int, bool], ...]
"""Which features hold or do not hold."""


def _rules(tree: Any, node: int, above: Rule) -> list[Rule]:
    """The rule of every node of a tree, below and with ``node``."""
    if tree.children_left[node] == -1:
        return [above]
    feature = int(tree.feature[node])
    left = _rules(tree, tree.children_left[node], (*above, (feature, False)))
    return [above, *left, *_rules(tree, tree.children_right[node], (*above, (feature, True)))]


def _written(names: Sequence[str], rule: Rule) -> list[str]:
    return [names[place] if holds else names[place].replace("=", "≠", 1) for place, holds in rule]


def _rule(names: Sequence[str], rule: Rule) -> Callable[[Items], Bools]:
    def inside(items: Items) -> Bools:
        features = _features(items, [names[place] for place, _ in rule])
        return (features == np.array([holds for _, holds in rule])).all(axis=1)

    return inside


def _features(items: Items, names: Sequence[str]) -> Bools:
    """Which item has which ``name=value``. Shapes: [n, names]."""
    held = [{f"{name}={value}" for name, value in items.attributes(place).items()} for place in range(len(items))]
    return np.array([[name in some for name in names] for some in held], bool).reshape(len(items), len(names))


def _texts(items: Items) -> list[str]:
    return [one.prompt for one in items.outcomes]
