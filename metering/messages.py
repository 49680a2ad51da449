"""Broker messages between gateway and ingest: topics, schemas, encoding (JSON, schema version 1).

    mg/v1/{part}/{gateway}/up      rows in order of seq           gateway -> ingest, QoS 1
    mg/v1/{part}/{gateway}/ack     what is committed              ingest -> gateway, QoS 1
    mg/v1/{part}/{gateway}/state   birth and last will, retained  gateway, QoS 1
    mg/v1/{part}/{gateway}/health  counters                       gateway, QoS 0
    mg/v1/{part}/{gateway}/cmd     a signed command               office -> gateway, QoS 1, never retained
    mg/v1/{part}/{gateway}/plan    the signed plan, retained      office -> gateway, QoS 1
    mg/v1/{part}/notice            meters with new readings       ingest, QoS 0

`part` = crc32(gateway) % 64: a broker-independent way to share a city among ingest workers.
Message *content* is strict; `ingest.decoding` does the forgiving work of finding out what is wrong with a bad one.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated, Any, Final

import msgspec

from metering.errors import MessageError
from metering.reading import GatewayId, Row, TimeMs

VERSION: Final = 1
PARTS: Final = 64
MAX_ROWS: Final = 500
MAX_BYTES: Final = 64 * 1024
"""What a gateway puts into one `up` message at most."""
OFFICE: Final = "office"
"""The gateway that brings what people and files say: manual, imported and adopted readings, of any meter."""

Seq = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
Span = tuple[Seq, Seq]
"""Inclusive range of seq."""
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
"""Names a command: 128 random bits in hex."""
MAX_COMMAND_BYTES: Final = MAX_BYTES
MAX_PLAN_BYTES: Final = 768 * 1024
"""A signed plan on the wire; 20,000 meters take about a third of that."""
_MAX_PLAN_TEXT: Final = 16 * 1024 * 1024
Epoch = Annotated[str, msgspec.Meta(min_length=8, max_length=32, pattern=r"^[0-9a-f]+$")]


class Up(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A contiguous range of outbox rows: row i has the number `seq + i`.

    oldest: the lowest seq that the outbox still holds. produced: the highest seq it ever gave out.
    gone: ranges that ingest called missing but that this gateway no longer holds (they were acknowledged once).
    """

    v: int
    gateway: GatewayId
    epoch: Epoch
    seq: Seq
    oldest: Seq
    produced: Seq
    sent_at: TimeMs
    rows: Annotated[list[Row], msgspec.Meta(max_length=MAX_ROWS)]
    gone: Annotated[list[Span], msgspec.Meta(max_length=100)] = []


class Refused(msgspec.Struct, forbid_unknown_fields=True):
    """A message that could not be read at all. digest: `payload_digest` of it; its raw bytes are in quarantine."""

    digest: str
    reason: str


