"""What the API needs to order something from gateways: the key that signs, and which models take a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from api.command_settings import CommandSettings
from api.problems import ProblemError, invalid
from metering.mqtt import BrokerSettings
from metering.signing import NONCE_BYTES, OfficeKey, new_nonce
from registry.roles import Actor

_LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class CommandOffice:
    """See the module. takes_time: ids of the meter models whose clock can be set. broker: where commands go."""

    settings: CommandSettings
    key: OfficeKey
    takes_time: frozenset[str]
    broker: BrokerSettings


def nonce_for(actor: Actor, idempotency_key: str | None) -> str:
    """Return the nonce of a new command; one caller's Idempotency-Key always gives the same.

    Raises: ProblemError 422 for a key that is empty or too long.
    """
    if idempotency_key is None:
        return new_nonce()
    if not 1 <= len(idempotency_key) <= _LONGEST_KEY:
        raise invalid("Idempotency-Key", idempotency_key, f"1 to {_LONGEST_KEY} characters", place="header")
    digest = hashlib.sha256(f"{actor.name}\n{idempotency_key}".encode("utf-8", "replace"))
    return digest.hexdigest()[: 2 * NONCE_BYTES]


def required(office: CommandOffice | None) -> CommandOffice:
    """Return the office. Raises: ProblemError 503 when this API was started without one."""
    if office is None:
        raise ProblemError(503, "no-office", "this API has no signing key: it cannot order anything from gateways")
    return office
