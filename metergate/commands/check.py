"""`metergate check`: is this settings file, plan or meter profile sound? Every mistake at once."""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlparse

import typer
from rich.markup import escape

from api.orders.policy import Policy, explain, load_policy
from api.settings import is_loopback
from gateway.bus_budget import budgets
from gateway.plan import Plan, PlanFile, load_plan
from gateway.profile_file import ProfileFile
from gateway.profile_mqtt import SPARKPLUG, load_mqtt_profile
from gateway.profiles import load_profile, load_profiles
from metergate.console import EXIT_USAGE, emit, err, errors_as_words
from metergate.settings import Settings, load_settings, redacted, sample
from metergate.stores import store_notes
from metering.errors import SettingsError
from metering.settings import SettingsModel, read_text

Kind = Literal["settings", "plan", "profile", "policy"]

_MODELS: Final[dict[str, type[SettingsModel]]] = {
    "settings": Settings,
    "plan": PlanFile,
    "profile": ProfileFile,
    "policy": Policy,
}


def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Settings files, plans or meter profiles (TOML).")
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="settings, plan, profile or policy; found out when not given.")
    ] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of KIND and end.")] = False,
    show: Annotated[bool, typer.Option("--redacted", help="Print the settings in force, secrets hidden.")] = False,
    manual: Annotated[bool, typer.Option("--sample", help="Print the sample settings file and end.")] = False,
    policy: Annotated[Path | None, typer.Option("--policy", help="A policy of work orders; it is explained.")] = None,
) -> None:
    """Check files and say what is wrong: file, line, value, what is allowed, nearest spelling.

    Example: metergate check metergate.toml plan.toml
    Example: metergate check --policy policy.toml
    """
    with errors_as_words():
        if kind and kind not in _MODELS:
            raise SettingsError(f'--kind = "{kind}": allowed: {", ".join(_MODELS)}')
        if schema:
            emit(json.dumps(_MODELS[kind or "settings"].model_json_schema(), indent=2))
            return
        if manual:
            emit(sample().rstrip("\n"))
            return
        if not files and not show and policy is None:
            raise SettingsError("name at least one file, for example: metergate check metergate.toml")
        failed = [path for path in files or [] if not _sound(path, kind)]
        if policy is not None and not _sound(policy, "policy"):
            failed.append(policy)
        if show:
            settings = load_settings(files[0] if files else None)
            emit(json.dumps(redacted(settings), indent=2, ensure_ascii=False))
        if failed:
            raise typer.Exit(EXIT_USAGE)


def _sound(path: Path, kind: str) -> bool:
    try:
        facts = _check_one(path, kind or _kind_of(path))
    except SettingsError as error:
        for problem in error.problems:
            err.print(f"[red]✗[/red] {escape(problem)}")
        return False
    err.print(f"[green]✓[/green] {escape(f'{path.name}: {facts}')}")
    return True


def _kind_of(path: Path) -> Kind:
    """Tell a plan, a profile and a policy by the keys that only they have; everything else is a settings file."""
    try:
        keys: dict[str, Any] = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError:
        return "settings"
    if isinstance(keys.get("gateway"), str) or keys.keys() & {"bus", "meter", "mqtt_bus", "mqtt_meter"}:
        return "plan"
    if isinstance(keys.get("rule"), list):
        return "policy"
    return "profile" if "protocol" in keys or "field" in keys else "settings"


def _check_one(path: Path, kind: str) -> str:
    if kind == "plan":
        plan = load_plan(path, load_profiles())
        _check_buses(path, plan)
        meters = len(plan.meters) + sum(len(bus.meters) for bus in plan.mqtt)
        return f"a sound plan, gateway {plan.gateway}, {meters} meters on {len(plan.buses) + len(plan.mqtt)} buses"
    if kind == "profile" and _is_mqtt(path):
        pushed = load_mqtt_profile(path)
        return f"a sound MQTT profile, {pushed.medium}, {len(pushed.golden)} golden messages read as they say"
    if kind == "profile":
        profile = load_profile(path)
        return f"a sound profile, {profile.medium}, {len(profile.golden)} golden frames decode as they say"
    if kind == "policy":
        chosen = load_policy(path)
        _explain(chosen)
        return f"a sound policy, {chosen.version}, {len(chosen.rule)} lines"
    settings = load_settings(path, os.environ)
    if settings.orders.policy is not None:
        _explain(load_policy(settings.orders.policy))
    for note in notes(settings):
        err.print(f"[yellow]![/yellow] {escape(f'{path.name}: {note}')}")
    return "sound settings"


def _explain(policy: Policy) -> None:
    """Say the policy of work orders in words."""
    for sentence in explain(policy):
        err.print(escape(f"  {sentence}"), soft_wrap=True)


def _check_buses(path: Path, plan: Plan) -> None:
    """Say what each serial bus costs. Raises: SettingsError when a sweep cannot meet its intervals."""
    costs = budgets(plan)
    for budget in costs:
        if budget.fits:
            err.print(escape(f"  {path.name}: {budget}"))
    if problems := [f"{path.name}: {budget.fault()}" for budget in costs if not budget.fits]:
        raise SettingsError(problems)


def _is_mqtt(path: Path) -> bool:
    keys: dict[str, Any] = {}
    with contextlib.suppress(tomllib.TOMLDecodeError):
        keys = tomllib.loads(read_text(path))
    return keys.get("protocol") == SPARKPLUG or str(keys.get("protocol", "")).startswith("mqtt-")


def notes(settings: Settings) -> list[str]:
    """Return what is allowed but worth a second thought."""
    found = []
    if settings.registry.url.startswith("sqlite") and not is_loopback(settings.broker.host):
        found.append(
            f"registry.url is SQLite, which serves one host, and broker.host is {settings.broker.host}: "
            "when ingest or API run on several hosts, use PostgreSQL"
        )
    if settings.broker.username and settings.broker.tls_ca is None and not is_loopback(settings.broker.host):
        found.append("broker.password travels unencrypted; set broker.tls_ca")
    field = settings.field_broker
    if field.username and field.tls_ca is None and not is_loopback(field.host):
        found.append("field_broker.password travels unencrypted; set field_broker.tls_ca")
    found += store_notes(settings.store, settings.ingest)
    password = urlparse(settings.registry.url).password
    if password:
        found.append("registry.url holds a password; give the URL by METERGATE__REGISTRY__URL_FILE")
    return found