class Ack(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Everything up to `upto` is committed (store or quarantine) except the `missing` ranges.

    epoch is "" and upto 0 when only `refused` speaks.
    """

    v: int
    epoch: str
    upto: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    missing: Annotated[list[Span], msgspec.Meta(max_length=100)] = []
    refused: Refused | None = None


class State(msgspec.Struct, omit_defaults=True):
    """Birth (online true) and last will (online false) of a gateway."""

    v: int
    gateway: str
    online: bool
    at: int
    epoch: str = ""
    version: str = ""


class MeterOnBus(msgspec.Struct, array_like=True, frozen=True):
    """One meter of a bus. asked … damaged: counted since the gateway started, 0 on a bus where nobody counts.

    failures: reads in a row that failed, since `since` [ms UTC]. answered_at: [ms UTC], 0 for never.
    busy_s: [s] of the bus's time that it cost; planned_s: [s] that a read should take, 0 when nobody worked it out.
    """

    meter: Annotated[str, msgspec.Meta(max_length=64)]
    address: Annotated[str, msgspec.Meta(max_length=64)]
    interval_s: float
    planned_s: float
    busy_s: float
    asked: int
    answered: int
    silent: int
    late: int
    damaged: int
    foreign: int
    refused: int
    failures: int
    since: int
    answered_at: int


class BusHealth(msgspec.Struct, frozen=True):
    """One bus. up: it is connected. counts_s: [s] for which the meters' counts run.

    load: part of the bus's time that its plan needs (1.0 is all of it), sweep_s: [s] to read every meter once; None
    where several talk at once. meters: those in trouble first, then the dearest; unnamed: how many more there are.
    """

    bus: Annotated[str, msgspec.Meta(max_length=64)]
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    up: bool
    counts_s: float
    load: float | None
    sweep_s: float | None
    meters: Annotated[list[MeterOnBus], msgspec.Meta(max_length=1000)]
    unnamed: int = 0


class Health(msgspec.Struct, omit_defaults=True):
    """What a gateway says about itself every few seconds.

    outbox: ok, full or damaged, with `outbox_reason` in words. waiting: rows not yet acknowledged.
    oldest_at: [ms UTC] time of the oldest waiting row, None when nothing waits. counters: monotonic, since start.
    version, plan: of the program and of its plan. buses: every few minutes, None in between.
    """

    v: int
    gateway: str
    epoch: str
    at: int
    produced: int
    acknowledged: int
    waiting: int
    in_memory: int
    oldest_at: int | None
    outbox: str
    outbox_reason: str
    meters: int
    meters_silent: int
    counters: dict[str, int]
    version: Annotated[str, msgspec.Meta(max_length=64)] = ""
    plan: Annotated[str, msgspec.Meta(max_length=64)] = ""
    buses: Annotated[list[BusHealth], msgspec.Meta(max_length=256)] | None = None


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """What a signed `cmd` message orders; the body of an envelope of `metering.signing`.

    nonce: 128 random bits that name it everywhere. deadline: [ms UTC] after which it is not begun any more.
    args: what the command of this name takes, see `gateway.commands`.
    """

    v: int
    gateway: GatewayId
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    args: dict[str, Any]
    nonce: Nonce
    issued_at: TimeMs
    deadline: TimeMs


class SignedPlan(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a signed `plan` message. packed: the plan's TOML text, zlib and base64. It never expires."""

    v: int
    gateway: GatewayId
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    issued_at: TimeMs
    packed: str


class Notice(msgspec.Struct):
    """Which meters got readings in which time range [ms UTC, inclusive], after the commit."""

    v: int
    at: int
    meters: list[str]
    t0: int
    t1: int


def part_of(gateway: str) -> int:
    """Return the part (0..63) to which a gateway belongs."""
    return zlib.crc32(gateway.encode()) % PARTS


def topic(gateway: str, leaf: str) -> str:
    """Return mg/v1/{part}/{gateway}/{leaf}."""
    return f"mg/v1/{part_of(gateway)}/{gateway}/{leaf}"


def notice_topic(part: int) -> str:
    """Return mg/v1/{part}/notice."""
    return f"mg/v1/{part}/notice"


def gateway_of(topic_name: str) -> str:
    """Return the gateway that a topic belongs to.

    Raises: MessageError when the topic is not ours or its part does not fit the gateway.
    """
    levels = topic_name.split("/")
    if len(levels) != 5 or levels[:2] != ["mg", "v1"]:
        raise MessageError(f"topic {topic_name[:80]!r} is not of the form mg/v1/PART/GATEWAY/LEAF")
    gateway = levels[3]
    if levels[2] != str(part_of(gateway)):
        raise MessageError(f"topic {topic_name[:80]!r}: gateway {gateway} belongs to part {part_of(gateway)}")
    return gateway


def part_in(topic_name: str) -> int | None:
    """Return the part that a topic of ours names, None when it names none; `gateway_of` checks the whole topic."""
    levels = topic_name.split("/", 3)
    return int(levels[2]) if len(levels) > 3 and levels[2].isascii() and levels[2].isdigit() else None


def payload_digest(payload: bytes) -> str:
    """Name a payload that could not be read: crc32 and length, as 8 hex digits and a decimal."""
    return f"{zlib.crc32(payload):08x}-{len(payload)}"


_HEX: Final = frozenset("0123456789abcdef")
_ENCODER: Final = msgspec.json.Encoder()
encode = _ENCODER.encode
_DECODERS: Final[dict[Any, Any]] = {
    t: msgspec.json.Decoder(t) for t in (Up, Ack, State, Health, Notice, Command, SignedPlan)
}


def decode_ack(payload: bytes) -> Ack:
    """Raises: MessageError."""
    ack: Ack = _decode(Ack, payload)
    return ack


def decode_state(payload: bytes) -> State:
    """Raises: MessageError."""
    state: State = _decode(State, payload)
    return state


def decode_health(payload: bytes) -> Health:
    """Raises: MessageError."""
    health: Health = _decode(Health, payload)
    return health


def decode_notice(payload: bytes) -> Notice:
    """Raises: MessageError."""
    notice: Notice = _decode(Notice, payload)
    return notice


def decode_up(payload: bytes) -> Up:
    """Strict decoding of a whole message. Raises: MessageError."""
    up: Up = _decode(Up, payload)
    return up


def decode_command(body: bytes) -> Command:
    """Take the body of a command's envelope apart. Raises: MessageError."""
    command: Command = _decode(Command, body)
    return command


def decode_plan(body: bytes) -> SignedPlan:
    """Take the body of a plan's envelope apart. Raises: MessageError."""
    plan: SignedPlan = _decode(SignedPlan, body, MAX_PLAN_BYTES)
    return plan


def pack_plan(text: str) -> str:
    """Return a plan's text as `SignedPlan.packed`."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack_plan(packed: str) -> str:
    """Return the plan's text; it cannot swell without bound. Raises: MessageError."""
    try:
        opened = zlib.decompressobj()
        raw = opened.decompress(base64.b64decode(packed, validate=True), _MAX_PLAN_TEXT)
        if not opened.eof:
            raise MessageError(f"the plan is cut, or longer than {_MAX_PLAN_TEXT} bytes")
        return raw.decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise MessageError(f"the plan cannot be unpacked: {error}") from error


def told(nonce: str, sentence: str) -> str:
    """Return the text of an event that answers a command: its nonce stands first."""
    return f"{nonce} {sentence}"[:500]


def nonce_of(text: str) -> tuple[str, str]:
    """Return (nonce, sentence) of such a text; nonce "" when there is none."""
    nonce, _, sentence = text.partition(" ")
    return (nonce, sentence) if len(nonce) == 32 and not set(nonce) - _HEX else ("", text)


def _decode(kind: Any, payload: bytes, most: int = 2 * MAX_BYTES) -> Any:
    if len(payload) > most:
        raise MessageError(f"message of {len(payload)} bytes; {most} are allowed", payload[:64])
    try:
        message = _DECODERS[kind].decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a {kind.__name__} message: {error}", payload[:64]) from error
    if message.v != VERSION:
        raise MessageError(f"schema version {message.v}; this program speaks {VERSION}", payload[:64])
    return message
