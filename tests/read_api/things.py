"""One of everything that can be asked about. A new kind of stream gets its example here."""

from __future__ import annotations

from uuid import UUID

from events.company import COMPANY
from tests.projections.world import World, day, eur

ANN, LEAD, DEAL, ORDER, PAYMENT, TICKET = (UUID(int=n) for n in range(11, 17))
THINGS = {
    "customers": ANN,
    "leads": LEAD,
    "opportunities": DEAL,
    "orders": ORDER,
    "payments": PAYMENT,
    "tickets": TICKET,
    "streams": ORDER,
}
"""By the word of a path before its id, what a question may be about."""
AT = day("2026-03-02")


def place_of(path: str) -> str:
    """The path of a question, about the thing that the company has."""
    if "{id}" not in path:
        return path
    kind = path.partition("/{")[0].rpartition("/")[2]
    assert kind in THINGS, f"add the id of an example of {kind} to tests/read_api/things.py"
    return path.format(id=THINGS[kind])


def fill_in(made: World, more: int = 0) -> None:
    """Do one of everything, with a value of every closed list and of every limit.

    Args:
        more: what to add to the ids, for another one of each.
    """
    ann, lead, deal, order, payment, ticket = (
        UUID(int=thing.int + more) for thing in (ANN, LEAD, DEAL, ORDER, PAYMENT, TICKET)
    )
    made.do("customers/register", ann, AT, name="Ann", kind="store", annual_revenue=eur("10"))
    made.do("customers/log-interaction", ann, AT, channel="call", summary="hello")
    a_promise = {"promise_id": UUID(int=21), "what": "a discount", "amount": eur("10")}
    made.do("customers/make-promise", ann, AT, **a_promise)
    made.do("leads/capture", lead, AT, name="Grace")
    made.do("leads/claim", lead, AT)
    made.do("leads/qualify", lead, AT, budget=eur("10"))
    line = {"product": "Pump", "quantity": "10.00", "unit_price": eur("10"), "discount": "50"}
    asked = {"title": "Pumps", "customer_id": ann, "owner": "ada", "amount": eur("10")}
    made.do("opportunities/open", deal, AT, **asked)
    made.do("opportunities/quote", deal, AT, lines=[line])
    made.do("orders/place", order, AT, customer_id=ann, owner="ada", lines=[line])
    plan = [{"due": "2026-03-30", "amount": eur("50")}]
    made.do("orders/plan-payments", order, AT, instalments=plan)
    made.do("payments/receive", payment, AT, customer_id=ann, amount=eur("4"))
    to_order = {"order_id": order, "amount": eur("4")}
    made.do("payments/allocate", payment, AT, allocations=[to_order])
    wish = {"channel": "call", "kind": "complaint", "priority": "urgent", "subject": "-"}
    made.do("tickets/open", ticket, AT, customer_id=ann, **wish)
    made.do("tickets/wait", ticket, AT, reason="parts")


def settle_in(made: World) -> None:
    """Give the company its settings."""
    stages = [
        {"name": "try", "kind": "open", "probability": "0.5"},
        {"name": "won", "kind": "won"},
        {"name": "lost", "kind": "lost"},
    ]
    made.do("companies/define-pipeline", COMPANY, AT, name="sales", stages=stages)
    made.do("companies/set-time-zone", COMPANY, AT, time_zone="Europe/Paris")
