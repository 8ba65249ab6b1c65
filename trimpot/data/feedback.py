"""Feedback rows need each other: both classes for a contrast, and other rows' answers for a KL baseline."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.rows import FeedbackRow, Messages


def refuse_one_class(rows: Sequence[FeedbackRow]) -> None:
    """Raises UsageError when several rows are all desirable or all undesirable. One row alone shows nothing."""
    classes = {row.desirable for row in rows}
    if len(rows) > 1 and len(classes) == 1:
        where = rows[0].origin.file or "feedback rows"
        problem = f"all {len(rows)} rows are {'desirable' if rows[0].desirable else 'undesirable'}: nothing to contrast"
        raise UsageError(where, problem, "Add rows of the other class, or imitate the desirable ones with SFT.")


def mismatched_answers(rows: Sequence[FeedbackRow]) -> dict[str, Messages | None]:
    """Row id -> an answer to another prompt: that of the row before, cyclically, over all rows.

    A row before with the same prompt (the other half of a pair) or the same answer does not serve; the one before it
    is tried next. A row that occurs twice gets one mismatched answer.

    Edge cases: no other prompt with another answer (a single row): None. No rows: {}.
    Source: KTO (arXiv 2402.01306), which shifts the answers within a batch as TRL 1.16 does; over the
        whole data set, with rows of the same prompt or answer passed over, is ours.
    """
    distinct = list({row.id: row for row in rows}.values())
    prompts = [content_hash([message.as_dict() for message in row.prompt]) for row in distinct]
    answers = [content_hash([message.as_dict() for message in row.completion]) for row in distinct]
    none = len(set(prompts)) < 2 or len(set(answers)) < 2
    found: dict[str, Messages | None] = {}
    for index, row in enumerate(distinct):
        before = () if none else ((index - step) % len(distinct) for step in range(1, len(distinct)))
        fitting = (k for k in before if prompts[k] != prompts[index] and answers[k] != answers[index])
        chosen = next(fitting, None)
        found[row.id] = None if chosen is None else distinct[chosen].completion
    return found
