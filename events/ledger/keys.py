"""One key per person. To forget a person is to delete their key; the ledger stays as it is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
TAG_BYTES = 4
HASH_BYTES = 16
MARK_BYTES = 8
CACHED_SECONDS = 60.0
"""How long a deleted key may still be known to a running process."""

SELECT_KEYS = "SELECT subject, wrapped FROM vault.keys WHERE subject = ANY(%b)"
SELECT_CHECK = "SELECT master_check FROM vault.master"
INSERT_CHECK = "INSERT INTO vault.master (master_check) VALUES (%b) ON CONFLICT DO NOTHING"


def is_bound(conn: psycopg.Connection[Any]) -> bool:
    """Whether the ledger was begun with a master key."""
    return conn.execute(SELECT_CHECK).fetchone() is not None


class WrongMasterKey(RuntimeError):
    """The master key at hand is not the one that this ledger's keys are wrapped with."""


class Tampered(ValueError):
    """A ciphertext was changed after it was written."""


class SubjectKey:
    """One person's AES-256-GCM key."""

    __slots__ = ("_secret", "aead", "tag")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.aead = AESGCM(secret)
        self.tag = hashlib.sha256(b"pledge subject key" + secret).digest()[:TAG_BYTES]

    def seal(self, text: str, context: bytes) -> str:
        """Base64 of key tag, nonce and ciphertext; ``context`` is authenticated beside it."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self.tag + nonce + self.aead.encrypt(nonce, text.encode(), context)
        return base64.b64encode(sealed).decode()

    def open(self, sealed: str, context: bytes) -> str | None:
        """The text, or None when another, since deleted, key of this person sealed it.

        Raises:
            Tampered: when this key sealed it, but not this text in this context.
        """
        try:
            raw = base64.b64decode(sealed, validate=True)
        except ValueError:
            raise Tampered("a personal field holds no ciphertext") from None
        if raw[:TAG_BYTES] != self.tag:
            return None
        nonce, body = raw[TAG_BYTES : TAG_BYTES + NONCE_BYTES], raw[TAG_BYTES + NONCE_BYTES :]
        try:
            return self.aead.decrypt(nonce, body, context).decode()
        except (InvalidTag, ValueError):
            raise Tampered("a personal field does not match its event") from None

    def hash_of(self, text: str) -> str:
        """A keyed hash (HMAC-SHA-256) of the text, in hexadecimal: equal for ``plain`` texts only.

        Without this key nobody can tell whether a hash is that of a text they guess.
        """
        key = hmac.digest(self._secret, b"pledge keyed hash", "sha256")
        return hmac.digest(key, plain(text).encode(), "sha256")[:HASH_BYTES].hex()

    def mark_of(self, text: str) -> str:
        """A keyed hash (BLAKE2b) likewise, equal for exactly this text only."""
        hashed = hashlib.blake2b(
            text.encode(), key=self._secret, digest_size=MARK_BYTES, person=b"pledge mark"
        )
        return hashed.hexdigest()


def plain(text: str) -> str:
    """The text without what two people write differently: case, spaces, forms of a character."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


