"""The ways out, behind one small interface: a signed webhook, an e-mail."""

from __future__ import annotations

import ssl
from typing import Any, Final, Protocol

from api.outbound import http, mail
from api.outbound.addresses import AddressError, Resolver, addresses_of, parse_url
from api.outbound.http import PostError, post
from api.outbound.outbox import Outcome
from api.outbound.settings import OutboundSettings
from api.outbound.signing import headers
from api.outbound.templates import accepted
from api.outbound.threads import aside
from metering.clock import Clock

_GONE: Final = 410
_BUSY: Final = (429, 503)


class Channel(Protocol):
    """One way out. `delivery`: a row of `webhook_delivery`; `webhook`: its row, None for e-mail. Never raises."""

    async def send(self, delivery: Any, webhook: Any) -> Outcome:
        """Try once, within the settings' deadline."""


class WebhookChannel:
    """Signed POSTs after Standard Webhooks."""

    def __init__(self, settings: OutboundSettings, clock: Clock, resolver: Resolver) -> None:
        """Raises: OSError, ssl.SSLError when tls_ca cannot be read."""
        self._settings, self._clock, self._resolver = settings, clock, resolver
        self._context: ssl.SSLContext = http.tls_context(settings.tls_ca)

    async def send(self, delivery: Any, webhook: Any) -> Outcome:
        if webhook is None or not webhook.enabled:
            return Outcome(False, "the webhook is switched off", gone=True)
        try:
            return await self._clock.timeout(self._post(delivery, webhook), self._settings.timeout_s)
        except TimeoutError:
            return Outcome(False, f"no answer within {self._settings.timeout_s:g} s")
        except (AddressError, PostError) as error:
            return Outcome(False, str(error))
        except (OSError, ValueError) as error:
            return Outcome(False, f"it could not be sent: {error}")

    async def _post(self, delivery: Any, webhook: Any) -> Outcome:
        target = parse_url(webhook.url, self._settings)
        addresses = await addresses_of(target, self._settings, self._resolver)
        body, now_ms = delivery.payload.encode(), self._clock.now_ms()
        secrets = [webhook.secret]
        if webhook.previous_until is not None and webhook.previous_until > now_ms:
            secrets.append(webhook.previous_secret)
        said = {"content-type": "application/json", **headers(secrets, delivery.id, now_ms // 1000, body)}
        answer = await post(
            target, addresses, said, body, context=self._context, most_bytes=self._settings.max_answer_bytes
        )
        why = accepted(webhook.template, answer)
        wait_s = float(answer.retry_after) if answer.status in _BUSY and answer.retry_after.isdecimal() else 0.0
        return Outcome(not why, why or f"{answer.status}", gone=answer.status == _GONE, retry_after_s=wait_s)


class EmailChannel:
    """Plain text by SMTP, in a thread."""

    def __init__(self, settings: OutboundSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock

    async def send(self, delivery: Any, webhook: Any) -> Outcome:
        letter = mail.Letter(
            delivery.id, delivery.target, delivery.subject, delivery.payload, self._clock.now_ms() // 1000
        )
        why = await aside(lambda: mail.send(self._settings, letter))
        return Outcome(not why, why or "taken by the mail server")


def channels(settings: OutboundSettings, clock: Clock, resolver: Resolver) -> dict[str, Channel]:
    """Return every way out by its name in the outbox."""
    return {"webhook": WebhookChannel(settings, clock, resolver), "email": EmailChannel(settings, clock)}
