"""What goes over the wire about callers: sessions, users, keys, the audit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.parameters import Moment, clean
from api.schemas import NextCursor
from registry.roles import Rank, Role


class Body(BaseModel):
    """Base of every body: what is not listed is refused, and so is a number where a text belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True)


UserName = Annotated[str, Field(min_length=1, max_length=64, examples=["li.wei"]), AfterValidator(clean)]
Password = Annotated[str, Field(min_length=1, max_length=400)]
Code = Annotated[str, Field(max_length=12, description="Six digits of the authenticator app.", examples=["123456"])]
Shown = Annotated[str, Field(max_length=200), AfterValidator(clean)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=9, examples=[["viewer"]])]
Ranks = Annotated[list[Rank], Field(max_length=4)]
Areas = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]],
    Field(max_length=200, description='Districts; ["*"] for all, an empty list for none.', examples=[["*"]]),
]


class LoginIn(Body):
    """A login."""

    name: UserName
    password: Password
    code: Code = ""


class PasswordIn(Body):
    """A new password."""

    old: Password
    new: Password


class CodeIn(Body):
    """The first code of a new authenticator."""

    code: Code


class SessionOut(BaseModel):
    """Who calls, and what that opens."""

    name: str = Field(description="user:… or key:…", examples=["user:li.wei"])
    display_name: str
    roles: list[Role]
    ranks: list[Rank]
    areas: list[str] = Field(description='Districts; ["*"] for all.')
    read_only: bool
    must_change: bool = Field(description="The password was for one time: nothing else works until it is changed.")
    must_enrol: bool = Field(description="A role asks for codes: nothing else works until the user has enrolled.")
    totp: bool = Field(description="The user gives codes at login.")
    csrf_token: str | None = Field(description="To be sent as X-CSRF-Token with every change; none for a key.")
    expires_at: str | None = Field(description="When the login ends if nothing more is asked.")


class TotpOut(BaseModel):
    """A new secret for an authenticator app, good once its first code is confirmed."""

    secret: str
    uri: str = Field(description="otpauth:// address, for a QR code.")


class UserOut(BaseModel):
    """A user; never a secret."""

    name: str
    display_name: str
    roles: list[Role]
    ranks: list[Rank]
    areas: list[str]
    enabled: bool
    totp: bool
    one_time: bool = Field(description="Must change the password at the next login.")
    one_time_until: str | None
    failed: int = Field(description="Wrong logins in a row.")
    locked_until: str | None
    last_login_at: str | None
    created_at: str
    changed_at: str
    version: int


class UserPage(BaseModel):
    """Users by name."""

    items: list[UserOut]
    next_cursor: NextCursor


class UserIn(Body):
    """A new user."""

    name: UserName
    display_name: Shown = ""
    roles: Roles
    ranks: Ranks = []
    areas: Areas


class UserEdit(Body):
    """What shall be changed of a user; what is left out stays."""

    display_name: Shown | None = None
    roles: Roles | None = None
    ranks: Ranks | None = None
    areas: Areas | None = None
    enabled: bool | None = None


class NewUserOut(BaseModel):
    """A user with the one-time password, which nobody can see again."""

    user: UserOut
    one_time_password: str


class KeyOut(BaseModel):
    """A key without its secret."""

    id: str = Field(examples=["mg_ab12cd34"])
    name: str
    roles: list[Role]
    areas: list[str]
    read_only: bool
    created_by: str
    created_at: str
    expires_at: str
    revoked_at: str | None
    used_at: str | None = Field(description="When it was used last, to the minute.")


class KeyPage(BaseModel):
    """Keys, newest first."""

    items: list[KeyOut]
    next_cursor: NextCursor


class KeyIn(Body):
    """A new key."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="Who uses it."), AfterValidator(clean)]
    roles: Roles
    areas: Areas
    read_only: bool = True
    expires_at: Moment


class RotateIn(Body):
    """How a key is replaced."""

    expires_at: Moment
    old_until: Moment = Field(description="Until then the old key works too.")


class NewKeyOut(BaseModel):
    """A key with its text, which nobody can see again."""

    facts: KeyOut
    key: str = Field(description="To be sent as `Authorization: Bearer …`.")


class AuditOut(BaseModel):
    """One row of the audit."""

    number: int
    at: str
    actor: str
    action: str
    object_kind: str
    object_id: str
    detail: dict[str, Any]
    address: str
    hash: str


class AuditPage(BaseModel):
    """Rows of the audit, newest first."""

    items: list[AuditOut]
    next_cursor: str | None
