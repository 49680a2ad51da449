"""All routes of the application, in the order in which an address is looked for among them."""

from __future__ import annotations

from functools import cache
from typing import Final

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from api import parameters
from api.access.gate import same_route
from api.routes import (
    audit,
    billing,
    billing_close,
    billing_reports,
    billing_rules,
    books,
    commands,
    crews,
    events,
    findings,
    gateways,
    imports,
    jobs,
    keys,
    latest,
    live,
    login,
    maintenance,
    meters,
    notification_rules,
    order_field,
    order_plans,
    pages,
    reconciliation,
    screen_account,
    screen_admin,
    screen_admin_audit,
    screen_admin_keys,
    screen_admin_outbound,
    screen_admin_storage,
    screen_admin_thresholds,
    screen_admin_users,
    screen_alarms,
    screen_billing,
    screen_billing_deltas,
    screen_billing_point,
    screen_field,
    screen_jobs,
    screen_meters,
    screen_order_forms,
    screen_orders,
    screen_shift,
    screens,
    session,
    shifts,
    slips,
    thresholds,
    users,
    watch,
    webhooks,
    work_orders,
)

EVERYWHERE: Final = (Depends(same_route), Depends(parameters.refuse_repeated))
"""What stands before every route."""


def operation(route: APIRoute) -> str:
    """Return a route's id in the OpenAPI document."""
    return route.name


@cache
def routes() -> list[BaseRoute]:
    """Return all routes, worked out once in a process; they know their applications only by the requests."""
    made = APIRouter(generate_unique_id_function=operation, dependencies=EVERYWHERE)
    for module in (
        meters,
        latest,
        gateways,
        commands,
        crews,
        order_plans,
        slips,
        work_orders,
        order_field,
        webhooks,
        notification_rules,
        events,
        findings,
        maintenance,
        thresholds,
        shifts,
        jobs,
        books,
        imports,
        billing,
        billing_close,
        billing_reports,
        billing_rules,
        reconciliation,
        watch,
        session,
        users,
        keys,
        audit,
        login,
        pages,
        screens,
        screen_account,
        screen_admin,
        screen_admin_audit,
        screen_admin_keys,
        screen_admin_outbound,
        screen_admin_storage,
        screen_admin_thresholds,
        screen_admin_users,
        screen_field,
        screen_alarms,
        screen_billing_deltas,
        screen_billing,
        screen_billing_point,
        screen_jobs,
        screen_meters,
        screen_shift,
        screen_orders,
        screen_order_forms,
        live,
    ):
        made.include_router(module.router)
    return made.routes
