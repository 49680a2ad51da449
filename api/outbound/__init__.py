"""Everything that leaves the house: signed webhooks, e-mail, notifications of people, the dead man's switch.

    finding_history, work_order_step, heartbeats ── collect ──> outbound_event
    outbound_event ── webhooks ──> webhook_delivery ── send ──> receivers
    outbound_event ── rules ──> notification ── tell ──> webhook_delivery ── send ──> people

One process of the API does this at a time (`api.outbound.lease`); whatever it writes is written in the transaction
that moves its place forward, so that a crash neither loses nor doubles a message in the outbox.
"""
