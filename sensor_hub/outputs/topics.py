"""The topics of the contract's section 3, written in one place."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_hub.wire import topic_level

# What this instance publishes retained, and so must clear for devices that left the configuration.
RETAINED_FILTERS = ("devices/+/state", "devices/+/state/+", "devices/+/availability")
REQUEST_FILTERS = ("devices/+/cmd", "devices/+/get", "groups/+/cmd", "meta/request/+")


@dataclass(frozen=True, slots=True)
class Topics:
    """Full topics of one instance."""

    base: str
    instance_id: str

    @property
    def prefix(self) -> str:
        """Of every topic of the instance."""
        return f"{self.base}/v1/instances/{self.instance_id}"

    @property
    def status(self) -> str:
        """online / offline, and the Last Will."""
        return f"{self.prefix}/status"

    @property
    def global_events(self) -> str:
        """Events of all instances."""
        return f"{self.base}/v1/global/events"

    def device(self, device_id: str, leaf: str) -> str:
        """`leaf` is state, error, events, availability, telemetry or cmd/response."""
        return f"{self.prefix}/devices/{device_id}/{leaf}"

    def state_property(self, device_id: str, name: str) -> str:
        """One property of a state; what a topic level cannot hold becomes `_`."""
        return f"{self.prefix}/devices/{device_id}/state/{topic_level(name)}"

    def group_response(self, group_id: str) -> str:
        """The answer to a group command."""
        return f"{self.prefix}/groups/{group_id}/cmd/response"

    def meta(self, what: str) -> str:
        """`what` is devices_list or info."""
        return f"{self.prefix}/meta/{what}"

    @property
    def discovered(self) -> str:
        """The answer to meta/request/discover."""
        return f"{self.prefix}/discovered"
