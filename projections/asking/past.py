"""A past view: some streams' events, chosen by both clocks, through the very same projectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

from events.ledger import ledger
from events.ledger.keys import Keyring
from projections.asking.clocks import Moment
from projections.engine.folding import fold, readable
from projections.engine.model import ReadModel
from projections.engine.progress import skipped
from projections.engine.tables import Connection, Rows


@contextmanager
def past(
    conn: Connection,
    keyring: Keyring,
    models: Iterable[ReadModel],
    stream_ids: Collection[UUID],
    when: Moment,
    about: UUID,
    beside: Collection[UUID] = (),
) -> Iterator[None]:
    """Inside, the read models' tables hold these streams only, as they were at that moment.

    The first event of the stream that they are ``about`` counts as soon as any of theirs does, for
    history may be entered of a customer that was registered later.

    Of the streams ``beside`` everything known counts, whenever it occurred: what was in force when
    is for the queries to say.

    Tables of sums are empty: they are made of more streams than these.

    The rows stand in temporary tables, which PostgreSQL finds before the live ones; they vanish
    with the surrounding transaction, which the caller rolls back. The connection must not prepare
    statements: a statement prepared on the live tables would go on reading those.

    Raises:
        Poison: at an event that a critical read model cannot take.
    """
    known = [
        row
        for row in ledger.read_streams(conn, [*stream_ids, *beside])
        if when.known_at is None or row.position <= when.known_at
    ]
    others = [row for row in known if row.stream_id in beside]
    known = [row for row in known if row.stream_id not in beside]
    chosen = [row for row in known if when.as_of is None or row.occurred_at < when.as_of]
    if chosen and when.as_of is not None:
        begun = [row for row in known if row.stream_id == about and row.version == 1]
        chosen = sorted({*chosen, *begun}, key=lambda row: row.position)
    chosen = sorted([*chosen, *others], key=lambda row: row.position)
    batch = readable(conn, keyring, chosen)
    for model in models:
        rows, _ = fold(
            model,
            partial(Rows, model.tables, "pg_temp."),
            batch,
            {},
            skipped(conn, model.name),
        )
        for table in model.tables:
            conn.execute(table.ddl("pg_temp.").encode())
        rows.flush(conn)
    yield
