"""Two processes, one database, one lead: whoever is first gets it, and the others are told so."""

from __future__ import annotations

import asyncio
from collections import Counter
from multiprocessing import get_context
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from aggregates.lead import LeadOwned
from commands.handling.request import Request
from commands.http.problems import Answer, render
from events.ledger import ledger
from tests.commands.making import capture, claim, events_of, state_at, tell, writer_on

CLAIMS = 25


class Race(NamedTuple):
    """What one process is to do: claims of one lead, each by a rep of its own, all at once."""

    url: str
    lead: UUID
    team: str
    if_match: int | None


def claims_of(race: Race) -> list[Request]:
    return [
        claim(race.lead, by=f"{race.team} {n}", key="race", if_match=race.if_match)
        for n in range(CLAIMS)
    ]


def refusals(url: str) -> list[str]:
    """Whose refused claims the ledger keeps."""
    with ledger.connect(url) as conn:
        rows = conn.execute("SELECT actor FROM ledger.outcomes WHERE status = 'refused'")
        return [actor for (actor,) in rows]


def run(race: Race, ready: Any, answers: Any) -> None:
    """One process of the two; it waits for the other before it begins."""

    async def all_at_once() -> list[Answer]:
        handled = await asyncio.gather(*[writer.submit([asked]) for asked in claims_of(race)])
        return [render(outcome) for [outcome] in handled]

    with writer_on(race.url, started=True) as writer:
        ready.wait()
        told = asyncio.run(all_at_once())
    answers.put((race.team, told))


def race(url: str, lead: UUID, if_match: int | None = None) -> dict[str, Answer]:
    """The answers to both processes' claims, by who claimed."""
    spawn = get_context("spawn")
    ready, answers = spawn.Barrier(2), spawn.Queue()
    teams = [Race(url, lead, team, if_match) for team in ("north", "south")]
    processes = [spawn.Process(target=run, args=(team, ready, answers)) for team in teams]
    for process in processes:
        process.start()
    told = dict(answers.get(timeout=180) for _ in processes)
    for process in processes:
        process.join()
        process.close()
    answers.close()
    answers.join_thread()
    return {
        f"{team} {n}": answer for team, theirs in told.items() for n, answer in enumerate(theirs)
    }


def test_of_fifty_claims_one_succeeds_and_each_refusal_is_true(ledger_url: str) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(lead))
    answers = race(ledger_url, lead)
    assert Counter(answer.status for answer in answers.values()) == {200: 1, 409: 49}
    [winner] = [rep for rep, answer in answers.items() if answer.status == 200]
    events = events_of(ledger_url, lead)
    assert [(event.type, event.actor) for event in events] == [
        ("lead.captured", "ada"),
        ("lead.claimed", winner),
    ]
    for rep, answer in answers.items():
        if rep == winner:
            continue
        assert answer.body["rule"] == "LeadOwned"
        state = state_at(ledger_url, claim(lead), answer.body["version"])
        try:
            state.claim(rep)
        except LeadOwned:
            assert state.owner == winner
        else:
            raise AssertionError(f"{rep} was refused at a version at which the lead was free")
    assert set(refusals(ledger_url)) == set(answers) - {winner}


def test_of_fifty_claims_at_one_version_one_succeeds_and_the_others_may_read_again(
    ledger_url: str,
) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(lead))
    answers = race(ledger_url, lead, if_match=1)
    assert Counter(answer.status for answer in answers.values()) == {200: 1, 412: 49}
    assert {answer.version for answer in answers.values()} == {2}
    assert len(events_of(ledger_url, lead)) == 2
    assert refusals(ledger_url) == []
