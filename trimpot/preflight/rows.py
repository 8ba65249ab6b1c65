"""Checks of rows: repeated ones, ones that the evaluation holds too, empty answers, cut ones. No model runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trimpot.core.hashing import content_hash
from trimpot.core.rows import ChatRow, FeedbackRow, Message, PreferencePair, PromptRow, Row, StepsRow, TextRow
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError

TRUNCATED = 0.05
"""Share of rows that may be cut."""
NAMED = 3
"""Rows that a text names."""


def duplicates(built: Built, deadline: Deadline) -> Found:
    """Rows of equal content, where they come from aside; a pair with its two answers exchanged is the same pair.

    Source: ours.

    Example: of the rows a, b, a, a two are there again: failed with 2.
    """
    seen: dict[str, Row] = {}
    again = []
    for row in built.rows:
        key = _content(row)
        if key in seen:
            again.append(f"{row.origin} as {seen[key].origin}")
        seen.setdefault(key, row)
    return Found(not again, float(len(again)), _counted(again, len(built.rows), "are there twice"))


def train_test_overlap(built: Built, deadline: Deadline) -> Found:
    """Rows whose prompt an evaluation row has too, letter case and white space aside.

    Source: ours.
    """
    if not built.evaluation:
        raise NotApplicableError("there are no evaluation rows")
    held = {_prompt(row) for row in built.evaluation}
    both = [str(row.origin) for row in built.rows if _prompt(row) in held]
    return Found(not both, float(len(both)), _counted(both, len(built.rows), "have a prompt of the evaluation"))


def empty_targets(built: Built, deadline: Deadline) -> Found:
    """Rows that teach nothing: no token of a branch is a target, or the answer is white space.

    Source: ours.
    """
    empty = []
    for row, sample in zip(built.rows, built.samples, strict=True):
        answers = _answers(row)
        blank = any(not answer.strip() for answer in answers)
        unsupervised = bool(answers) and any(not branch.targets for branch in sample.branches)
        if blank or unsupervised:
            empty.append(str(row.origin))
    return Found(not empty, float(len(empty)), _counted(empty, len(built.rows), "have an empty answer"))


def truncation(built: Built, deadline: Deadline) -> Found:
    """The share of rows that max_length cuts.

    Source: ours; 5% too.
    """
    if not built.rows:
        raise NotApplicableError("there are no rows")
    share = built.truncated_rows / len(built.rows)
    text = f"{built.truncated_rows} of {len(built.rows)} rows are cut ({share:.1%})"
    return Found(share <= TRUNCATED, share, text)


def _content(row: Row) -> str:
    if isinstance(row, PreferencePair):
        sides = sorted(content_hash([one.as_dict() for one in side]) for side in (row.chosen, row.rejected))
        return content_hash([[one.as_dict() for one in row.prompt], *sides])
    return row.id


def _prompt(row: Row) -> tuple[tuple[str, str], ...]:
    """What comes before a row's first answer, as it is compared."""
    if isinstance(row, TextRow):
        return (("text", _plain(row.text)),)
    turns: Sequence[Message] = row.messages if isinstance(row, ChatRow) else row.prompt
    if isinstance(row, ChatRow):
        answers = [place for place, one in enumerate(turns) if one.role == "assistant"]
        turns = turns[: answers[0]] if answers and answers[0] else turns
    return tuple((one.role, _plain(one.content)) for one in turns)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _answers(row: Row) -> list[str]:
    """The texts that a row teaches; a turn of tool calls has none that could be empty."""
    if isinstance(row, PromptRow):
        return []
    if isinstance(row, TextRow):
        return [row.text]
    if isinstance(row, StepsRow):
        return list(row.steps)
    if isinstance(row, ChatRow):
        sides = [row.messages]
    else:
        sides = [row.completion] if isinstance(row, FeedbackRow) else [row.chosen, row.rejected]
    return [one.content for side in sides for one in side if one.role == "assistant" and not one.tool_calls]


def _counted(found: Sequence[str], total: int, what: str) -> str:
    if not found:
        return f"none of {total} rows"
    named = ", ".join(f"{place} ({count} times)" if count > 1 else place for place, count in
                      Counter(found[:NAMED]).items())  # fmt: skip
    return f"{len(found)} of {total} rows {what}: {named}{', …' if len(found) > NAMED else ''}"


CHECKS = (
    Check(
        "duplicates",
        "Is any row there twice?",
        "0 rows",
        20,
        "Take the repeated rows out: they count double, and one of them can end on the other side of a split.",
        duplicates,
        rows_only=True,
    ),
    Check(
        "train_test_overlap",
        "Does the evaluation hold a prompt that is trained on?",
        "0 rows",
        20,
        "Take those rows out of one of the two, or the evaluation measures memory.",
        train_test_overlap,
        rows_only=True,
    ),
    Check(
        "empty_targets",
        "Does every row have an answer with something in it?",
        "0 rows",
        20,
        "Take those rows out, or mend the field that their answer is read from.",
        empty_targets,
        rows_only=True,
    ),
    Check(
        "truncation",
        "How many rows does max_length cut?",
        "at most 5%",
        5,
        "Raise max_length, or split the long rows: a cut answer teaches no end.",
        truncation,
        rows_only=True,
    ),
)
