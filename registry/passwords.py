"""Passwords: hashed with Argon2id, checked at the same cost whoever is asked for, and not too easy to guess.

Cost: one check takes `argon2_memory_kib` of memory and, with the defaults (3 passes over 32 MiB, one lane), some tens
of milliseconds of one core; `benchmarks/access.py` measures it. Callers do this work outside of any transaction.

Chance: `secrets` is right here and wherever somebody must not be able to guess. Promise 7 (chance from seeds) speaks
of results: no result depends on these bits.
"""

from __future__ import annotations

import secrets
import unicodedata
from functools import lru_cache
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from registry.settings import AccessSettings

SHORTEST: Final = 10
LONGEST: Final = 200
_FEWEST_DIFFERENT: Final = 5
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 in small letters: nothing that looks like 0, 1 or 8
_RUNS: Final = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv",
)
_WORST: Final = frozenset(
    """
    password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword administrator admin12345
    admin123456 adminadmin welcome123 welcome1234 letmein123 iloveyou12 iloveyou123 changeme changeme1 changeme12
    changeme123 changeme1234 changethis qwerty1234 qwerty12345 qwerty123456 qwertyuiop1 1q2w3e4r5t 1q2w3e4r5t6y
    q1w2e3r4t5 zaq12wsxcde3 1234qwerasdf abcd123456 abc1234567 a123456789 a1234567890 aa12345678 aa123456789
    123456789a 1234567890a qq123456789 woaini1314 woaini520 woaini1314520 5201314520 asd1234567 asdf123456
    metergate metergate1 metergate12 metergate123 watermeter gasmeter12 football123 superman123 sunshine123
    princess123 dragon12345 monkey12345 baseball123 trustno1trustno1 secret1234 default1234 temporary123 test123456
    guest123456 root123456 toor123456 system1234 manager1234 operator12 operator123 p@ssw0rd123 passw0rd123
    """.split()  # noqa: SIM905 (a word list reads better as words)
)


def problem(password: str, *, name: str = "", display_name: str = "") -> str:
    """Return why a new password cannot be taken, "" when it can. Long sentences are welcome; no rules on signs."""
    folded = normal(password).casefold()
    if len(folded) < SHORTEST:
        return f"a password has at least {SHORTEST} characters"
    if len(folded) > LONGEST:
        return f"a password has at most {LONGEST} characters"
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in folded):
        return "a password has no control characters"
    core = "".join(sign for sign in folded if sign.isalnum())
    own = {"".join(sign for sign in word.casefold() if sign.isalnum()) for word in (name, display_name)} - {""}
    if any(core.strip("0123456789") == word.strip("0123456789") or core == word * 2 for word in own):
        return "a password is not the user's name"
    if len(set(folded)) < _FEWEST_DIFFERENT:
        return f"a password has at least {_FEWEST_DIFFERENT} different characters"
    if folded in _WORST or core in _WORST or any(core in run or core in run[::-1] for run in _RUNS if core):
        return "this password is among the first that anybody tries"
    return ""


def normal(password: str) -> str:
    """Return one spelling of the same letters, however the keyboard composed them (NFC)."""
    return unicodedata.normalize("NFC", password)


def one_time_password() -> str:
    """Return a password of 100 random bits to be read out or copied: four groups of five letters and digits."""
    return "-".join("".join(secrets.choice(_BASE32) for _ in range(5)) for _ in range(4))


def hash_password(password: str, limits: AccessSettings) -> str:
    """Return the Argon2id hash as text with its parameters. Slow on purpose; never inside a transaction."""
    return _today(limits).hash(_bytes(password))


def hash_one_time(password: str) -> str:
    """Return a quick hash of a one-time password: 100 random bits need no slow one, so it may be made anywhere."""
    return _hasher(1, 1024, 1).hash(_bytes(password))


def verify(stored: str, password: str, limits: AccessSettings) -> bool:
    """True when the password is right. stored: "" for an unknown user or none set, which costs the same and is False.

    A hash of other parameters (a one-time password, a setting of last year) costs a full check on top of its own, so
    that the time of the answer does not tell who exists.
    """
    if len(password) > LONGEST:
        password = ""  # a password is never longer; no work for whoever sends a novel
    hasher = _today(limits)
    if outdated(stored, limits):
        _matches(hasher, _decoy(limits.argon2_time, limits.argon2_memory_kib, limits.argon2_lanes), password)
    return bool(stored) and _matches(hasher, stored, password)


def outdated(stored: str, limits: AccessSettings) -> bool:
    """True when a hash should be made anew with the parameters of today."""
    try:
        return _today(limits).check_needs_rehash(stored)
    except InvalidHashError:
        return True


def _bytes(password: str) -> bytes:
    return normal(password).encode("utf-8", "surrogatepass")


def _today(limits: AccessSettings) -> PasswordHasher:
    return _hasher(limits.argon2_time, limits.argon2_memory_kib, limits.argon2_lanes)


def _matches(hasher: PasswordHasher, stored: str, password: str) -> bool:
    try:
        return hasher.verify(stored, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


@lru_cache(maxsize=8)
def _hasher(time: int, memory_kib: int, lanes: int) -> PasswordHasher:
    return PasswordHasher(time_cost=time, memory_cost=memory_kib, parallelism=lanes, type=Type.ID)


@lru_cache(maxsize=8)
def _decoy(time: int, memory_kib: int, lanes: int) -> str:
    return _hasher(time, memory_kib, lanes).hash(secrets.token_hex(32))
