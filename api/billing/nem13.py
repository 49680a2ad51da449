"""Accumulated reads of electricity as an AEMO meter data file, NEM13: one 250 record for each meter of a total.

Source: AEMO, Meter Data File Format Specification NEM12 & NEM13, records 100, 250, 900. Its times are market time,
UTC+10 without summer time. Only billed electricity totals go in: the format has no words for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas
from api.billing.lists import Filters, Row, chosen
from metering.quantities import from_micro
from registry.models import Meter
from registry.models_billing import BillingLine, BillingTotal
from registry.refusals import RefusedError

_MARKET: Final = timedelta(hours=10)
_NMI: Final = re.compile(r"[A-Za-z0-9-]{1,10}", re.ASCII)
_SERIAL: Final = re.compile(r"[A-Za-z0-9_.-]{1,12}", re.ASCII)
_SUFFIX: Final = "11"
"""First register of consumption of an accumulation meter."""
_ESTIMATED: Final = "E64"
"""Estimated by an agreed method (metrology procedure, part B: 64)."""
_EDITED: Final = "F64"


def check(connection: Connection, areas: Areas, filters: Filters) -> None:
    """Refuse what the format has no room for, before the first byte. Raises: RefusedError."""
    total, line = BillingTotal.__table__, BillingLine.__table__
    here = sa.and_(chosen(areas, filters), total.c.state == "billed", total.c.medium == "electricity")
    points = connection.execute(sa.select(total.c.usage_point_id).where(here).distinct()).scalars()
    _refuse([point for point in points if not _NMI.fullmatch(point)], "usage points", "NMI", 10)
    used = (
        sa.select(line.c.meter_id, Meter.serial)
        .join(total, sa.and_(total.c.usage_point_id == line.c.usage_point_id, total.c.period == line.c.period))
        .outerjoin(Meter, Meter.id == line.c.meter_id)
        .where(here)
        .distinct()
    )
    serials = [row.serial or row.meter_id for row in connection.execute(used)]
    _refuse([serial for serial in serials if not _SERIAL.fullmatch(serial)], "meters", "serial number", 12)


def _refuse(unfit: Sequence[str], what: str, field: str, room: int) -> None:
    if unfit:
        raise RefusedError(
            "conflict",
            f"NEM13 has room for {room} letters and digits of a {field}: {len(unfit)} {what} do not fit, "
            f'the first is "{min(unfit)[:64]}"; nothing was written',
        )


def header(now: int) -> str:
    """Return the 100 record. now: [ms UTC]."""
    return f"100,NEM13,{_time(now)[:12]},METERGATE,UTILITY\r\n"


END: Final = "900\r\n"


def records(row: Row) -> str:
    """Return the 250 records of a total, none when it is not billed electricity."""
    if row.total["medium"] != "electricity" or row.total["state"] != "billed":
        return ""
    return "".join(_record(row, line) for line in row.lines)


def _record(row: Row, line: Mapping[str, Any]) -> str:
    ends = [
        cell
        for end in ("opening", "closing")
        for cell in (
            from_micro(line[f"{end}_index"]),
            _time(line[f"{end}_at"]),
            _method(line[f"{end}_quality"]),
            "",
            "",
        )
    ]
    cells = [
        *("250", row.total["usage_point_id"], _SUFFIX, "01", _SUFFIX, _SUFFIX),
        *(row.serials.get(line["meter_id"]) or line["meter_id"], "E", *ends),
        *(from_micro(line["consumption"]), "kWh", "", _time(row.total["computed_at"]), ""),
    ]
    return ",".join(cells) + "\r\n"


def _method(quality: str) -> str:
    return {"estimated": _ESTIMATED, "edited": _EDITED}.get(quality, "A")


def _time(ms: int) -> str:
    return (datetime.fromtimestamp(ms // 1000, UTC) + _MARKET).strftime("%Y%m%d%H%M%S")
