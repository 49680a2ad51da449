"""How meters hang together: meter -> bus -> gateway -> district, as numbers per row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Place = tuple[str, str]
"""(scope, target): ("gateway", "gw-1"), ("bus", "gw-1/line2"), ("district", "east")."""


@dataclass(frozen=True, slots=True)
class Wired:
    """Where a meter hangs. bus, district: "" when there is none. interval_ms: of its readings."""

    meter: str
    gateway: str
    bus: str = ""
    district: str = ""
    interval_ms: int = 900_000


class Topology:
    """Meters by row, with the numbers of their gateway, bus and district (-1: none)."""

    def __init__(
        self,
        meters: Sequence[Wired],
        gateway_districts: Mapping[str, str] | None = None,
        *,
        everyone: Mapping[str, str] | None = None,
    ) -> None:
        """gateway_districts: as the books say; a gateway that they leave open has the district of all its meters.

        everyone: gateway -> district of all gateways that have meters, those of other services too. `judged` are the
        districts whose first gateway by name is one of ours: so each is judged by one service. `others_of` are the
        gateways of a district that another service watches.
        """
        self.meters = list(meters)
        self.interval_ms = np.array([m.interval_ms for m in meters], np.int64)
        self.gateways, self.gateway = _numbered(m.gateway for m in meters)
        self.buses, self.bus = _numbered(f"{m.gateway}/{m.bus}" if m.gateway and m.bus else "" for m in meters)
        known = gateway_districts or {}
        homes: dict[str, set[str]] = {}
        for m in meters:
            homes.setdefault(m.gateway, set()).add(m.district)
        self.district_of = {
            name: known.get(name) or (next(iter(homes[name])) if len(homes[name]) == 1 else "")
            for name in self.gateways
        }
        self.districts = sorted({name for name in self.district_of.values() if name})
        self.gateways_of: dict[str, list[str]] = {name: [] for name in self.districts}
        for name, district in self.district_of.items():
            if district:
                self.gateways_of[district].append(name)
        self.others_of: dict[str, list[str]] = {name: [] for name in self.districts}
        for name, district in (everyone or {}).items():
            if district in self.others_of and name not in self.district_of:
                self.others_of[district].append(name)
        self.judged = {
            name for name, own in self.gateways_of.items() if min(own) <= min(self.others_of[name], default=min(own))
        }

    def where(self, place: Place) -> tuple[str, str, str]:
        """Return gateway, bus and district of a place."""
        scope, target = place
        if scope == "district":
            return "", "", target
        gateway, _, bus = target.partition("/") if scope == "bus" else (target, "", "")
        return gateway, bus, self.district_of.get(gateway, "")


def _numbered(names: Iterable[str]) -> tuple[list[str], Ints]:
    listed = list(names)
    order = sorted({name for name in listed if name})
    number = {name: i for i, name in enumerate(order)}
    return order, np.array([number.get(name, -1) for name in listed], np.int64)
