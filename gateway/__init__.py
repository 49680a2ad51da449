"""The edge program: poll plan, drivers, outbox (store and forward), uplink, health."""
