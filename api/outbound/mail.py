"""One e-mail by SMTP: encrypted, one recipient, and nothing in it that could begin a header of its own."""

from __future__ import annotations

import contextlib
import smtplib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from api.outbound.http import tls_context
from api.outbound.settings import OutboundSettings, is_mail_address
from api.outbound.texts import plain

_MOST_TEXT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Letter:
    """One e-mail. id: becomes the Message-ID, so that a double is known as one. at_s: [s since 1970]."""

    id: str
    to: str
    subject: str
    text: str
    at_s: int


def compose(letter: Letter, sender: str) -> EmailMessage:
    """Return the message. Raises: ValueError for an address that is none."""
    if not is_mail_address(letter.to):
        raise ValueError("the recipient is not an e-mail address")
    made = EmailMessage(policy=SMTP)
    made["From"] = sender
    made["To"] = letter.to
    made["Subject"] = plain(f"[Metergate] {letter.subject}")[:250]
    made["Date"] = format_datetime(datetime.fromtimestamp(letter.at_s, UTC))
    made["Message-ID"] = f"<{letter.id}@{sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies
    made.set_content(letter.text[:_MOST_TEXT])
    return made


def send(settings: OutboundSettings, letter: Letter) -> str:
    """Send it, blocking at most the settings' timeout per step. Returns: "" when taken, else why not."""
    if not settings.smtp_host:
        return "there is no mail server: set outbound.smtp_host"
    try:
        made = compose(letter, settings.mail_from)
        with contextlib.closing(_connect(settings)) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(made)
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it has the letter; how it ends is its matter
                server.quit()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return f"the mail server did not take it: {plain(str(error))}"[:300]
    return ""


def _connect(settings: OutboundSettings) -> smtplib.SMTP:
    """Return a session, encrypted unless the settings say otherwise. Raises: OSError, smtplib.SMTPException."""
    host, port, timeout = settings.smtp_host, settings.smtp_port, settings.timeout_s
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=timeout, context=tls_context(settings.tls_ca))
    server = smtplib.SMTP(host, port, timeout=timeout)
    if settings.smtp_security == "starttls":
        try:
            server.starttls(context=tls_context(settings.tls_ca))  # raises when the server does not offer it
        except BaseException:
            server.close()
            raise
    return server
