"""E-mail: encrypted before the password, one recipient, and nothing that becomes a header of its own."""

from __future__ import annotations

import email
from email.policy import default
from typing import Any

import pydantic
import pytest

from api.outbound import mail
from api.outbound.mail import Letter
from api.outbound.settings import OutboundSettings, is_mail_address
from registry.database import Database
from tests.api.outbound.conftest import Trust
from tests.api.outbound.receiver import MailServer
from tests.api.outbound.scene import Scene, play


def settings(server: MailServer, trust: Trust, **more: object) -> OutboundSettings:
    facts: dict[str, Any] = {
        "smtp_host": "127.0.0.1",
        "smtp_port": server.port,
        "smtp_user": "metergate",
        "tls_ca": trust.ca,
    }
    return OutboundSettings(
        **(facts | {"smtp_password": pydantic.SecretStr("pw"), "mail_from": "m@gas.example", **more})
    )


def test_a_finding_arrives_encrypted_by_starttls(database: Database, trust: Trust) -> None:
    server = MailServer(trust.server)
    scene = Scene(database, settings(server, trust))
    scene.rule((0, ["mail:duty@example.org"]))

    async def work() -> None:
        scene.find()
        await scene.turn()
        await scene.turn()
        assert [row.state for row in scene.deliveries()] == ["delivered"]

    play(scene, work)
    server.close()
    ((recipients, text),) = server.letters
    assert (recipients, server.encrypted, len(server.logins)) == (["rcpt TO:<duty@example.org>"], [True], 1)
    read = email.message_from_string(text, policy=default)
    assert read["Subject"] == "[Metergate] urgent finding opened 新异常 leak UP-1, G-0001, north"
    assert read["Message-ID"] == f"<{scene.deliveries()[0].id}@gas.example>"
    assert "疑似泄漏" in read.get_content()


def test_a_server_without_starttls_gets_neither_password_nor_letter(trust: Trust) -> None:
    server = MailServer(None)
    why = mail.send(settings(server, trust), Letter("msg_1", "a@b.cn", "s", "t", 0))
    server.close()
    assert "STARTTLS" in why
    assert (server.letters, server.logins) == ([], [])


def test_a_server_with_a_strange_certificate_gets_nothing(trust: Trust) -> None:
    server = MailServer(trust.server)
    why = mail.send(settings(server, trust, tls_ca=None), Letter("msg_1", "a@b.cn", "s", "t", 0))
    server.close()
    assert "certificate" in why
    assert (server.letters, server.logins) == ([], [])


def test_no_server_and_no_answer_are_said_in_words() -> None:
    letter = Letter("msg_1", "a@b.cn", "s", "t", 0)
    assert mail.send(OutboundSettings(), letter) == "there is no mail server: set outbound.smtp_host"
    nobody = OutboundSettings(smtp_host="127.0.0.1", smtp_port=9, timeout_s=2)
    assert "did not take it" in mail.send(nobody, letter)


def test_line_breaks_in_a_subject_begin_no_header() -> None:
    made = mail.compose(Letter("msg_1", "a@b.cn", "leak\r\nBcc: all@example.org\n\nbody", "text", 0), "m@gas.example")
    assert made["Bcc"] is None
    assert [name for name, _ in made.items()] == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@",
        "@b",
        "a@b,c@d",
        "a b@c",
        "a@b\r\nBcc: x@y",
        "<a@b>",
        "A <a@b>",
        "a@b@c",
        "-x@b",
        "x" * 250 + "@b.cn",
        "é@b.cn",
        "a..b@c",
    ],
)
def test_what_is_not_one_plain_address_is_refused(text: str) -> None:
    assert not is_mail_address(text)
    with pytest.raises(ValueError, match="not an e-mail address"):
        mail.compose(Letter("msg_1", text, "s", "t", 0), "m@gas.example")


def test_plain_addresses_are_taken() -> None:
    assert is_mail_address("li.wei+gas@example.org")
