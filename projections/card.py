"""A customer's record with contacts and owners."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from projections.asking.rows import send
from projections.asking.shape import Shape
from projections.customers import SELECT, CustomerShape
from projections.engine.tables import Connection


class ContactShape(Shape):
    """A contact person of the customer."""

    id: UUID
    name: str | None
    email: str | None
    phone: str | None
    title: str | None
    role: str | None
    added_at: datetime | None


class OwnerShape(Shape):
    """From when on a rep, or nobody, owned the customer."""

    owner: str | None
    since: datetime
    actor: str
    reason: str | None


class InteractionShape(Shape):
    """An interaction with the customer: a call, a mail, a meeting."""

    version: int
    occurred_at: datetime
    actor: str
    channel: str
    summary: str
    contact_id: UUID | None
    inbound: bool
    minutes: int | None


class Card(CustomerShape):
    """A customer's record with contacts and owners."""

    contacts: list[ContactShape]
    owners: list[OwnerShape]


CONTACTS_OF = """
SELECT contact_id AS id, name, email, phone, title, role, added_at FROM contacts
 WHERE customer_id = %(id)s AND removed_at IS NULL ORDER BY version
"""
OWNERS_OF = """
SELECT owner, occurred_at AS since, actor, reason FROM account_facts
 WHERE customer_id = %(id)s AND (owner IS NOT NULL OR kind = 'released') ORDER BY version
"""


def send_card(conn: Connection, customer_id: UUID) -> Callable[[], Card | None]:
    """Ask for a customer's record with contacts and owners, or None."""
    of = {"id": customer_id}
    record = send(conn, CustomerShape, f"{SELECT} AND customer_id = %(id)s", of)
    contacts = send(conn, ContactShape, CONTACTS_OF, of)
    owners = send(conn, OwnerShape, OWNERS_OF, of)

    def card() -> Card | None:
        for found in record():
            return Card.of(found, contacts=contacts(), owners=owners())
        return None

    return card
