"""The processes that tail the ledger: projectors, facts, policies, relay.

Each imports what is its own, for they are started often and side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pledge.settings import Settings
from pledge.wiring import Misconfigured, Parts, facts, parts

STOP_SECONDS = 10


def project(settings: Settings, stop: threading.Event, *, from_ledger: bool = False) -> None:
    """Run the projectors of all read models until told to stop; from Kafka, if one is named."""
    from projections.catalog import MODELS
    from projections.engine.runner import Runner
    from projections.engine.sources import FromLedger
    from projections.engine.topic import FromTopic

    bootstrap = None if from_ledger else settings.kafka_bootstrap
    source = FromLedger() if bootstrap is None else FromTopic(bootstrap, settings.kafka_topic)
    with parts(settings) as found:
        Runner(found.connect, found.keyring(), MODELS, source=source).run(stop)


def write_facts(settings: Settings, stop: threading.Event) -> None:
    """Keep the facts that figures are computed from up to the ledger until told to stop."""
    from analytics.facts.writing import Writing

    with parts(settings) as found:
        Writing(found.connect, found.keyring(), facts(settings)).run(stop)


def follow(settings: Settings, stop: threading.Event) -> None:
    """Run the policies until told to stop."""
    with parts(settings) as found:
        _follow(found, stop)


def relay(settings: Settings, stop: threading.Event, *, start_over: bool = False) -> None:
    """Carry events to Kafka until told to stop.

    Raises:
        Misconfigured: when no Kafka is named, or to start over is asked and it does not answer.
    """
    from events.kafka.client import KafkaAway
    from events.kafka.leading import from_the_start
    from events.kafka.relay import Relay
    from events.kafka.topic import TopicUnfit, prepare_topic, tail_of

    bootstrap, topic = settings.kafka_bootstrap, settings.kafka_topic
    if bootstrap is None:
        raise Misconfigured(
            "No Kafka is named. Say where it is: PLEDGE_KAFKA_BOOTSTRAP=host:9092 pledge relay"
        )
    with parts(settings) as found:
        if start_over:
            try:
                topic_id = prepare_topic(bootstrap, topic)
                with found.connect() as conn:
                    from_the_start(conn, topic_id, tail_of(bootstrap, topic, lambda: None))
            except (KafkaAway, TopicUnfit) as error:
                raise Misconfigured(str(error)) from error
        Relay(found.connect, bootstrap, topic).run(stop)


def _follow(found: Parts, stop: threading.Event) -> None:
    from commands.policies import Policies

    writer = found.writer()
    try:
        Policies(found.connect, found.keyring(), writer).run(stop)
    finally:
        writer.stop()


@contextmanager
def following(found: Parts) -> Iterator[None]:
    """The policies in a thread of their own; of several processes one acts."""
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(found, stop), name="policies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
