"""Limits by area as conditions of a query: which meters, readings, gateways a caller may see at all.

A meter belongs to the district of the usage point where it is installed now. What it did at an earlier place in
another district belongs to the people there: a caller who is limited to areas sees a meter only from the moment on
at which it left the last place outside them. A meter that is installed nowhere, a gateway without a district and a
message without a known meter are seen only by callers for all areas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.models import Gateway, Installation, UsagePoint

Areas = frozenset[str] | None
"""Districts that may be seen; None for all (`registry.roles.Actor.areas`)."""

_PLACE: Final = UsagePoint.__table__
_INSTALLED: Final = Installation.__table__
_GATEWAY: Final = Gateway.__table__


def in_areas(areas: Areas, district: Any) -> sa.ColumnElement[bool]:
    """True for a district (a column) that may be seen; "" is nobody's."""
    return sa.true() if areas is None else district.in_(_named(areas))


def meter_seen(areas: Areas, meter: Any) -> sa.ColumnElement[bool]:
    """True for a meter (a column with its id) whose present place may be seen."""
    if areas is None:
        return sa.true()
    return sa.exists().where(
        _INSTALLED.c.meter_id == meter,
        _INSTALLED.c.removed_at.is_(None),
        _PLACE.c.id == _INSTALLED.c.usage_point_id,
        _PLACE.c.district.in_(_named(areas)),
    )


def moment_seen(areas: Areas, meter: Any, at: Any) -> sa.ColumnElement[bool]:
    """True for a meter (a column) that may be seen and a time [ms UTC] at which it had left all other areas."""
    if areas is None:
        return sa.true()
    elsewhere = sa.exists().where(
        _INSTALLED.c.meter_id == meter,
        _INSTALLED.c.removed_at > at,
        _PLACE.c.id == _INSTALLED.c.usage_point_id,
        _PLACE.c.district.not_in(_named(areas)),
    )
    return sa.and_(meter_seen(areas, meter), sa.not_(elsewhere))


def gateway_seen(areas: Areas, gateway: Any) -> sa.ColumnElement[bool]:
    """True for a gateway (a column with its id) of a district that may be seen."""
    if areas is None:
        return sa.true()
    return sa.exists().where(_GATEWAY.c.id == gateway, _GATEWAY.c.district.in_(_named(areas)))


def seen_since(connection: Connection, areas: Areas, meter: str) -> int:
    """Return the time [ms UTC] at which a meter left the last place outside `areas`; 0 when it never was at one."""
    if areas is None:
        return 0
    left = (
        sa.select(sa.func.max(_INSTALLED.c.removed_at))
        .select_from(_INSTALLED.join(_PLACE, _PLACE.c.id == _INSTALLED.c.usage_point_id))
        .where(_INSTALLED.c.meter_id == meter, _PLACE.c.district.not_in(_named(areas)))
    )
    return int(connection.execute(left).scalar_one() or 0)


def _named(areas: Iterable[str]) -> list[str]:
    return sorted(name for name in areas if name)
