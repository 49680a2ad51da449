"""From broker message to store: decode, check, quarantine, dedupe, write, acknowledge, notice.

`service.run_ingest` is the service; `store_sqlite.SqliteStore` the embedded store.
"""
