"""Every route and who may use it, written by hand: a route that is not listed here answers 403 to everybody.

`tests/api/access/routes.toml` says the same a second time, written independently; a test compares the two with what
the running application does. `create_app` refuses an application whose routes and this table disagree
(`api.access.resolver`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from registry.roles import Role


class Open(Enum):
    """Rules that are not roles."""

    ANYBODY = "anybody"
    """Whoever can reach the port: the login, and what its page needs."""
    ANY_USER = "any user"
    """Whoever is known, whatever the roles: one's own session."""
    ON_LOOPBACK = "on loopback"
    """Anybody who asks this machine from this machine; else whoever may look."""


Who = frozenset[Role] | Open

ANYBODY: Final = Open.ANYBODY
ANY_USER: Final = Open.ANY_USER
OPEN_ON_LOOPBACK: Final = Open.ON_LOOPBACK

LOOK: Final = frozenset(Role) - {Role.WORKER}
"""Readings, meters, gateways, events; a field worker sees what work orders show."""
REFUSED_ROWS: Final = frozenset({Role.OPERATOR, Role.ENGINEER, Role.SUPERVISOR, Role.ADMIN})
"""Bytes that ingest refused."""
FIELD: Final = frozenset({Role.OPERATOR, Role.ENGINEER})
"""Who watches and mends the field: commands to gateways."""
ENGINEERS: Final = frozenset({Role.ENGINEER})
WATCH: Final = frozenset({Role.OPERATOR, Role.SUPERVISOR})
"""Acknowledging, shelving, maintenance windows: for those who sit before the list of alarms."""
BOOKS: Final = frozenset({Role.BILLING, Role.SUPERVISOR, Role.ENGINEER})
"""The utility's books: exchanges, customers, manual readings, files."""
ADOPTERS: Final = frozenset({Role.BILLING, Role.ENGINEER})
"""Who decides on rows that ingest refused."""
ORDERS: Final = frozenset(Role)
"""Work orders: whoever may look, and a worker his own."""
OPENERS: Final = frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.OPERATOR})
"""Who takes calls: orders by hand, follow-up calls."""
DISPATCH: Final = frozenset({Role.DISPATCHER, Role.SUPERVISOR})
ON_SITE: Final = frozenset({Role.WORKER, Role.DISPATCHER, Role.SUPERVISOR})
SUPERVISORS: Final = frozenset({Role.SUPERVISOR})
CONFIRMERS: Final = frozenset({Role.SUPERVISOR, Role.APPROVER})
"""Who lets a change of thresholds count that an engineer proposed."""
THRESHOLDS: Final = ENGINEERS | CONFIRMERS
SENDERS: Final = frozenset({Role.ADMIN, Role.SUPERVISOR, Role.ENGINEER})
"""Who decides what leaves the house: webhooks, notification rules."""
BILLS: Final = frozenset({Role.BILLING, Role.APPROVER, Role.SUPERVISOR, Role.ADMIN})
"""Totals with account numbers: whoever makes, approves or answers for bills."""
CLERKS: Final = frozenset({Role.BILLING, Role.SUPERVISOR})
"""Who works on totals: decisions, manual readings, corrections, proposals."""
CLOSERS: Final = frozenset({Role.BILLING, Role.ADMIN})
APPROVERS: Final = frozenset({Role.APPROVER, Role.SUPERVISOR, Role.BILLING, Role.ADMIN})
"""Who may hold a rank that approves; the rank itself is asked for, too."""
RULES: Final = frozenset({Role.SUPERVISOR, Role.ADMIN})
"""Reading days and calorific values."""
BACKGROUND: Final = BILLS | BOOKS | THRESHOLDS
"""Whoever may ask for long work has the page that shows it; each sees his own."""
ADMINS: Final = frozenset({Role.ADMIN})
AUDITORS: Final = frozenset({Role.ADMIN, Role.SUPERVISOR})
ADMINISTRATION: Final = ADMINS | THRESHOLDS
"""Who opens the pages of administration at all; each of them has roles of its own."""

