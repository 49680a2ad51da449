"""Sparkplug B messages to send: metrics, births, the death that is left with the broker, the request of a rebirth.

Source: Eclipse Sparkplug specification 3.0, chapters 5 and 6.
"""

from __future__ import annotations

import struct
from decimal import Decimal

from gateway.protocols.sparkplug_b import (
    BD_SEQ,
    BITS,
    BOOLEAN_FIELD,
    BYTES_FIELD,
    CARRIERS,
    DATATYPES,
    DOUBLE_FIELD,
    FLOAT_FIELD,
    INT_FIELD,
    LONG_FIELD,
    REBIRTH,
    STRING_FIELD,
    Metric,
    Payload,
    Raw,
    Value,
)


def metric(
    name: str,
    datatype: str,
    value: Value,
    *,
    timestamp: int,
    alias: int | None = None,
    historical: bool = False,
    bare: bool = False,
) -> Metric:
    """Make a metric to send. bare: alias alone, as in data after a birth. Raises: ValueError."""
    raw = None if value is None else _raw(datatype, value)
    number = DATATYPES.index(datatype)
    if bare and alias is None:
        raise ValueError("a metric without a name needs an alias")
    shown, kind = ("", None) if bare else (name, number)
    return Metric(shown, alias, timestamp, kind, historical, False, value is None, raw)


def _raw(datatype: str, value: Value) -> Raw:
    field = CARRIERS[datatype]
    if field in (INT_FIELD, LONG_FIELD) and isinstance(value, int):
        bits = BITS.get(datatype, 64)
        low = -(1 << bits - 1) if datatype.startswith("Int") else 0
        if not low <= value < low + (1 << bits):
            raise ValueError(f"{value} does not fit {datatype}")
        return field, value % (1 << (32 if field == INT_FIELD else 64))
    if field == BOOLEAN_FIELD and isinstance(value, bool):
        return field, int(value)
    if field in (FLOAT_FIELD, DOUBLE_FIELD) and isinstance(value, (int, Decimal)):
        return field, struct.pack("<f" if field == FLOAT_FIELD else "<d", float(value))
    if field == STRING_FIELD and isinstance(value, str):
        return field, value.encode()
    if field == BYTES_FIELD and isinstance(value, bytes):
        return field, value
    raise ValueError(f"{value!r} is no {datatype}")


def node_birth(bd_seq: int, metrics: tuple[Metric, ...], *, timestamp: int, seq: int = 0) -> Payload:
    """Make an NBIRTH: bdSeq of the will, the rebirth control, and every metric with name and datatype."""
    own = (
        metric(BD_SEQ, "Int64", bd_seq, timestamp=timestamp),
        metric(REBIRTH, "Boolean", False, timestamp=timestamp),
    )
    return Payload(timestamp, own + metrics, seq)


def node_death(bd_seq: int, *, timestamp: int | None = None) -> Payload:
    """Make an NDEATH, to be given to the broker as the will: only bdSeq, no seq."""
    return Payload(timestamp, (metric(BD_SEQ, "Int64", bd_seq, timestamp=timestamp or 0),))


def rebirth_command(*, timestamp: int) -> Payload:
    """Make the NCMD that asks an edge node for a new birth."""
    return Payload(timestamp, (metric(REBIRTH, "Boolean", True, timestamp=timestamp),))
