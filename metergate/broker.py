"""The embedded broker of the demo and of a desk: rumqttd out of PyPI's `iotcore`, in a process of its own.

    python -m metergate.broker --port 1883

Speaks MQTT 3.1.1 on loopback, keeps nothing on disk. Mosquitto is the broker for work; nothing depends on which one
it is, because a reading leaves the gateway's outbox only on ingest's own acknowledgement.
"""

from __future__ import annotations

import argparse
import signal

from iotcore import Broker

from metering.messages import MAX_BYTES


def main() -> None:
    """Run until a signal ends the process."""
    options = argparse.ArgumentParser(description="Metergate's embedded MQTT broker (loopback only)")
    options.add_argument("--port", type=int, required=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # rumqttd has no shutdown call; it has nothing to save either
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    broker = Broker(port=options.parse_args().port, listen="127.0.0.1", max_payload_size=4 * MAX_BYTES)
    broker.run_forever()


if __name__ == "__main__":
    main()
