"""The tables of the response ledger, for any database SQLAlchemy speaks."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData()
_ROW_ID: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only a plain INTEGER

positions: Final = Table(
    "positions",
    METADATA,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
)
"""Per partition, the offset of the first record that is not in this ledger yet."""

releases: Final = Table(
    "releases",
    METADATA,
    Column("partition", Integer, nullable=False),
    Column("deployment", String(256), nullable=False),
    Column("release", String(256), nullable=False),
    Column("role", String(16), nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("partition", "deployment", "release"),
)
"""The latest declaration of every release *as its partition saw it*.

Declarations reach every partition, and partitions lag differently: one shared row would let a slow partition
put an old role back.
"""

rulings: Final = Table(
    "rulings",
    METADATA,
    Column("decision_id", String(64), primary_key=True),
    Column("outcome", String(64), nullable=False),
    Column("action_id", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("decision", Text, nullable=False),
)
"""Every decision once, with what became of it."""

acts: Final = Table(
    "acts",
    METADATA,
    Column("action_id", String(64), primary_key=True),
    Column("decision_id", String(64), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("deployment", String(256), nullable=False),
    Column("from_release", String(256), nullable=False),
    Column("to_release", String(256), nullable=False),
    Column("target", String(64), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("called_at_ms", BigInteger, nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("decision", Text, nullable=False),
)
"""One row per act. Every change names the state and the version it started from."""

transitions: Final = Table(
    "transitions",
    METADATA,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("action_id", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    UniqueConstraint("action_id", "seq"),
)
"""The audit: rows are added, never changed."""

outbox: Final = Table(
    "outbox",
    METADATA,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("notice_id", String(64), nullable=False, unique=True),
    Column("decision_id", String(64), nullable=False),
    Column("transition", String(32), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("state", String(8), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("reason", String(256), nullable=False),
    Column("notice", Text, nullable=False),
)
"""What people are to be told, written in the transaction of the transition it tells of."""

settlements: Final = Table(
    "settlements",
    METADATA,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("notice_id", String(64), nullable=False, unique=True),
)
"""The notices that ended, in the order in which they ended: what is copied elsewhere follows this order."""

copied: Final = Table(
    "copied",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("row_id", BigInteger, nullable=False),
)
"""Per table, the last row whose copy is in the log."""

watches: Final = Table(
    "watches",
    METADATA,
    Column("action_id", String(64), nullable=False),
    Column("test", String(16), nullable=False),
    Column("release", String(256), nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("mean", Float, nullable=False),
    Column("baseline", Float, nullable=True),
    Column("direction", String(16), nullable=False),
    PrimaryKeyConstraint("action_id", "test", "release", "at_ms"),
)
"""What verification has seen, per open act; kept afterwards as its evidence."""
