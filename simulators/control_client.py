"""Talk to a running farm over its control line: one order, one answer; the same for all farms."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from metering.clock import Clock
from metering.errors import ConnectError, NoAnswerError


async def order(
    port: int, wanted: dict[str, Any], *, clock: Clock, host: str = "127.0.0.1", timeout_s: float = 10.0
) -> dict[str, Any]:
    """Send an order and return the answer: `ok`, and `error` in words when it is refused. Raises: TransportError."""
    place = f"{host}:{port}"
    try:
        reader, writer = await clock.timeout(asyncio.open_connection(host, port), timeout_s)
    except (OSError, TimeoutError) as error:
        raise ConnectError(
            f"no simulation takes orders there: {error or 'no connection in time'}", port=place
        ) from None
    try:
        writer.write(json.dumps(wanted).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await clock.timeout(reader.readline(), timeout_s))
        return answer
    except (TimeoutError, ValueError, OSError):
        raise NoAnswerError("the simulation gave no answer", port=place) from None
    finally:
        writer.close()
