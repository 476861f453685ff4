"""Where a device's readings come from, by configuration: looked up by who needs it, it does not travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sensor_hub.config.model import HubConfig, TransportConfig
from sensor_hub.readings import Json


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where a reading comes from, as people named it."""

    name: str
    device_identifier: str
    manufacturer: str
    model: str
    serial_number: str

    @classmethod
    def of(cls, transport: TransportConfig) -> SourceInfo:
        """The line's; without a serial number its id identifies it."""
        return cls(
            transport.device_name or transport.transport_id,
            (transport.serial_number or transport.transport_id).lower(),
            transport.manufacturer,
            transport.model,
            transport.serial_number,
        )


def sources(hub: HubConfig) -> Mapping[str, dict[str, Json]]:
    """Of every device `source_transport` and `source_transport_info`, as messages of outputs carry them."""
    infos = {each.transport_id: asdict(SourceInfo.of(each)) for each in hub.transports}
    return {
        sensor.sensor_id: {
            "source_transport": sensor.transport_id,
            "source_transport_info": dict(infos[sensor.transport_id]),
        }
        for sensor in hub.sensors
    }
