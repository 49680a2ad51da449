"""The words of the API about commands to gateways."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Answer, At, NextCursor

CommandState = Literal["waiting", "sent", "done", "failed", "unknown", "refused", "expired"]


class GatewayClocks(BaseModel):
    """Which clocks of a gateway are set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    bus: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="Only the meters on this bus; all of the gateway when left out."
    )


class MeterAnswer(Answer):
    """What became of a command at one meter."""

    meter: str
    cause: str = Field(description="ok, or why not: timeout, no_set_time, unknown_meter, …", examples=["ok"])
    sentence: str
    at: At


class CommandOut(Answer):
    """One command to a gateway."""

    nonce: str = Field(description="Names the command.", examples=["6f1c0e7a2b9d4c3e8a5f7b1d9e0c2a44"])
    gateway: str
    meter: str | None = Field(description="The one meter that it is about; null for several.")
    name: str = Field(examples=["read-now"])
    state: CommandState = Field(
        description="waiting for its gateway, sent, done, failed for some meter, unknown (the gateway was started "
        "again while it did it), refused, expired."
    )
    issued_by: str
    issued_at: At
    deadline: At = Field(description="It is not begun after this time.")
    finished_at: At | None
    result: str = Field(description="One sentence of the gateway; empty while there is none.")


class CommandDetail(CommandOut):
    """One command and what it did at each meter."""

    meters: list[MeterAnswer]


class CommandsOut(Answer):
    """The commands that one request made: one for each local time among the meters."""

    items: list[CommandOut]


class CommandPage(Answer):
    """Commands, newest first."""

    items: list[CommandOut]
    next_cursor: NextCursor
