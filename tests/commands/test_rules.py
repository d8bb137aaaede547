"""What the API says may refuse a command is what does."""

from __future__ import annotations

from commands.catalog import CATALOG
from tests.commands.witnesses import witnesses


def test_every_rule_that_a_command_names_can_refuse_it_and_no_other_does() -> None:
    refusing: dict[str, set[str]] = {}
    for command, rule in witnesses():
        refusing.setdefault(command, set()).add(rule.__name__)
    named = {
        f"{plural}/{verb}": {rule.__name__ for rule in command.rules}
        for plural, streams in CATALOG.items()
        for verb, command in streams.commands.items()
        if command.rules
    }
    assert refusing == named
