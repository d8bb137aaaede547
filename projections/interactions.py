"""Interactions across customers: who talked to whom, by which channel, when."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from projections.asking.clocks import Moment
from projections.asking.listing import By, ListedAt, Listing, Sorted, Where
from projections.asking.parameters import Time, Word
from projections.asking.sorting import Sorts
from projections.card import InteractionShape
from projections.customers import MODEL, CustomerRef, name_at


class AskInteractions(ListedAt, Sorted):
    """What may be asked of interactions across customers."""

    customer_id: Annotated[UUID | None, Where("i.customer_id = %(customer_id)s")] = None
    rep: Annotated[Word, Where("i.actor = %(rep)s")] = None
    channel: Annotated[Word, Where("i.channel = %(channel)s")] = None
    inbound: Annotated[bool | None, Where("i.inbound = %(inbound)s")] = None
    occurred_from: Annotated[Time, Where("i.occurred_at >= %(occurred_from)s")] = None
    occurred_to: Annotated[Time, Where("i.occurred_at < %(occurred_to)s")] = None
    sort: Annotated[
        Word, Sorts("occurred_at", "actor", "channel", "inbound", "minutes", "customer.name")
    ] = None


class InteractionOf(InteractionShape):
    """An interaction, and the customer that it was with."""

    customer: CustomerRef
    position: int


ACROSS = """
SELECT i.version, i.occurred_at, i.actor, i.channel, i.summary, i.contact_id, i.inbound, i.minutes,
       i.customer_id AS "customer.id", {name} AS "customer.name", i.position
  FROM interactions i LEFT JOIN customers c USING (customer_id) WHERE {facts}
"""


def select(when: Moment) -> str:
    """Every interaction that counts at a moment."""
    return ACROSS.format(name=name_at(when, "i"), facts=when.counts("i"))


LIST = Listing(
    path="/interactions",
    name="list_interactions",
    tag="customers",
    says="Interactions with all customers, the latest first.",
    asks=AskInteractions,
    shape=InteractionOf,
    needs=(MODEL,),
    select=select,
    order=(By("i.occurred_at"), By("i.position")),
    is_descending=True,
)
QUESTIONS = (LIST.question(),)
