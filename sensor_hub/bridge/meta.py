"""What the instance says of itself: the device list and meta/info."""

from __future__ import annotations

from collections.abc import Callable

from sensor_hub import __version__, wire
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig
from sensor_hub.errors import HubError
from sensor_hub.readings import Json


class Meta:
    """Composes the payloads of `meta/devices_list`, `meta/info` and `discovered`."""

    def __init__(
        self, hub: HubConfig, aggregator: AggregatorClient, online: Callable[[str], bool], clock: Clock
    ) -> None:
        self._hub, self._aggregator, self._online, self._clock = hub, aggregator, online, clock
        self._started = clock.monotonic()

    def devices(self) -> list[Json]:
        """All configured devices."""
        return [
            {
                "device_id": sensor.sensor_id,
                "global_id": f"{self._hub.instance_id}_{sensor.sensor_id}",
                "type": sensor.sensor_type,
                "model": sensor.model,
                "friendly_name": sensor.friendly_name,
                "handler": str(sensor.handler),
                "enabled": sensor.enabled,
                "online": self._online(sensor.sensor_id),
            }
            for sensor in self._hub.sensors
        ]

    def devices_list(self) -> str:
        """The payload of `meta/devices_list`."""
        devices = self.devices()
        return wire.dumps({"devices": devices, "count": len(devices)})

    def discovered(self) -> str:
        """The payload of `discovered`: what this instance can reach is what is configured."""
        return wire.dumps({"timestamp": self._now(), "devices": self.devices()})

    def info(self) -> str:
        """The payload of `meta/info`. Asks the aggregator: not for the bridge's loop."""
        hub = self._hub
        return wire.dumps(
            {
                "instance_id": hub.instance_id,
                "connector_type": hub.connector_type,
                "status": "online",
                "version": __version__,
                "devices_count": len(hub.sensors),
                "groups_count": len(hub.groups),
                "update_interval": wire.plain(hub.update_interval_s),
                "uptime": round(self._clock.monotonic() - self._started),
                "timestamp": self._now(),
                "services": self._services(),
            }
        )

    def _services(self) -> dict[str, Json]:
        services: dict[str, Json] = {
            name: {"url": service.url, "status": "unreachable"}
            for name, service in self._hub.services.items()
        }
        try:
            health = self._aggregator.health()
        except HubError:
            return services
        services["state-aggregator"] = {"url": self._aggregator.url, "status": health.get("status")}
        found = health.get("dependencies")
        if isinstance(found, dict):
            services |= {name.replace("_", "-"): facts for name, facts in found.items()}
        return services

    def _now(self) -> str:
        return wire.timestamp_text(self._clock.now())
