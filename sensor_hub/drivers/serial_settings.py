"""Options that every serial line has; a driver's own are added in a subclass, which sets its usual baud rate."""

from __future__ import annotations

from typing import Annotated, Literal

from sensor_hub.drivers.base import Settings
from sensor_hub.drivers.serial_port import Port, open_port
from sensor_hub.drivers.settings import one_of, whole


class SerialSettings(Settings):
    """How characters are sent on the line."""

    baudrate: Annotated[int, whole(50, 4_000_000)] = 9600
    bytesize: Annotated[int, whole(7, 8)] = 8
    parity: Annotated[Literal["N", "E", "O"], one_of("NEO")] = "N"
    stopbits: Annotated[int, whole(1, 2)] = 1

    @property
    def char_s(self) -> float:
        """Seconds that one character takes."""
        return (1 + self.bytesize + (self.parity != "N") + self.stopbits) / self.baudrate

    def open(self, url: str) -> Port:
        """Open the line with these options. Raises TransportDown."""
        return open_port(
            url,
            baudrate=self.baudrate,
            bytesize=self.bytesize,
            parity=self.parity,
            stopbits=self.stopbits,
        )
