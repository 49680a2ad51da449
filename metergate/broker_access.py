"""Who may say and hear what at the broker, as text for Mosquitto. Pure: logins in, lines out.

Every user gets lines of its own with its whole topics, part included: nothing is guessed from a user's name, so that
two users of one gateway (while one replaces the other) and a gateway with an odd name are judged alike. Whatever is
not listed is refused. Two of us write such lists: this module, and `deploy/init.py`, which must run where nothing is
installed; `tests/deploy/test_init.py` holds them equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.plan import Plan
from gateway.plan_mqtt import matches
from gateway.profile_mqtt import SPARKPLUG
from metering.errors import SettingsError
from metering.messages import topic
from registry.credentials import FIELD, Login

GATEWAY_WRITES: Final = ("up", "state", "health", "tap")
GATEWAY_READS: Final = ("ack", "cmd", "plan")

SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "@anomaly": ("read mg/v1/+/notice",),
    "@api": (
        "write mg/v1/+/+/cmd",
        "write mg/v1/+/+/plan",
        "read mg/v1/+/+/tap",
        "read mg/v1/+/notice",
    ),
    "@ingest": (
        "read mg/v1/+/+/up",
        "read mg/v1/+/+/state",
        "read mg/v1/+/+/health",
        "write mg/v1/+/+/ack",
        "write mg/v1/+/notice",
    ),
    "@watch": ("read $SYS/broker/uptime",),  # the health check of the broker's own container
}
"""What each service may; a gateway's rights follow from its id, and those of field meters from its plan."""

_HEAD: Final = """\
# Who may publish and read what, written by Metergate: do not edit, it is replaced as a whole.
# Whatever is not listed is refused.
"""
_OURS: Final = ("mg/v1/0/gateway/up", "$SYS/broker/uptime")


@dataclass(frozen=True, slots=True)
class FieldTopics:
    """What passes between a gateway and its MQTT meters. heard: they write, it reads; said: it writes, they read."""

    heard: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


def field_topics(plan: Plan) -> FieldTopics:
    """Return the field topics of a plan; a Sparkplug host says that it is there, and asks edge nodes for births."""
    heard = [topic for bus in plan.mqtt for topic in bus.topics]
    said = []
    for bus in plan.mqtt:
        nodes = [meter.device.split("/") for meter in bus.meters.values() if meter.profile.protocol == SPARKPLUG]
        said += [f"spBv1.0/{node[0]}/NCMD/{node[1]}" for node in nodes]
        said += [f"spBv1.0/STATE/metergate-{plan.gateway}"] if nodes else []
    return FieldTopics(tuple(dict.fromkeys(heard)), tuple(dict.fromkeys(said)))


def users_text(logins: Iterable[Login]) -> str:
    """Return Mosquitto's password file."""
    return "".join(f"{login.line}\n" for login in _sorted(logins))


def acl_text(logins: Iterable[Login], field: Mapping[str, FieldTopics] | None = None) -> str:
    """Return Mosquitto's access list.

    field: gateway -> the topics of its MQTT meters, for the gateway and for the users that `broker add --field` made.
    Raises: SettingsError for a field topic that would open our own topics or the broker's.
    """
    topics = field or {}
    for gateway, found in topics.items():
        for name in (*found.heard, *found.said):
            _check(gateway, name)
    blocks = []
    for login in _sorted(logins):
        lines = "".join(f"topic {right}\n" for right in _rights(login.owner, topics))
        blocks.append(f"\nuser {login.user}\n{lines}")
    return _HEAD + "".join(blocks)


def _sorted(logins: Iterable[Login]) -> list[Login]:
    return sorted(logins, key=lambda login: login.user)


def _rights(owner: str, topics: Mapping[str, FieldTopics]) -> list[str]:
    here = topics.get(owner.removeprefix(FIELD), FieldTopics())
    if owner.startswith(FIELD):
        return [f"write {name}" for name in here.heard] + [f"read {name}" for name in here.said]
    if owner.startswith("@"):
        return list(SERVICES[owner])
    rights = [f"write {topic(owner, leaf)}" for leaf in GATEWAY_WRITES]
    rights += [f"read {topic(owner, leaf)}" for leaf in GATEWAY_READS]
    return rights + [f"read {name}" for name in here.heard] + [f"write {name}" for name in here.said]


def _check(gateway: str, name: str) -> None:
    if name != name.strip() or not name.isprintable():
        raise SettingsError(f"plan of {gateway}: topic {name!r} cannot stand in an access list")
    if name.split("/")[0] in ("mg", "$SYS", "$share", "$CONTROL") or any(matches(name, ours) for ours in _OURS):
        raise SettingsError(
            f'plan of {gateway}: topic "{name}" would open topics of Metergate or of the broker itself'
        )