class Keyring:
    """The subject keys in use, unwrapped; remembers each for at most ``CACHED_SECONDS``."""

    def __init__(
        self,
        master: bytes,
        capacity: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._master = AESGCM(master)
        self._check = hashlib.sha256(b"pledge master key" + master).digest()
        self._known: OrderedDict[UUID, tuple[float, SubjectKey | None]] = OrderedDict()
        self._capacity = capacity
        self._clock = clock

    def verify(self, conn: psycopg.Connection[Any]) -> None:
        """Bind this master key to a new ledger, or compare it with the one bound before.

        Raises:
            WrongMasterKey: when the ledger was begun with another one.
        """
        conn.execute(INSERT_CHECK, (self._check,))
        row = conn.execute(SELECT_CHECK).fetchone()
        if row is None or bytes(row[0]) != self._check:
            raise WrongMasterKey(
                "This master key is not the one this ledger was begun with. "
                "Set PLEDGE_MASTER_KEY or PLEDGE_MASTER_KEY_FILE to the original key."
            )

    def load(self, conn: psycopg.Connection[Any], subjects: Collection[UUID]) -> None:
        """Fetch whatever of these keys is not known or known too long ago; all stay at hand."""
        fresh = self._clock() - CACHED_SECONDS
        missing = [
            subject
            for subject in subjects
            if (known := self._known.get(subject)) is None or known[0] < fresh
        ]
        for subject in subjects:
            if subject in self._known:
                self._known.move_to_end(subject)
        if not missing:
            return
        found: dict[UUID, SubjectKey | None] = dict.fromkeys(missing)
        for subject, wrapped in conn.execute(SELECT_KEYS, (missing,), prepare=True):
            found[subject] = self._unwrap(subject, bytes(wrapped))
        now = self._clock()
        for subject, key in found.items():
            self._known[subject] = (now, key)
            self._known.move_to_end(subject)
        self._trim(max(self._capacity, len(subjects)))

    def get(self, subject: UUID) -> SubjectKey | None:
        """The subject's key, or None when there is none (never made, or deleted)."""
        known = self._known.get(subject)
        return known[1] if known else None

    def create(self, subject: UUID) -> tuple[SubjectKey, bytes]:
        """A new key for a subject, and the same wrapped by the master key for the vault."""
        secret = AESGCM.generate_key(256)
        nonce = os.urandom(NONCE_BYTES)
        return SubjectKey(secret), nonce + self._master.encrypt(nonce, secret, subject.bytes)

    def remember(self, subject: UUID, key: SubjectKey | None) -> None:
        """Keep a key (or that there is none) at hand."""
        self._known[subject] = (self._clock(), key)
        self._known.move_to_end(subject)
        self._trim(self._capacity)

    def _trim(self, capacity: int) -> None:
        while len(self._known) > capacity:
            self._known.popitem(last=False)

    def forget(self, subjects: Collection[UUID] | None = None) -> None:
        """Drop these keys, or all, from memory; the next use reads the vault."""
        if subjects is None:
            self._known.clear()
        else:
            for subject in subjects:
                self._known.pop(subject, None)

    def _unwrap(self, subject: UUID, wrapped: bytes) -> SubjectKey:
        nonce, body = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return SubjectKey(self._master.decrypt(nonce, body, subject.bytes))
        except InvalidTag:
            raise WrongMasterKey(f"the key of subject {subject} does not unwrap") from None


class GroupKeys:
    """The keys that a group of commands needs; whoever has none gets a new one."""

    def __init__(self, keyring: Keyring, conn: psycopg.Connection[Any]) -> None:
        self._keyring = keyring
        self._conn = conn
        self._new: dict[UUID, tuple[SubjectKey, bytes]] = {}

    def load(
        self, subjects: Collection[UUID], newborn: Collection[UUID] = ()
    ) -> dict[UUID, SubjectKey]:
        """Each subject's key; the vault is not asked for those of the newborn.

        Raises:
            psycopg.Error: when the database fails.
        """
        old = [subject for subject in subjects if subject not in newborn]
        self._keyring.load(self._conn, [subject for subject in old if subject not in self._new])
        keys = {}
        for subject in subjects:
            known = None if subject in newborn else self._keyring.get(subject)
            if known is None and subject not in self._new:
                self._new[subject] = self._keyring.create(subject)
            keys[subject] = known or self._new[subject][0]
        return keys

    def hash_of(self, text: str, subject: UUID) -> str:
        """A keyed hash of a text about the subject, as of ``SubjectKey``."""
        return self.load([subject])[subject].hash_of(text)

    def created(self, subjects: Collection[UUID]) -> list[tuple[UUID, SubjectKey, bytes]]:
        """Those of the subjects' keys that are new, plain and wrapped for the vault."""
        return [(subject, *self._new[subject]) for subject in subjects if subject in self._new]
