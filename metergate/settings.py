"""The whole settings file: one frozen, typed section per room, and the manual made from it."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr
from pydantic.fields import FieldInfo

from anomaly.settings import AnomalySettings
from api.billing.settings import BillingSettings
from api.command_settings import CommandSettings
from api.jobs.settings import JobSettings
from api.orders.settings import OrderSettings
from api.outbound.settings import OutboundSettings
from api.settings import ApiSettings
from gateway.settings import FieldBrokerSettings, GatewaySettings
from ingest.settings import IngestSettings, StoreSettings
from metergate.logs import LogSettings
from metergate.office_settings import OfficeSettings
from metering.mqtt import BrokerSettings
from metering.settings import SettingsModel, load, parse, without_password
from registry.findings_settings import AlarmSettings
from registry.settings import AccessSettings, AuditSettings


class RegistrySettings(SettingsModel):
    """Where the utility's books are."""

    url: str = Field(
        "sqlite:///var/registry.db",
        description="Database of the registry as an SQLAlchemy URL; SQLite serves one host, PostgreSQL several.",
        min_length=1,
    )


class Settings(SettingsModel):
    """Everything that can be set."""

    broker: BrokerSettings = BrokerSettings()
    field_broker: FieldBrokerSettings = FieldBrokerSettings()
    registry: RegistrySettings = RegistrySettings()
    access: AccessSettings = AccessSettings()
    audit: AuditSettings = AuditSettings()
    store: StoreSettings = StoreSettings()
    gateway: GatewaySettings = GatewaySettings()
    ingest: IngestSettings = IngestSettings()
    anomaly: AnomalySettings = AnomalySettings()
    alarms: AlarmSettings = AlarmSettings()
    office: OfficeSettings = OfficeSettings()
    commands: CommandSettings = CommandSettings()
    api: ApiSettings = ApiSettings()
    billing: BillingSettings = BillingSettings()
    jobs: JobSettings = JobSettings()
    orders: OrderSettings = OrderSettings()
    outbound: OutboundSettings = OutboundSettings()
    log: LogSettings = LogSettings()


def load_settings(path: Path | None, env: Mapping[str, str] | None = None) -> Settings:
    """Read the settings file (defaults when None) with the environment laid over it. Raises: SettingsError."""
    env = os.environ if env is None else env
    return parse("", Settings, name="settings", env=env) if path is None else load(path, Settings, env)


def sample() -> str:
    """Return the manual: every option with one sentence, its default commented out."""
    lines = [
        "# Settings of Metergate. Every option stands here with its default; remove the # to change it.",
        "# Any option can also be set by the environment: METERGATE__SECTION__KEY=value, and a secret by",
        "# METERGATE__SECTION__KEY_FILE=/path/of/a/file. Check your file with: metergate check FILE",
    ]
    for name, info in Settings.model_fields.items():
        section = typing.cast(type[BaseModel], info.annotation)
        lines += ["", *_section((name,), section)]
    return "\n".join(lines) + "\n"


def _section(path: tuple[str, ...], section: type[BaseModel]) -> Iterator[str]:
    if section.__doc__:
        yield f"# {section.__doc__.splitlines()[0]}"
    yield f"[{'.'.join(path)}]"
    inner: list[tuple[str, type[BaseModel]]] = []
    for key, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            inner.append((key, info.annotation))
            continue
        yield from _wrap(info.description or "")
        yield f"#{key} = {_toml(_default(info))}" if _default(info) is not None else f"#{key} ="
    for key, annotation in inner:
        yield ""
        yield from _section((*path, key), annotation)


def _wrap(text: str, width: int = 110) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def _default(info: FieldInfo) -> Any:
    return info.get_default(call_default_factory=True)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, Path | str):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple | list | frozenset):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return str(value)


def redacted(settings: BaseModel) -> dict[str, Any]:
    """Return the settings in force as plain data, secrets replaced by "(hidden)" or "(empty)"."""
    plain: dict[str, Any] = {}
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        if isinstance(value, BaseModel):
            plain[key] = redacted(value)
        elif isinstance(value, SecretStr):
            plain[key] = "(hidden)" if value.get_secret_value() else "(empty)"
        elif isinstance(value, str):
            plain[key] = without_password(value)
        else:
            plain[key] = value if isinstance(value, int | float | bool | type(None)) else without_password(str(value))
    return plain
