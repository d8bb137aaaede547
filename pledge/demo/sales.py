"""Deals, and what follows from those that are won: orders, deliveries, payments."""

from __future__ import annotations

from contextlib import suppress

from pledge.demo import promises, service, words
from pledge.demo.account import Account, happens
from pledge.demo.telling import NotYet, Telling
from pledge.demo.words import Product

PATHS = {
    "sales": ("discovery", "proposal"),
    "contract": ("intent", "negotiation", "purchase"),
}
LARGE = 60_000
"""Euros from which a deal goes through the long pipeline, and a colleague looks after it too."""
NET_DAYS = 22
"""Working days from delivery to the day a bill is due."""
TOGETHER_DAYS = 4
"""Bills that a customer pays within so many days are paid by one transfer."""


def sell(telling: Telling, account: Account, deal: str, day: float) -> None:
    """From the first stage to won, lost or still open; a won one becomes an order."""
    dice = account.dice
    product = dice.choice(words.PRODUCTS)
    pieces = max(1, round(dice.lognormvariate(10.1, 0.9) / product.price))
    amount = account.price(product) * pieces
    large = product.price * pieces >= LARGE
    pipeline = "contract" if large else "sales"
    stages = PATHS[pipeline]
    telling.tell(
        day,
        account.owner(day),
        "opportunities/open",
        deal,
        title=f"{account.called(product)} ({pieces})",
        customer_id=telling.id_of(account.key),
        pipeline=pipeline,
        product=product.code,
        amount=account.money(amount),
        expected_close=telling.date_of(day + dice.uniform(20, 60)).isoformat(),
    )
    fate = dice.choices(("won", "lost", "stuck"), (52, 34, 14))[0]
    reached = len(stages) if fate == "won" else dice.randint(1, len(stages))
    for stage in stages[1:reached]:
        day += dice.uniform(3, 18)
        telling.tell(day, account.owner(day), "opportunities/move-stage", deal, stage=stage)
    if reached > 1:
        amount = _negotiated(telling, account, deal, product, pieces, day + 0.5, large=large)
    day += dice.uniform(4, 25)
    if fate == "lost":
        reason = dice.choice(words.LOST_BECAUSE)
        telling.tell(day, account.owner(day), "opportunities/lose", deal, reason=reason)
        promises.prices_settled(telling, account, deal, day + 0.1, won=False)
    elif fate == "won":
        price = account.money(amount)
        telling.tell(day, account.owner(day), "opportunities/win", deal, amount=price)
        promises.prices_settled(telling, account, deal, day + 0.1, won=True)
        _order(telling, account, deal, product, pieces, amount, day + dice.uniform(0.1, 2))


def _negotiated(
    telling: Telling,
    account: Account,
    deal: str,
    product: Product,
    pieces: int,
    day: float,
    *,
    large: bool,
) -> int:
    """Quoted once or twice and perhaps promised; the amount in the end, in cents."""
    dice, amount = account.dice, account.price(product) * pieces
    _quote(telling, account, deal, product, pieces, amount, day)
    if happens(dice, 0.35):
        amount = amount * (100 - dice.choice((3, 5, 8, 10))) // 100
        _quote(telling, account, deal, product, 1, amount, day + dice.uniform(1, 3))
    if happens(dice, 0.4 if large else 0.08):
        promises.two_prices(telling, account, deal, product, amount, day + 1)
    return amount


