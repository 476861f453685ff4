"""mqtt-bridge: the process between the state-aggregator and the MQTT broker; it has the other outputs done, too."""

from __future__ import annotations

import signal

from sensor_hub.bridge import Bridge
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import system_clock
from sensor_hub.config.model import BRIDGE
from sensor_hub.outputs import check_output
from sensor_hub.outputs.followers import Followers
from sensor_hub.outputs.platform_mqtt import PlatformMqtt
from sensor_hub.startup import configured


def main() -> None:
    """Run until SIGTERM or SIGINT; ends with 78 at once when the configuration has problems."""
    hub = configured(BRIDGE, check_output=check_output)
    clock = system_clock(hub.timezone)
    followers = Followers(hub, clock)
    aggregator = AggregatorClient(hub.services["state-aggregator"].url, hub.instance_id)
    bridge = Bridge(hub, aggregator, PlatformMqtt(hub), clock)

    def stop(*_: object) -> None:
        followers.stop()
        bridge.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    followers.start()
    bridge.run()
    followers.join()


if __name__ == "__main__":
    main()
