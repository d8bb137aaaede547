import base64
import hashlib
from uuid import UUID

import pytest

from events.ledger.keys import (
    CACHED_SECONDS,
    HASH_BYTES,
    GroupKeys,
    Keyring,
    SubjectKey,
    Tampered,
    WrongMasterKey,
)
from events.ledger.ledger import Connection

GRACE, ADA = UUID(int=1), UUID(int=2)
MASTER, OTHER = bytes(range(32)), bytes(32)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def put(conn: Connection, subject: UUID, wrapped: bytes) -> None:
    conn.execute("INSERT INTO vault.keys VALUES (%s, %s)", (subject, wrapped))


def made(conn: Connection, subject: UUID, keyring: Keyring) -> SubjectKey:
    """A subject's key, in the vault but not yet in the keyring."""
    key, wrapped = keyring.create(subject)
    put(conn, subject, wrapped)
    return key


def test_the_first_master_key_is_the_ledgers_for_ever(service: Connection) -> None:
    Keyring(MASTER).verify(service)
    Keyring(MASTER).verify(service)
    with pytest.raises(WrongMasterKey, match="PLEDGE_MASTER_KEY"):
        Keyring(OTHER).verify(service)


def test_a_wrong_master_key_does_not_take_the_right_ones_place(service: Connection) -> None:
    Keyring(MASTER).verify(service)
    with pytest.raises(WrongMasterKey):
        Keyring(OTHER).verify(service)
    Keyring(MASTER).verify(service)


def test_the_vault_does_not_hold_the_master_key(service: Connection) -> None:
    Keyring(MASTER).verify(service)
    (check,) = service.execute("SELECT master_check FROM vault.master").fetchone() or ()
    assert MASTER not in bytes(check)


def test_a_key_comes_out_of_the_vault_as_it_went_in(service: Connection) -> None:
    key = made(service, GRACE, Keyring(MASTER))
    keyring = Keyring(MASTER)
    keyring.load(service, [GRACE])
    found = keyring.get(GRACE)
    assert found is not None
    assert found.open(key.seal("hello", b"here"), b"here") == "hello"


def test_the_vault_holds_keys_wrapped_only(service: Connection) -> None:
    key, wrapped = Keyring(MASTER).create(GRACE)
    put(service, GRACE, wrapped)
    with pytest.raises(WrongMasterKey, match=str(GRACE)):
        Keyring(OTHER).load(service, [GRACE])
    assert key.seal("x", b"") != key.seal("x", b"")


def test_a_wrapped_key_is_of_no_use_to_another_subject(service: Connection) -> None:
    _, wrapped = Keyring(MASTER).create(GRACE)
    put(service, ADA, wrapped)
    with pytest.raises(WrongMasterKey, match=str(ADA)):
        Keyring(MASTER).load(service, [ADA])


