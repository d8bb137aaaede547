"""Customers as they were at a past moment, of whom anything had happened by then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from projections.asking.clocks import Moment
from projections.asking.then import last_said, latest, stood
from projections.engine.tables import Table

TAGS = """
coalesce(
    (SELECT jsonb_agg(g.tag ORDER BY g.tag COLLATE "C") FROM (
        SELECT DISTINCT ON (s.tag) s.tag, s.kind FROM account_facts s
         WHERE s.customer_id = t.customer_id AND s.tag IS NOT NULL AND {facts}
         ORDER BY s.tag, s.version DESC
    ) g WHERE g.kind = 'tagged'),
    '[]'
)
"""
SAID = {
    **last_said(
        *("name", "email", "phone", "address", "note", "industry", "region", "website", "source"),
        *("parent", "founded", "employees", "annual_revenue", "annual_revenue_currency"),
    ),
    "kind": latest("s.account_kind", "s.account_kind IS NOT NULL"),
    "owner": latest("s.owner", "s.owner IS NOT NULL OR s.kind = 'released'"),
    "last_contact_at": "max(s.occurred_at) FILTER (WHERE s.kind = 'interaction-logged')",
}
REMOVED = "CASE s.kind WHEN 'contact-removed' THEN s.occurred_at END"
CONTACTS = f"""
contacts AS NOT MATERIALIZED (
    SELECT s.customer_id,
           {latest("s.email", "s.kind = 'contact-added' OR s.email IS NOT NULL")} AS email,
           {latest("s.phone", "s.kind = 'contact-added' OR s.phone IS NOT NULL")} AS phone,
           {latest(REMOVED, "s.kind IN ('contact-added', 'contact-removed')")} AS removed_at
      FROM contact_facts s WHERE {{facts}} GROUP BY s.customer_id, s.contact_id
)
"""
THERE = """
{known} AND ({registered}
    OR EXISTS (SELECT FROM account_facts s WHERE s.customer_id = t.customer_id AND {facts})
    OR EXISTS (SELECT FROM timeline_links l JOIN timeline_entries e USING (stream_id)
                WHERE l.customer_id = t.customer_id AND {links} AND {entries}))
"""


def customers_then(when: Moment, table: Table[Any], facts: Table[Any]) -> str:
    """Common table expressions for customers and their contacts at a past moment.

    A registration counts whenever it occurred, for history may be entered of a customer that was
    registered later.
    """
    counts, known = when.counts("s"), replace(when, as_of=None)
    began = ("t", "registered_at", "registered_position")
    there = THERE.format(
        known=known.counts(*began),
        registered=when.counts(*began),
        facts=counts,
        links=when.counts("l"),
        entries=when.counts("e"),
    )
    past = stood(
        when,
        table,
        facts,
        {**SAID, "tags": TAGS.format(facts=counts)},
        counts=f"({counts} OR s.version = 1 AND {known.counts('s')})",
        there=there,
    )
    return f"{CONTACTS.format(facts=counts)}, {past}"
