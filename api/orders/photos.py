"""Photos of a visit: only what is a picture by its own bytes, of bounded size and number."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders.book import OBJECT, order_row, standing_of
from api.orders.lifecycle import Deed, State, StepError, check_actor
from registry import audit
from registry.models_work_orders import Photo
from registry.roles import Actor

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_PHOTOS: Final = 20
MAX_SIDE: Final = 12_000
"""[pixels] Larger pictures are bombs that unpack to gigabytes in a viewer."""


def kind_of(data: bytes) -> str:
    """Return "image/jpeg" or "image/png" as the bytes say, whatever the sender calls it.

    Raises: StepError (incomplete) for anything else, a cut file, or an absurd size in pixels.
    """
    if data.startswith(b"\xff\xd8\xff"):
        media, size = "image/jpeg", _jpeg_size(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        media, size = "image/png", _png_size(data)
    else:
        raise StepError("incomplete", "this is no photo: JPEG and PNG are taken")
    if size is None:
        raise StepError("incomplete", f"this {media} is cut or damaged")
    if not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise StepError("incomplete", f"{size[0]} x {size[1]} pixels; up to {MAX_SIDE} a side are taken")
    return media


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 45 or data[12:16] != b"IHDR" or b"IEND" not in data[-12:]:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk the segments (ITU-T T.81, annex B) up to the frame header; the end marker must be there, too."""
    if data[-2:] != b"\xff\xd9":
        return None
    place = 2
    while place + 9 < len(data):
        if data[place] != 0xFF:
            return None
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:
            place += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        if length < 2:
            return None
        place += 2 + length
    return None


def add_photo(connection: Connection, actor: Actor, order_id: int, visit: int, data: bytes, *, now_ms: int) -> int:
    """Keep a photo and return its number; the same bytes again return the same number.

    Raises: StepError (incomplete) when it is none, too large, or there are too many; UnknownOrderError.
    """
    order_row(connection, order_id)
    if len(data) > MAX_BYTES:
        raise StepError("incomplete", f"{len(data)} bytes; {MAX_BYTES} are taken")
    media = kind_of(data)
    digest = hashlib.sha256(data).hexdigest()
    known = connection.execute(
        sa.select(Photo.id, Photo.sha256).where(Photo.order_id == order_id, Photo.visit == visit)
    ).all()
    for row in known:
        if row.sha256 == digest:
            return int(row.id)
    if len(known) >= MAX_PHOTOS:
        raise StepError("incomplete", f"{MAX_PHOTOS} photos of this visit are kept already")
    values = {"order_id": order_id, "visit": visit, "media_type": media, "sha256": digest, "size": len(data)}
    made = connection.execute(
        sa.insert(Photo).values(**values, taken_by=actor.name, at=now_ms, data=data).returning(Photo.id)
    ).scalar_one()
    audit.append(connection, actor, "work_order.photo", OBJECT, order_id, at=now_ms, after=values)
    return int(made)


def add_to_visit(
    connection: Connection,
    actor: Actor,
    order_id: int,
    data: bytes,
    *,
    own: frozenset[str],
    now_ms: int,
    visit: int | None = None,
) -> int:
    """Keep a photo of the present or last visit, or of `visit`, by whoever may file its receipt; return its number.

    own: the worker's name and teams. Raises: as `add_photo`; StepError (forbidden, impossible).
    """
    order = order_row(connection, order_id)
    check_actor(standing_of(order), Deed.FINISH, actor, own=own)
    if order.state in (State.PROPOSED, State.DECLINED, State.VOIDED):
        raise StepError("impossible", f"an order that is {order.state} takes no photos")
    present = max(order.visits + (order.state in (State.DISPATCHED, State.ARRIVED)), 1)
    if visit is not None and visit > present:
        raise StepError("incomplete", f"there was no visit {visit}; the last one is {present}")
    return add_photo(connection, actor, order_id, visit or present, data, now_ms=now_ms)
