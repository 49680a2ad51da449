"""The plan that came by broker, kept on this disk exactly as it was signed; at a start the newest of it and the file.

The copy is checked like a fresh one each time it is read: whoever changes it on the disk has no signature for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.bus_budget import too_dense
from gateway.plan import Plan, load_plan, parse_plan
from gateway.profile import Profile
from gateway.settings import GatewaySettings
from metering.errors import MessageError, MetergateError, SettingsError
from metering.messages import SignedPlan, decode_plan, unpack_plan
from metering.signing import Verifier, load_verifier

_log = structlog.get_logger(__name__)
_LARGEST: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A signed plan and what it says."""

    signed: SignedPlan
    plan: Plan


def stored_path(settings: GatewaySettings) -> Path:
    """Return where the plan from the broker is kept: beside the outbox."""
    return settings.outbox.parent / "plan.signed"


def open_plan(payload: bytes, verifier: Verifier) -> SignedPlan:
    """Return a soundly signed plan, not yet checked as a plan. Raises: SignatureError, MessageError."""
    return decode_plan(verifier.open("plan", payload))


def check_plan(signed: SignedPlan, profiles: Mapping[str, Profile], over_dense: str) -> Plan:
    """Return the plan, checked as `metergate check` does. Raises: SettingsError, MessageError."""
    plan = parse_plan(unpack_plan(signed.packed), profiles, name=f"plan {signed.version}")
    if (plan.gateway, plan.version) != (signed.gateway, signed.version):
        raise MessageError(
            f"the plan inside is version {plan.version} of {plan.gateway}, "
            f"its envelope says version {signed.version} of {signed.gateway}"
        )
    refuse_dense(plan, f"plan {signed.version}", over_dense)
    return plan


def refuse_dense(plan: Plan, name: str, over_dense: str) -> None:
    """Raise SettingsError for a plan whose serial buses cannot keep its intervals, unless it is to run late."""
    problems = [f"{name}: {fault}" for fault in too_dense(plan)]
    if not problems:
        return
    if over_dense == "refuse":
        raise SettingsError(problems)
    for problem in problems:
        _log.warning("the plan is too dense and runs late", why=problem)


def keep(path: Path, payload: bytes) -> None:
    """Put a signed plan on the disk, in one piece. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_stored(settings: GatewaySettings, verifier: Verifier, profiles: Mapping[str, Profile]) -> StoredPlan | None:
    """Return the plan that came by broker; None, and said in the log, when there is none that may be used."""
    path = stored_path(settings)
    if not verifier or not path.exists():
        return None
    try:
        with path.open("rb") as file:
            signed = open_plan(file.read(_LARGEST), verifier)
        return StoredPlan(signed, check_plan(signed, profiles, settings.over_dense))
    except (OSError, MetergateError) as error:
        _log.warning("the stored plan is not used", file=path.name, why=str(error))
        return None


def starting_plan(settings: GatewaySettings, file: Path, profiles: Mapping[str, Profile]) -> Plan:
    """Return the plan to start with: the newest of the file and of what came by broker.

    Raises: SettingsError, when the file is faulty, or missing without a stored plan.
    """
    stored = load_stored(settings, load_verifier(settings.office_keys), profiles)
    if stored is not None and not file.exists():
        return stored.plan
    plan = load_plan(file, profiles)
    if stored is not None and stored.plan.gateway == plan.gateway and stored.plan.version > plan.version:
        _log.info("the plan that came by broker is newer than the file", version=stored.plan.version)
        return stored.plan
    refuse_dense(plan, file.name, settings.over_dense)
    return plan