TABLE: Final[dict[tuple[str, str], Who]] = {
    # what watches the house
    ("GET", "/livez"): OPEN_ON_LOOPBACK,
    ("GET", "/readyz"): OPEN_ON_LOOPBACK,
    ("GET", "/metrics"): OPEN_ON_LOOPBACK,
    # pages
    ("GET", "/"): ANY_USER,
    ("GET", "/assets/{file}"): ANY_USER,
    ("POST", "/preferences"): ANYBODY,
    ("GET", "/events"): ORDERS,
    ("GET", "/alarms"): LOOK,
    ("GET", "/alarms/{number}"): LOOK,
    ("POST", "/alarms/acknowledge"): WATCH,
    ("POST", "/alarms/{number}/acknowledge"): WATCH,
    ("POST", "/alarms/{number}/comment"): WATCH,
    ("POST", "/alarms/{number}/shelve"): WATCH,
    ("POST", "/alarms/{number}/unshelve"): WATCH,
    ("POST", "/alarms/{number}/out-of-service"): WATCH,
    ("POST", "/alarms/{number}/return"): WATCH,
    ("GET", "/shift"): LOOK,
    ("POST", "/shift"): WATCH,
    ("GET", "/shift/{number}"): LOOK,
    ("POST", "/shift/{number}/note"): WATCH,
    ("POST", "/shift/{number}/hand-over"): WATCH,
    ("POST", "/shift/{number}/take-over"): WATCH,
    ("GET", "/meters/{meter_id}/why"): LOOK,
    ("GET", "/meters"): LOOK,
    ("GET", "/meters/{meter_id}"): LOOK,
    ("GET", "/meters/{meter_id}/consumption"): LOOK,
    ("GET", "/field"): LOOK,
    ("GET", "/field/quarantine"): REFUSED_ROWS,
    ("GET", "/field/quarantine/{number}"): REFUSED_ROWS,
    ("POST", "/field/quarantine/{number}/adopt"): ENGINEERS,
    ("POST", "/field/quarantine/{number}/discard"): ENGINEERS,
    ("GET", "/field/{gateway_id}"): LOOK,
    ("GET", "/billing"): LOOK,
    ("GET", "/billing/deltas"): BILLS,
    ("GET", "/billing/deltas/{number}"): BILLS,
    ("POST", "/billing/deltas/{number}/approve"): APPROVERS,
    ("GET", "/billing/{period}"): LOOK,
    ("GET", "/billing/{period}/close"): BILLS,
    ("POST", "/billing/{period}/close"): CLOSERS,
    ("POST", "/billing/{period}/refresh"): CLERKS,
    ("POST", "/billing/{period}/find-deltas"): CLERKS,
    ("POST", "/billing/{period}/reconcile"): CLERKS,
    ("POST", "/billing/{period}/verify"): BILLS,
    ("POST", "/billing/{period}/export"): BILLS,
    ("GET", "/billing/{period}/points/{usage_point}"): BILLS,
    ("POST", "/billing/{period}/points/{usage_point}/decide"): CLERKS,
    ("POST", "/billing/{period}/points/{usage_point}/readings"): CLERKS,
    ("POST", "/billing/{period}/points/{usage_point}/adjust"): CLERKS,
    ("POST", "/billing/{period}/points/{usage_point}/refresh"): CLERKS,
    ("GET", "/jobs"): BACKGROUND,
    ("GET", "/jobs/{number}"): BACKGROUND,
    ("GET", "/jobs/{number}/result"): BACKGROUND,
    ("POST", "/jobs/{number}/cancel"): BACKGROUND,
    ("POST", "/jobs/import"): BOOKS,
    ("GET", "/jobs/imports/{batch}"): BOOKS,
    ("POST", "/jobs/imports/{batch}/post"): BOOKS,
    ("GET", "/orders"): ORDERS,
    ("POST", "/orders"): OPENERS,
    ("GET", "/orders/new"): OPENERS,
    ("GET", "/orders/slips"): ON_SITE,
    ("GET", "/orders/{number}"): ORDERS,
    ("GET", "/orders/{number}/{form}"): ORDERS,
    ("POST", "/orders/{number}/accept"): DISPATCH,
    ("POST", "/orders/{number}/decline"): DISPATCH,
    ("POST", "/orders/{number}/dispatch"): DISPATCH,
    ("POST", "/orders/{number}/recall"): DISPATCH,
    ("POST", "/orders/{number}/cancel"): DISPATCH,
    ("POST", "/orders/{number}/extend"): DISPATCH,
    ("POST", "/orders/{number}/arrive"): ON_SITE,
    ("POST", "/orders/{number}/receipt"): ON_SITE,
    ("POST", "/orders/{number}/photos"): ON_SITE,
    ("POST", "/orders/{number}/void"): SUPERVISORS,
    ("POST", "/orders/{number}/note"): ON_SITE | OPENERS,
    ("POST", "/orders/{number}/call"): OPENERS,
    ("GET", "/account"): ANY_USER,
    ("POST", "/account/totp"): ANY_USER,
    ("POST", "/account/totp/confirm"): ANY_USER,
    ("POST", "/account/totp/remove"): ANY_USER,
    ("POST", "/account/logins/end"): ANY_USER,
    ("GET", "/admin"): ADMINISTRATION,
    ("GET", "/admin/users"): ADMINS,
    ("POST", "/admin/users"): ADMINS,
    ("GET", "/admin/users/{name}"): ADMINS,
    ("POST", "/admin/users/{name}/edit"): ADMINS,
    ("POST", "/admin/users/{name}/enable"): ADMINS,
    ("POST", "/admin/users/{name}/disable"): ADMINS,
    ("POST", "/admin/users/{name}/reset"): ADMINS,
    ("POST", "/admin/users/{name}/unlock"): ADMINS,
    ("POST", "/admin/users/{name}/remove-codes"): ADMINS,
    ("GET", "/admin/keys"): ADMINS,
    ("POST", "/admin/keys"): ADMINS,
    ("POST", "/admin/keys/{key_id}/rotate"): ADMINS,
    ("POST", "/admin/keys/{key_id}/revoke"): ADMINS,
    ("GET", "/admin/audit"): AUDITORS,
    ("POST", "/admin/audit/verify"): AUDITORS,
    ("GET", "/admin/thresholds"): ADMINISTRATION,
    ("POST", "/admin/thresholds"): ENGINEERS,
    ("GET", "/admin/thresholds/changes/{number}"): ADMINISTRATION,
    ("POST", "/admin/thresholds/changes/{number}/backtest"): ENGINEERS,
    ("POST", "/admin/thresholds/changes/{number}/confirm"): CONFIRMERS,
    ("POST", "/admin/thresholds/changes/{number}/cancel"): THRESHOLDS,
    ("GET", "/admin/outbound"): SENDERS,
    ("POST", "/admin/outbound/webhooks/{number}/replay"): SENDERS,
    ("POST", "/admin/outbound/deliveries/{delivery}/replay"): SENDERS,
    ("GET", "/admin/storage"): SENDERS,
    ("GET", "/docs"): ANY_USER,
    ("GET", "/docs/start.js"): ANY_USER,
    ("GET", "/docs/swagger-ui.css"): ANY_USER,
    ("GET", "/docs/swagger-ui-bundle.js"): ANY_USER,
    ("GET", "/docs/favicon.png"): ANYBODY,
    ("GET", "/style.css"): ANYBODY,
    ("GET", "/openapi.json"): ANY_USER,
    # logins
    ("GET", "/login"): ANYBODY,
    ("POST", "/login"): ANYBODY,
    ("GET", "/password"): ANY_USER,
    ("POST", "/password"): ANY_USER,
    ("POST", "/logout"): ANY_USER,
    ("GET", "/api/v1/session"): ANY_USER,
    ("POST", "/api/v1/session"): ANYBODY,
    ("DELETE", "/api/v1/session"): ANY_USER,
    ("POST", "/api/v1/session/password"): ANY_USER,
    ("POST", "/api/v1/session/totp"): ANY_USER,
    ("POST", "/api/v1/session/totp/confirm"): ANY_USER,
    # administration
    ("GET", "/api/v1/users"): ADMINS,
    ("POST", "/api/v1/users"): ADMINS,
    ("GET", "/api/v1/users/{name}"): ADMINS,
    ("PATCH", "/api/v1/users/{name}"): ADMINS,
    ("POST", "/api/v1/users/{name}/reset"): ADMINS,
    ("POST", "/api/v1/users/{name}/unlock"): ADMINS,
    ("DELETE", "/api/v1/users/{name}/totp"): ADMINS,
    ("GET", "/api/v1/keys"): ADMINS,
    ("POST", "/api/v1/keys"): ADMINS,
    ("DELETE", "/api/v1/keys/{key_id}"): ADMINS,
    ("POST", "/api/v1/keys/{key_id}/rotate"): ADMINS,
    ("GET", "/api/v1/audit"): AUDITORS,
    # meters and readings
    ("GET", "/api/v1/meters"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}/latest"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}/readings"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}/closings"): LOOK,
    ("GET", "/api/v1/latest"): LOOK,
    ("GET", "/api/v1/gateways"): LOOK,
    ("GET", "/api/v1/gateways/{gateway_id}"): LOOK,
    # commands to gateways
    ("POST", "/api/v1/meters/{meter_id}/read-now"): FIELD,
    ("POST", "/api/v1/meters/{meter_id}/set-clock"): ENGINEERS,
    ("POST", "/api/v1/gateways/{gateway_id}/set-clock"): ENGINEERS,
    ("GET", "/api/v1/commands"): FIELD,
    ("GET", "/api/v1/commands/{nonce}"): FIELD,
    ("GET", "/api/v1/events"): LOOK,
    # findings
    ("GET", "/api/v1/findings"): LOOK,
    ("GET", "/api/v1/findings/{number}"): LOOK,
    ("POST", "/api/v1/findings/acknowledge"): WATCH,
    ("POST", "/api/v1/findings/{number}/acknowledge"): WATCH,
    ("POST", "/api/v1/findings/{number}/comment"): WATCH,
    ("POST", "/api/v1/findings/{number}/shelve"): WATCH,
    ("POST", "/api/v1/findings/{number}/unshelve"): WATCH,
    ("POST", "/api/v1/findings/{number}/out-of-service"): WATCH,
    ("POST", "/api/v1/findings/{number}/return-to-service"): WATCH,
    ("GET", "/api/v1/maintenance-windows"): LOOK,
    ("POST", "/api/v1/maintenance-windows"): WATCH,
    ("GET", "/api/v1/maintenance-windows/{number}"): LOOK,
    ("POST", "/api/v1/maintenance-windows/{number}/end"): WATCH,
    ("GET", "/api/v1/thresholds"): LOOK,
    ("GET", "/api/v1/threshold-changes"): LOOK,
    ("POST", "/api/v1/threshold-changes"): ENGINEERS,
    ("GET", "/api/v1/threshold-changes/{number}"): LOOK,
    ("POST", "/api/v1/threshold-changes/{number}/backtest"): ENGINEERS,
    ("POST", "/api/v1/threshold-changes/{number}/confirm"): CONFIRMERS,
    ("POST", "/api/v1/threshold-changes/{number}/cancel"): THRESHOLDS,
    ("GET", "/api/v1/shifts"): LOOK,
    ("POST", "/api/v1/shifts"): WATCH,
    ("GET", "/api/v1/shifts/{number}"): LOOK,
    ("POST", "/api/v1/shifts/{number}/notes"): WATCH,
    ("POST", "/api/v1/shifts/{number}/hand-over"): WATCH,
    ("POST", "/api/v1/shifts/{number}/take-over"): WATCH,
    # long work
    ("GET", "/api/v1/jobs"): LOOK,
    ("GET", "/api/v1/jobs/{number}"): LOOK,
    ("POST", "/api/v1/jobs/{number}/cancel"): LOOK,
    ("GET", "/api/v1/jobs/{number}/result"): LOOK,
    # work orders
    ("GET", "/api/v1/work-orders"): ORDERS,
    ("GET", "/api/v1/work-orders/slips"): ON_SITE,
    ("POST", "/api/v1/work-orders"): OPENERS,
    ("GET", "/api/v1/work-orders/{number}"): ORDERS,
    ("POST", "/api/v1/work-orders/{number}/accept"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/decline"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/dispatch"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/recall"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/cancel"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/extend"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/external-id"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/arrive"): ON_SITE,
    ("POST", "/api/v1/work-orders/{number}/void"): SUPERVISORS,
    ("POST", "/api/v1/work-orders/by-external-id/{external_id}/status"): DISPATCH,
    ("POST", "/api/v1/work-orders/{number}/receipts"): ON_SITE,
    ("GET", "/api/v1/work-orders/{number}/photos"): ORDERS,
    ("POST", "/api/v1/work-orders/{number}/photos"): ON_SITE,
    ("GET", "/api/v1/work-orders/{number}/photos/{photo}"): ORDERS,
    ("GET", "/api/v1/teams"): LOOK,
    ("PUT", "/api/v1/teams/{team}"): DISPATCH,
    ("GET", "/api/v1/absences"): LOOK,
    ("POST", "/api/v1/absences"): DISPATCH,
    ("POST", "/api/v1/absences/{absence}/end"): DISPATCH,
    ("GET", "/api/v1/follow-ups"): LOOK,
    ("POST", "/api/v1/follow-ups/{number}/answer"): OPENERS,
    ("GET", "/api/v1/inspection-plans/{year}"): LOOK,
    ("POST", "/api/v1/inspection-plans"): DISPATCH,
    ("GET", "/api/v1/rules/precision"): LOOK,
    # what leaves the house
    ("GET", "/api/v1/webhooks"): SENDERS,
    ("POST", "/api/v1/webhooks"): SENDERS,
    ("GET", "/api/v1/webhooks/{number}"): SENDERS,
    ("PATCH", "/api/v1/webhooks/{number}"): SENDERS,
    ("DELETE", "/api/v1/webhooks/{number}"): SENDERS,
    ("POST", "/api/v1/webhooks/{number}/rotate-secret"): SENDERS,
    ("POST", "/api/v1/webhooks/{number}/test"): SENDERS,
    ("POST", "/api/v1/webhooks/{number}/replay"): SENDERS,
    ("GET", "/api/v1/webhook-deliveries"): SENDERS,
    ("GET", "/api/v1/webhook-deliveries/{delivery}"): SENDERS,
    ("POST", "/api/v1/webhook-deliveries/{delivery}/replay"): SENDERS,
    ("GET", "/api/v1/notification-rules"): SENDERS,
    ("POST", "/api/v1/notification-rules"): SENDERS,
    ("GET", "/api/v1/notification-rules/{number}"): SENDERS,
    ("PATCH", "/api/v1/notification-rules/{number}"): SENDERS,
    ("DELETE", "/api/v1/notification-rules/{number}"): SENDERS,
    # the books
    ("GET", "/api/v1/usage-points/{usage_point}/history"): LOOK,
    ("POST", "/api/v1/usage-points/{usage_point}/installs"): BOOKS,
    ("POST", "/api/v1/usage-points/{usage_point}/exchanges"): BOOKS,
    ("POST", "/api/v1/usage-points/{usage_point}/removals"): BOOKS,
    ("POST", "/api/v1/usage-points/{usage_point}/seals"): BOOKS,
    ("POST", "/api/v1/usage-points/{usage_point}/openings"): BOOKS,
    ("POST", "/api/v1/usage-points/{usage_point}/classes"): BOOKS,
    ("POST", "/api/v1/usage-points/{usage_point}/customers"): BOOKS,
    ("POST", "/api/v1/book-entries/{number}/undo"): BOOKS,
    ("POST", "/api/v1/meters/{meter_id}/manual-readings"): BOOKS,
    ("GET", "/api/v1/office-readings/{number}"): LOOK,
    ("POST", "/api/v1/quarantine/{number}/adopt"): ADOPTERS,
    ("POST", "/api/v1/quarantine/{number}/discard"): ADOPTERS,
    ("POST", "/api/v1/imports"): BOOKS,
    ("GET", "/api/v1/imports/{batch}"): BOOKS,
    ("GET", "/api/v1/imports/{batch}/rows"): BOOKS,
    ("POST", "/api/v1/imports/{batch}/send-back"): BOOKS,
    ("POST", "/api/v1/imports/{batch}/post"): BOOKS,
    ("POST", "/api/v1/imports/{batch}/reverse"): BOOKS,
    # billing
    ("GET", "/api/v1/billing/totals"): BILLS,
    ("GET", "/api/v1/billing/usage-points/{usage_point}/totals/{period}"): BILLS,
    ("POST", "/api/v1/billing/usage-points/{usage_point}/totals/{period}/refresh"): CLERKS,
    ("POST", "/api/v1/billing/usage-points/{usage_point}/totals/{period}/decide"): CLERKS,
    ("POST", "/api/v1/billing/usage-points/{usage_point}/totals/{period}/readings"): CLERKS,
    ("GET", "/api/v1/billing/usage-points/{usage_point}/totals/{period}/why"): BILLS,
    ("GET", "/api/v1/billing/periods"): BILLS,
    ("POST", "/api/v1/billing/periods/{period}/refresh"): CLERKS,
    ("GET", "/api/v1/billing/periods/{period}/checklist"): BILLS,
    ("POST", "/api/v1/billing/periods/{period}/close"): CLOSERS,
    ("POST", "/api/v1/billing/periods/{period}/find-deltas"): CLERKS,
    ("GET", "/api/v1/billing/closes"): BILLS,
    ("GET", "/api/v1/billing/closes/{number}"): BILLS,
    ("GET", "/api/v1/billing/closes/{number}/verify"): BILLS,
    ("GET", "/api/v1/billing/deltas"): BILLS,
    ("GET", "/api/v1/billing/deltas/{number}"): BILLS,
    ("POST", "/api/v1/billing/adjustments"): CLERKS,
    ("POST", "/api/v1/billing/deltas/{number}/approve"): APPROVERS,
    ("GET", "/api/v1/billing/corrections"): BILLS,
    ("POST", "/api/v1/billing/corrections"): CLERKS,
    ("POST", "/api/v1/billing/corrections/{number}/withdraw"): CLERKS,
    ("GET", "/api/v1/billing/calendars"): BILLS,
    ("POST", "/api/v1/billing/calendars"): RULES,
    ("GET", "/api/v1/billing/validation-rules"): BILLS,
    ("POST", "/api/v1/billing/validation-rules"): RULES,
    ("POST", "/api/v1/billing/calendars/{number}/end"): RULES,
    ("GET", "/api/v1/billing/extra-days"): BILLS,
    ("POST", "/api/v1/billing/extra-days"): RULES,
    ("GET", "/api/v1/billing/calorific-values"): BILLS,
    ("POST", "/api/v1/billing/calorific-values"): RULES,
    ("GET", "/api/v1/billing/read-rates"): BILLS,
    ("GET", "/api/v1/billing/reading-report"): BILLS,
    ("GET", "/api/v1/billing/reconciliation/links/{usage_point}"): BILLS,
    ("GET", "/api/v1/billing/reconciliation/{kind}"): BILLS,
    ("POST", "/api/v1/billing/reconciliation/{kind}"): CLERKS,
    ("GET", "/api/v1/billing/reconciliation/{kind}/usage-points/{usage_point}/{period}"): BILLS,
    ("POST", "/api/v1/billing/reconciliation/prepaid/exchanges"): CLERKS,
    # what was refused
    ("GET", "/api/v1/quarantine"): REFUSED_ROWS,
    ("GET", "/api/v1/quarantine/{number}"): REFUSED_ROWS,
    ("GET", "/api/v1/quarantine/{number}/raw"): REFUSED_ROWS,
}


LEAVING: Final = frozenset({("GET", "/api/v1/session"), ("DELETE", "/api/v1/session"), ("POST", "/logout")})
"""What every login may do: see whose it is, and end it."""

CHANGING_PASSWORD: Final = frozenset(
    {("POST", "/api/v1/session/password"), ("GET", "/password"), ("POST", "/password")}
)
"""All else that is open to a user with a one-time password."""

ENROLLING: Final = frozenset(
    {("POST", "/api/v1/session/totp"), ("POST", "/api/v1/session/totp/confirm"), ("GET", "/account")}
    | {("POST", "/account/totp"), ("POST", "/account/totp/confirm")}
)
"""All else that is open to a user who must enrol for codes."""

FORMS: Final = frozenset(
    {("POST", "/login"), ("POST", "/password"), ("POST", "/logout")}
    | {line for line in TABLE if line[0] == "POST" and line[1].startswith(("/alarms", "/shift", "/orders"))}
    | {line for line in TABLE if line[0] == "POST" and line[1].startswith(("/account/", "/admin/", "/field/"))}
    | {line for line in TABLE if line[0] == "POST" and line[1].startswith(("/billing/", "/jobs/"))}
)
"""Routes of plain HTML forms: they check the token that stands in the form, where a script would send a header."""
