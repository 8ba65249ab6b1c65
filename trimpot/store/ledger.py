"""The ledger: what was predicted before a study ran, and what its runs gave."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    DDL,
    URL,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.schema import CreateTable

from trimpot.core.errors import UsageError
from trimpot.core.hashing import bytes_hash, content_hash
from trimpot.store.environment import now

RUN_STATUSES = ("done", "failed")
_WAIT_SECONDS = 30
_GIVE_ONE = "Give one such as sqlite:///ledger.sqlite or postgresql+psycopg://user@host/name."
_METADATA = MetaData()
_STUDIES = Table(
    "studies", _METADATA,
    Column("id", String(200), primary_key=True),
    Column("created", String(40), nullable=False),
)  # fmt: skip
_HYPOTHESES = Table(
    "hypotheses", _METADATA,
    Column("plan_hash", String(64), primary_key=True),
    Column("study", ForeignKey(_STUDIES.c.id), nullable=False),
    Column("plan", Text, nullable=False),
    Column("created", String(40), nullable=False),
)  # fmt: skip
_RUNS = Table(
    "runs", _METADATA,
    Column("plan_hash", ForeignKey(_HYPOTHESES.c.plan_hash), primary_key=True),
    Column("arm", String(200), primary_key=True),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("study", ForeignKey(_STUDIES.c.id), nullable=False),
    Column("status", String(20), nullable=False),
    Column("result", Text, nullable=False),
    Column("created", String(40), nullable=False),
)  # fmt: skip
# The database itself refuses to change a prediction once it is there.
_TRIGGERS = [
    DDL(
        f"CREATE TRIGGER IF NOT EXISTS hypotheses_no_{verb} BEFORE {verb} ON hypotheses "
        "BEGIN SELECT RAISE(ABORT, 'a hypothesis is not edited after it is written'); END"
    )
    for verb in ("update", "delete")
]


def default_url() -> str:
    """TRIMPOT_LEDGER if it is set, else a SQLite file in the user's data folder."""
    if url := os.environ.get("TRIMPOT_LEDGER"):
        return url
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return f"sqlite:///{Path(home) / 'trimpot' / 'ledger.sqlite'}"


def default_exists() -> bool:
    """Whether there is a ledger at the default address: a file that is there, or any database that is no file."""
    parsed = _parsed(default_url())
    return parsed.get_backend_name() != "sqlite" or Path(str(parsed.database)).exists()


