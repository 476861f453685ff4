"""mqtt-bridge: the process between the state-aggregator and the MQTT broker."""

from __future__ import annotations

import signal

from sensor_hub.bridge import Bridge
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import system_clock
from sensor_hub.outputs import OUTPUTS
from sensor_hub.startup import configured


def main() -> None:
    """Run until SIGTERM or SIGINT; ends with 78 at once when the configuration has problems."""
    hub = configured("mqtt-bridge")
    aggregator = AggregatorClient(hub.services["state-aggregator"].url, hub.instance_id)
    bridge = Bridge(hub, aggregator, OUTPUTS["mqtt"](hub), system_clock(hub.timezone))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    bridge.run()


if __name__ == "__main__":
    main()
