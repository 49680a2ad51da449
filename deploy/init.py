#!/usr/bin/env python3
"""Make the passwords that docker-compose.yml needs, once, in deploy/secrets/ (which git and the image never see).

    python3 deploy/init.py --gateway gw-1 --gateway gw-2

Run it again to add gateways: what is there stays, the broker's users' file and access list are written anew.
`--rotate USER` replaces the password of a user of the broker (a database keeps the password of its first start).
Needs Python 3 and nothing else. Folder 0700; files 0444, because each container reads its own few as another user
than you.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import secrets
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"
PLAIN = (
    "broker_anomaly",
    "broker_api",
    "broker_ingest",
    "broker_office",
    "broker_watch",
    "influxdb_admin",
    "influxdb_metergate",
    "influxdb_grafana",
    "postgres",
    "grafana",
)
REGISTRY_URL = "postgresql+psycopg://metergate:{password}@postgres:5432/metergate"
GATEWAY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
OURS = ("anomaly", "api", "ingest", "office", "watch")
# who may do what at the broker: as in metergate/broker_access.py, which cannot be imported here (a test compares)
SERVICES = {
    "anomaly": ("read mg/v1/+/notice",),
    "api": ("write mg/v1/+/+/cmd", "write mg/v1/+/+/plan", "read mg/v1/+/+/tap", "read mg/v1/+/notice"),
    "ingest": (
        "read mg/v1/+/+/up",
        "read mg/v1/+/+/state",
        "read mg/v1/+/+/health",
        "write mg/v1/+/+/ack",
        "write mg/v1/+/notice",
    ),
    "watch": ("read $SYS/broker/uptime",),
}
GATEWAY_WRITES = ("up", "state", "health", "tap")
GATEWAY_READS = ("ack", "cmd", "plan")
ITERATIONS = 101  # as mosquitto_passwd has it; the passwords are 192 random bits, so that more would buy nothing


def mosquitto_line(user: str, password: str) -> str:
    """Return a line of Mosquitto's password file: $7$ is PBKDF2 with SHA-512 (Mosquitto 2.0, mosquitto_passwd)."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"{user}:$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def rights(user: str) -> list[str]:
    """Return what a user may; a gateway's topics carry the one part that belongs to its id."""
    if user in SERVICES:
        return list(SERVICES[user])
    own = f"mg/v1/{zlib.crc32(user.encode()) % 64}/{user}"
    return [f"write {own}/{leaf}" for leaf in GATEWAY_WRITES] + [f"read {own}/{leaf}" for leaf in GATEWAY_READS]


def access_list(users: Iterable[str]) -> str:
    """Return Mosquitto's access list: whatever is not listed is refused."""
    text = "# Who may publish and read what, written by Metergate: do not edit, it is replaced as a whole.\n"
    text += "# Whatever is not listed is refused.\n"
    for user in sorted(users):
        text += f"\nuser {user}\n" + "".join(f"topic {right}\n" for right in rights(user))
    return text


def put(path: Path, text: str) -> None:
    """Write a secret in one piece; the file appears with its final mode or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o444)
    os.replace(fresh, path)


def make(folder: Path, gateways: Iterable[str], rotate: Sequence[str] = ()) -> list[str]:
    """Make what is missing, and what is to be replaced; return the names of the secrets that are new.

    Raises: ValueError for a gateway id that is none, and for a user to rotate that does not exist.
    """
    for gateway in gateways:
        if not GATEWAY_ID.fullmatch(gateway) or gateway in OURS:
            raise ValueError(
                f"{gateway!r} cannot be the id of a gateway (letters, digits, . _ -; not {' or '.join(OURS)})"
            )
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    names = [*PLAIN, *(f"broker_{gateway}" for gateway in gateways)]
    again = [f"broker_{user}" for user in rotate]
    unknown = [user for user in rotate if not (folder / f"broker_{user}").exists()]
    if unknown:
        raise ValueError(f"no user of the broker: {', '.join(unknown)}")
    new = [name for name in names if name in again or not (folder / name).exists()]
    new += [name for name in again if name not in new]
    for name in new:
        put(folder / name, secrets.token_urlsafe(24))
    put(folder / "registry_url", REGISTRY_URL.format(password=(folder / "postgres").read_text("utf-8")))
    users = sorted(path.name.removeprefix("broker_") for path in folder.glob("broker_*"))
    lines = [mosquitto_line(user, (folder / f"broker_{user}").read_text("utf-8")) for user in users]
    put(folder / "mosquitto_acl", access_list(users))
    put(folder / "mosquitto_users", "\n".join(lines) + "\n")
    return new


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="Make the passwords that docker-compose.yml needs.")
    parser.add_argument(
        "--gateway", action="append", default=[], metavar="ID", help="id of a gateway; may be repeated"
    )
    parser.add_argument(
        "--rotate", action="append", default=[], metavar="USER", help="user of the broker whose password is replaced"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    try:
        new = make(options.folder, options.gateway, options.rotate)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{len(new)} new in {options.folder}: {', '.join(new)}" if new else f"{options.folder}: nothing was missing"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