class Ledger:
    """Studies, hypotheses and runs in a database; safe for several processes at once.

    Raises:
        UsageError: the URL is no database URL, its driver is not installed, or the database cannot be reached.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url or default_url()
        self._engine = _engine(self.url)
        with self._transaction() as connection:
            for table in _METADATA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            if connection.dialect.name == "sqlite":
                for trigger in _TRIGGERS:
                    connection.execute(trigger)

    def record_hypothesis(self, study: str, plan: Mapping[str, Any]) -> str:
        """Writes the plan of a study before its first run and returns the plan's hash. The same again is no change.

        Raises:
            UsageError: another plan, or another study, is written under this hash.
        """
        plan_hash, text = content_hash(dict(plan)), _canonical(plan)
        self._insert_or_keep(_STUDIES, id=study, created=now())
        self._insert_or_keep(_HYPOTHESES, plan_hash=plan_hash, study=study, plan=text, created=now())
        stored = self._hypothesis_row(plan_hash)
        if stored is None or stored["plan"] != text or stored["study"] != study:
            owner = stored["study"] if stored else "?"
            raise UsageError(
                f"hypothesis {plan_hash}",
                f"is already written, for study {owner}, and a hypothesis is not edited",
                "Change the plan (arms, seeds, metric or decision rule) or use that study.",
            )
        return plan_hash

    def hypothesis(self, plan_hash: str) -> dict[str, Any] | None:
        """study, plan and created (ISO) of a hypothesis; None when there is none with this hash."""
        row = self._hypothesis_row(plan_hash)
        return row and {**row, "plan": json.loads(row["plan"])}

    def record_run(
        self, plan_hash: str, arm: str, seed: int, result: Mapping[str, Any], status: str = "done"
    ) -> None:  # fmt: skip
        """Writes what one run of an arm gave. The same again is no change.

        ``status`` is done, or failed for a run whose outcome is that it failed (it diverged); a run that was
        merely interrupted is not recorded.

        Raises:
            UsageError: the hypothesis is not written yet, or this run is written with another result.
        """
        if status not in RUN_STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(RUN_STATUSES)}")
        where = f"run {arm}, seed {seed}"
        row = self._hypothesis_row(plan_hash)
        if row is None:
            raise UsageError(where, f"there is no hypothesis {plan_hash}", "Record the hypothesis before its runs.")
        text, key = _canonical(result), {"plan_hash": plan_hash, "arm": arm, "seed": seed}
        self._insert_or_keep(_RUNS, **key, study=row["study"], status=status, result=text, created=now())
        query = select(_RUNS.c.status, _RUNS.c.result).filter_by(**key)
        with self._transaction() as connection:
            stored = connection.execute(query).one()
        if (stored.status, stored.result) != (status, text):
            raise UsageError(
                where,
                f"is already written under hypothesis {plan_hash} with another result",
                "A run is written once; use another seed, or a plan of its own.",
            )

    def runs(self, plan_hash: str) -> list[dict[str, Any]]:
        """study, arm, seed, status, result and created of every run under a hypothesis, by arm and seed."""
        query = (
            select(_RUNS.c.study, _RUNS.c.arm, _RUNS.c.seed, _RUNS.c.status, _RUNS.c.result, _RUNS.c.created)
            .where(_RUNS.c.plan_hash == plan_hash)
            .order_by(_RUNS.c.arm, _RUNS.c.seed)
        )
        with self._transaction() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [{**row, "result": json.loads(row["result"])} for row in rows]

    def verify(self) -> list[str]:
        """What no longer is as it was written, one line for each; an empty list is a sound ledger.

        A plan is what its hash says, and every run stands under a plan. The database refuses edits, but whoever can
        write its file can take the refusal away first.
        """
        hypotheses = select(_HYPOTHESES.c.plan_hash, _HYPOTHESES.c.study, _HYPOTHESES.c.plan)
        orphans = (
            select(_RUNS.c.plan_hash, _RUNS.c.study)
            .where(_RUNS.c.plan_hash.not_in(select(_HYPOTHESES.c.plan_hash)))
            .distinct()
        )
        with self._transaction() as connection:
            plans = connection.execute(hypotheses.order_by(_HYPOTHESES.c.created, _HYPOTHESES.c.plan_hash)).all()
            without = connection.execute(orphans.order_by(_RUNS.c.plan_hash)).all()
        # The hash is of the text itself: an edit that reads the same as JSON is an edit too.
        found = [
            f"hypothesis {row.plan_hash} of study {row.study}: its plan was edited after it was written"
            for row in plans
            if bytes_hash([row.plan.encode()]) != row.plan_hash
        ]
        return found + [f"hypothesis {row.plan_hash} of study {row.study}: is gone, but has runs" for row in without]

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def _hypothesis_row(self, plan_hash: str) -> dict[str, Any] | None:
        query = select(_HYPOTHESES.c.study, _HYPOTHESES.c.plan, _HYPOTHESES.c.created)
        with self._transaction() as connection:
            row = connection.execute(query.where(_HYPOTHESES.c.plan_hash == plan_hash)).mappings().one_or_none()
        return None if row is None else dict(row)

    def _insert_or_keep(self, table: Table, **values: Any) -> None:
        """Inserts in a transaction of its own, so that of two processes one wins and the other sees its row."""
        try:
            with self._transaction() as connection:
                connection.execute(insert(table).values(**values))
        except IntegrityError:
            pass

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            mend = "Check that the address in TRIMPOT_LEDGER can be reached and written."
            raise UsageError(_shown(self.url), f"the ledger cannot be used: {error.orig}", mend) from error


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise UsageError("TRIMPOT_LEDGER", "is no database URL", _GIVE_ONE) from error


def _engine(url: str) -> Engine:
    parsed = _parsed(url)
    try:
        backend = parsed.get_backend_name()
        if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": _WAIT_SECONDS}} if backend == "sqlite" else {}
        engine = create_engine(url, **options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError("TRIMPOT_LEDGER", "is no database URL", _GIVE_ONE) from error
    except ModuleNotFoundError as error:
        mend = "Install the driver: pip install 'trimpot[postgres]'."
        raise UsageError(_shown(url), f"the driver {error.name} is not installed", mend) from error
    except OSError as error:
        raise UsageError(_shown(url), f"its folder cannot be made ({error.strerror})", "Set TRIMPOT_LEDGER.") from error
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    """A log that is written ahead lets readers and one writer go on at once; writers wait for each other."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
