"""Sensors that name no place are emulated: which line and unit each gets, and the emulator's scenario."""

from __future__ import annotations

from collections.abc import Mapping

from sensor_hub.config.model import EmulatorConfig, Handler, Parallelism, TransportConfig
from sensor_hub.config.settings import Resolved, as_text
from sensor_hub.config.transports import http_transport
from sensor_hub.readings import Json
from sensor_hub.runtime import run_dir

LINE_ID = "emulator"
BAUDRATE = 19200
UNITS_PER_LINE = 100
SERIAL_ERROR_RATE, HTTP_ERROR_RATE = 0.05, 0.03
_REGISTER: Mapping[str, Json] = {"table": "input", "address": 0, "data_type": "int16", "scale": 0.1}


class Emulation:
    """Gives emulated sensors a place, in the order they come.

    A disabled sensor keeps its place (so that enabling it moves nobody), but the emulator does not serve it.
    """

    def __init__(
        self, instance_id: str, port: int, poll_interval_s: float, parallelism: Parallelism = Parallelism.AUTO
    ) -> None:
        self.transports: dict[str, TransportConfig] = {}
        self.port = port
        self.motion: list[Json] = []
        self._instance_id = instance_id
        self._poll_interval_s = poll_interval_s
        self._parallelism = parallelism
        self._units: dict[str, list[Json]] = {}
        self._count = 0

    def place(
        self, sensor_id: str, sensor_type: str, path: str, *, enabled: bool
    ) -> tuple[TransportConfig, dict[str, Json]]:
        """The line of an emulated sensor and its options there."""
        if sensor_type == "motion":
            return self._place_http(sensor_id, path, enabled=enabled), {}
        line, unit = divmod(self._count, UNITS_PER_LINE)
        self._count += 1
        transport = self._serial_line(line)
        if enabled:
            units = self._units.setdefault(transport.url, [])
            units.append({"unit_id": unit + 1, "sensor_id": sensor_id, "kind": sensor_type})
        return transport, {"unit_id": unit + 1, "register": dict(_REGISTER)}

    def _place_http(self, sensor_id: str, path: str, *, enabled: bool) -> TransportConfig:
        if enabled:
            self.motion.append(sensor_id)
        transport = http_transport(
            sensor_id,
            url=f"http://127.0.0.1:{self.port}/sensors/{sensor_id}",
            path=path,
            poll_interval_s=self._poll_interval_s,
            emulated=True,
        )
        self.transports[transport.transport_id] = transport
        return transport

    def _serial_line(self, line: int) -> TransportConfig:
        transport_id = LINE_ID if line == 0 else f"{LINE_ID}-{line + 1}"
        if transport_id not in self.transports:
            self.transports[transport_id] = TransportConfig(
                transport_id=transport_id,
                driver="modbus_rtu",
                url=str(run_dir(self._instance_id) / f"emulator-{line}.pty"),
                handler=Handler.SERIAL,
                path=transport_id,
                options={"baudrate": BAUDRATE},
                write=True,
                parallelism=self._parallelism,
                emulated=True,
            )
        return self.transports[transport_id]

    @property
    def is_needed(self) -> bool:
        """Whether an enabled sensor is emulated."""
        return bool(self._units or self.motion)

    def config(self, settings: Resolved) -> EmulatorConfig | None:
        """What the emulator must serve; None when it has nothing to do."""
        if not self.is_needed:
            return None
        rate = settings.get("EMULATOR_ERROR_RATE", float)
        lines: list[Json] = [
            {
                "pty_path": pty_path,
                "baudrate": BAUDRATE,
                "error_rate": SERIAL_ERROR_RATE if rate is None else rate,
                "units": units,
            }
            for pty_path, units in self._units.items()
        ]
        http: Json = {
            "host": "127.0.0.1",
            "port": self.port,
            "error_rate": HTTP_ERROR_RATE if rate is None else rate,
            "motion": self.motion,
        }
        scenario: dict[str, Json] = {
            "instance_id": self._instance_id,
            "seed": settings.get("EMULATOR_SEED", int),
            "timezone": as_text(settings.values["TZ"]),
            "lines": lines,
            "http": http,  # without motion detectors, too: faults and values are set over it
            "ignore_environment": True,  # the hub looks for the devices where this says
        }
        return EmulatorConfig(self.port, scenario)