def test_a_damaged_wrapped_key_is_refused(service: Connection) -> None:
    _, wrapped = Keyring(MASTER).create(GRACE)
    put(service, GRACE, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    with pytest.raises(WrongMasterKey):
        Keyring(MASTER).load(service, [GRACE])


def test_each_subject_gets_a_key_of_their_own() -> None:
    keyring = Keyring(MASTER)
    (first, one), (second, two) = keyring.create(GRACE), keyring.create(GRACE)
    assert one != two
    assert second.open(first.seal("hello", b""), b"") is None


def test_a_subject_without_a_key_is_remembered_too(service: Connection) -> None:
    keyring = Keyring(MASTER)
    keyring.load(service, [GRACE])
    assert keyring.get(GRACE) is None
    made(service, GRACE, keyring)
    keyring.load(service, [GRACE])
    assert keyring.get(GRACE) is None, "the vault was asked a moment ago"


def test_a_deleted_key_is_noticed_when_its_time_is_up(service: Connection) -> None:
    clock = Clock()
    keyring = Keyring(MASTER, clock=clock)
    made(service, GRACE, keyring)
    keyring.load(service, [GRACE])
    service.execute("DELETE FROM vault.keys WHERE subject = %s", (GRACE,))

    clock.seconds += CACHED_SECONDS
    keyring.load(service, [GRACE])
    assert keyring.get(GRACE) is not None

    clock.seconds += 1
    keyring.load(service, [GRACE])
    assert keyring.get(GRACE) is None


def test_a_key_that_stays_in_use_is_still_looked_up_again(service: Connection) -> None:
    clock = Clock()
    keyring = Keyring(MASTER, clock=clock)
    made(service, GRACE, keyring)
    keyring.load(service, [GRACE])
    service.execute("DELETE FROM vault.keys WHERE subject = %s", (GRACE,))
    for _ in range(int(CACHED_SECONDS) // 10 + 1):
        clock.seconds += 10
        keyring.load(service, [GRACE])
    assert keyring.get(GRACE) is None


def test_a_forgotten_key_is_looked_up_at_the_next_use(service: Connection) -> None:
    keyring = Keyring(MASTER)
    for subject in (GRACE, ADA):
        made(service, subject, keyring)
    keyring.load(service, [GRACE, ADA])
    service.execute("DELETE FROM vault.keys")
    keyring.forget([GRACE])
    keyring.load(service, [GRACE, ADA])
    assert keyring.get(GRACE) is None
    assert keyring.get(ADA) is not None
    keyring.forget()
    keyring.load(service, [ADA])
    assert keyring.get(ADA) is None


def test_a_keyring_holds_no_more_than_it_is_told_to() -> None:
    keyring = Keyring(MASTER, capacity=2)
    key, _ = keyring.create(GRACE)
    for number in range(10):
        keyring.remember(UUID(int=number), key)
    held = [number for number in range(10) if keyring.get(UUID(int=number))]
    assert held == [8, 9]


def test_a_key_looked_up_again_outlives_the_ones_that_were_not() -> None:
    keyring = Keyring(MASTER, capacity=2)
    key, _ = keyring.create(GRACE)
    for subject in (GRACE, ADA, GRACE, UUID(int=3)):
        keyring.remember(subject, key)
    assert keyring.get(GRACE) is not None


def test_loading_a_new_key_does_not_push_out_an_old_one_of_the_same_batch(
    service: Connection,
) -> None:
    keyring = Keyring(MASTER, capacity=1)
    for subject in (GRACE, ADA):
        made(service, subject, keyring)
    keyring.load(service, [GRACE])
    keyring.load(service, [GRACE, ADA])
    assert keyring.get(GRACE) is not None, "it would read as erased"
    assert keyring.get(ADA) is not None


def test_more_keys_than_the_keyring_holds_can_be_loaded_at_once(service: Connection) -> None:
    keyring = Keyring(MASTER, capacity=2)
    for number in range(3):
        made(service, UUID(int=number), keyring)
    wanted = [UUID(int=number) for number in range(3)]
    keyring.load(service, wanted)
    assert all(keyring.get(subject) for subject in wanted)


def test_what_is_sealed_in_one_context_does_not_open_in_another() -> None:
    key, _ = Keyring(MASTER).create(GRACE)
    sealed = key.seal("hello", b"here")
    assert key.open(sealed, b"here") == "hello"
    with pytest.raises(Tampered):
        key.open(sealed, b"there")


def test_a_changed_text_does_not_open() -> None:
    key, _ = Keyring(MASTER).create(GRACE)
    raw = bytearray(base64.b64decode(key.seal("hello", b"")))
    raw[-1] ^= 1
    with pytest.raises(Tampered):
        key.open(base64.b64encode(raw).decode(), b"")


@pytest.mark.parametrize("text", ["", "x", "葛丽丝 🙂", "\x00", "x" * 100_000])
def test_any_text_can_be_sealed(text: str) -> None:
    key, _ = Keyring(MASTER).create(GRACE)
    assert key.open(key.seal(text, b""), b"") == text


@pytest.mark.parametrize(
    "same",
    [
        "Asks for the Straße plan",
        "asks for the STRASSE plan",
        " Asks  for\nthe\tStraße plan ",
        "\uff21sks for the Straße plan",
    ],
)
def test_a_keyed_hash_knows_a_text_whatever_its_case_spaces_and_forms(same: str) -> None:
    key = SubjectKey(MASTER)
    assert key.hash_of(same) == key.hash_of("Asks for the Straße plan")
    assert key.hash_of("e\u0301te\u0301") == key.hash_of("\u00e9t\u00e9")


def test_a_keyed_hash_tells_other_texts_apart() -> None:
    key = SubjectKey(MASTER)
    assert len({key.hash_of(text) for text in ("a b", "ab", "a-b", "b a", "")}) == 5


def test_one_text_has_another_hash_under_every_key() -> None:
    first, again = (SubjectKey(bytes(range(n, n + 32))).hash_of("hello") for n in (0, 1))
    assert first != again
    assert len(first) == 2 * HASH_BYTES
    assert hashlib.sha256(b"hello").hexdigest()[: len(first)] not in (first, again)


def test_a_group_makes_one_key_for_who_has_none_and_says_which(service: Connection) -> None:
    there = made(service, GRACE, Keyring(MASTER))
    keys = GroupKeys(Keyring(MASTER), service)
    assert keys.hash_of("hello", GRACE) == there.hash_of("hello")
    assert keys.hash_of("hello", ADA) == keys.hash_of("Hello", ADA)
    assert keys.load([GRACE, ADA], newborn=[ADA])[ADA].hash_of("hello") == keys.hash_of(
        "hello", ADA
    )
    [(subject, key, wrapped)] = keys.created([GRACE, ADA])
    put(service, subject, wrapped)
    assert subject == ADA
    assert GroupKeys(Keyring(MASTER), service).hash_of("hello", ADA) == key.hash_of("hello")
    assert keys.created([GRACE]) == []
