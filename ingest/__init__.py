"""Broker message -> checked Reading -> store; acknowledgements, quarantine and the delivery ledger."""