def _quote(
    telling: Telling,
    account: Account,
    deal: str,
    product: Product,
    pieces: int,
    amount: int,
    day: float,
) -> None:
    line = {
        "product": product.code,
        "quantity": str(pieces),
        "unit_price": account.money(amount // pieces),
    }
    telling.tell(
        day,
        account.owner(day),
        "opportunities/quote",
        deal,
        quote_id=telling.id_of(f"{deal} quote {amount} {pieces}"),
        lines=[line],
        valid_until=telling.date_of(day + NET_DAYS).isoformat(),
    )


def _order(
    telling: Telling,
    account: Account,
    deal: str,
    product: Product,
    pieces: int,
    amount: int,
    day: float,
) -> None:
    dice, order = account.dice, f"order {deal}"
    number = f"S-{account.key.split()[1]}-{deal.rpartition(' ')[2]}"
    called = account.called(product)
    lines = [{"product": product.code, "quantity": "1", "unit_price": account.money(amount)}]
    if amount == account.price(product) * pieces:
        price = account.money(account.price(product))
        lines = [{"product": product.code, "quantity": str(pieces), "unit_price": price}]
    telling.tell(
        day,
        account.owner(day),
        "orders/place",
        order,
        customer_id=telling.id_of(account.key),
        opportunity_id=telling.id_of(deal),
        number=number,
        title=f"{called} ({pieces})",
        lines=lines,
    )
    parts = 3 if amount > account.price(words.PRODUCTS[3]) * 3 else dice.choice((1, 1, 2))
    dues = [day + NET_DAYS * (n + 1) + dice.uniform(0, 3) for n in range(parts)]
    shares = [amount // parts] * (parts - 1)
    shares.append(amount - sum(shares))
    telling.tell(
        day + 0.1,
        words.ACCOUNTS,
        "orders/plan-payments",
        order,
        instalments=[
            {"due": telling.date_of(due).isoformat(), "amount": account.money(share)}
            for due, share in zip(dues, shares, strict=True)
        ],
    )
    if happens(dice, 0.03):
        telling.tell(
            day + 2,
            account.owner(day + 2),
            "orders/cancel",
            order,
            reason="The customer's budget was cut.",
        )
        return
    if account.late is not None:
        account.bills += [
            (due + account.late + dice.uniform(0, max(6, account.late)), order, share)
            for due, share in zip(dues, shares, strict=True)
        ]
    _delivery(telling, account, order, product, amount, day)


def _delivery(
    telling: Telling, account: Account, order: str, product: Product, amount: int, day: float
) -> None:
    dice, called, owner = account.dice, account.called(product), account.owner(day)
    promised = None
    if happens(dice, 0.5):
        what = account.speech.delivery.format(called)
        due = day + dice.randint(8, 18)
        promised = promises.make(
            telling, account, owner, what, day + 0.3, due, topic=f"{what} {order}"
        )
    if happens(dice, 0.15):
        manual = account.speech.manual.format(called)
        kept = promises.make(telling, account, owner, manual, day + 0.4, day + 25)
        if happens(dice, 0.7):
            with suppress(NotYet):
                promises.settle(telling, account, kept, day + dice.uniform(10, 24))
    shipped = day + dice.uniform(5, 16)
    carrier = dice.choice(words.CARRIERS)
    telling.tell(shipped, words.WAREHOUSE, "orders/ship", order, carrier=carrier)
    if promised is not None and happens(dice, 0.9):
        promises.settle(telling, account, promised, shipped + 0.5)
    if happens(dice, 0.12):
        training = account.speech.training.format(called)
        made = promises.make(telling, account, owner, training, shipped + 1, shipped + 30)
        with suppress(NotYet):
            if happens(dice, 0.6):
                promises.settle(telling, account, made, shipped + dice.uniform(8, 34))
    _afterwards(telling, account, order, product, amount, shipped)


def _afterwards(
    telling: Telling, account: Account, order: str, product: Product, amount: int, shipped: float
) -> None:
    """Tickets, quarrels, goods that come back, and the end."""
    dice = account.dice
    for n in range(dice.choices((0, 1, 2), (50, 35, 15))[0]):
        with suppress(NotYet):
            day = shipped + dice.uniform(1, 80)
            service.serve(telling, account, f"{order} ticket {n}", product, day, order)
    if happens(dice, 0.06):
        day = shipped + dice.uniform(1, 8)
        reason = dice.choice(words.DISPUTED)
        telling.tell(day, account.owner(day), "orders/dispute", order, reason=reason)
        day += dice.uniform(5, 40)
        telling.tell(
            day, account.owner(day), "orders/resolve", order, outcome="We agreed on a rebate."
        )
        rebate = account.money(amount // 20)
        telling.tell(
            day + 0.1,
            words.ACCOUNTS,
            "orders/return",
            order,
            amount=rebate,
            reason="rebate after the dispute",
        )
        shipped = day
    telling.tell(shipped + dice.uniform(2, 8), words.WAREHOUSE, "orders/complete", order)


def payments(telling: Telling, account: Account) -> None:
    """What the customer pays, several bills by one transfer where they fall together."""
    dice, transfers = account.dice, list[list[tuple[float, str, int]]]()
    for bill in sorted(account.bills):
        if transfers and bill[0] - transfers[-1][0][0] < TOGETHER_DAYS:
            transfers[-1].append(bill)
        else:
            transfers.append([bill])
    for n, bills in enumerate(transfers):
        day = bills[-1][0]
        fate = dice.choices(("exact", "part", "too much"), (90, 6, 4))[0]
        shares = [cents if fate != "part" else cents * 6 // 10 for _, _, cents in bills]
        extra = dice.randrange(5_000, 90_000) if fate == "too much" else 0
        late_entry = dice.uniform(3, 12) if happens(dice, 0.05) else 0
        payment = f"{account.key} payment {n}"
        whole: dict[str, int] = {}
        for (_, order, _), cents in zip(bills, shares, strict=True):
            whole[order] = whole.get(order, 0) + cents
        telling.tell(
            day,
            words.ACCOUNTS,
            "payments/receive",
            payment,
            entered=day + late_entry,
            customer_id=telling.id_of(account.key),
            amount=account.money(sum(shares) + extra),
            method="transfer",
            reference=f"{account.key.split()[1]}/{n}",
            allocations=[
                {"order_id": telling.id_of(order), "amount": account.money(cents)}
                for order, cents in whole.items()
            ],
        )
        if extra and happens(dice, 0.4):
            telling.tell(
                day + late_entry + dice.uniform(2, 9),
                words.ACCOUNTS,
                "payments/refund",
                payment,
                amount=account.money(extra),
                reason="paid too much",
            )
