"""The settings with which a bare kafka-python producer does what the relay's does."""

from typing import Any

PRODUCING: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "delivery_timeout_ms": 2**31 - 1,
    "compression_type": "lz4",
    "linger_ms": 1,
    "batch_size": 256_000,
    "max_request_size": 4_000_000,
}
