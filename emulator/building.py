"""Makes a scenario's lines and devices, and enters them in the registry."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from emulator import scenario
from emulator.ascii_line_devices import Printer, Scale
from emulator.control_api import ControlApi
from emulator.control_app import add_control
from emulator.endpoints import Endpoint, PtyEndpoint, Status
from emulator.ev_model import Vehicle
from emulator.faults import HTTP, MODBUS, RAPI, TEXT, Faults, Kind, share
from emulator.http_devices import WebServer, create_app, web_url
from emulator.line import SerialLine
from emulator.modbus_pdu import Table
from emulator.motion import MotionModel
from emulator.motion_device import MotionDevice
from emulator.pacing import Speed
from emulator.peers import ModbusBus, Peer, TextPeer
from emulator.profile_runner import ProfileRunner
from emulator.rapi_charger import Charger, Make
from emulator.rapi_day import ChargerDevice
from emulator.recording import RecordingError, read
from emulator.registry import Device, Line, Registry
from emulator.replay import ReplayDevice, ReplayPeer, script_of
from emulator.scenario import Bits, Words
from emulator.tcp_endpoints import TcpClient, TcpServer
from emulator.units import Blocks, Manners, Refusal, SensorUnit, Unit
from emulator.values import Signal, stream

HTTP_LINE = "http"
TextDevice = ChargerDevice | Scale | Printer


def now() -> datetime:
    """The wall time."""
    return datetime.now(UTC)


class Emulated:
    """All that a scenario asks for, built and not yet started."""

    def __init__(self, wanted: scenario.Scenario) -> None:
        """Raises ScenarioError for a recording that cannot be used."""
        self.registry = Registry()
        self.lines: list[SerialLine] = []
        self.web: WebServer | None = None
        self.profiles = ProfileRunner(lambda: now().astimezone(wanted.zone))
        self._wanted = wanted
        names = scenario.line_ids(wanted)
        for line, name in zip(wanted.lines, names, strict=False):
            self._add_bus(line, name)
        for text, name in zip(wanted.text_lines, names[len(wanted.lines) :], strict=True):
            self._add_text(text, name)
        if wanted.http is not None:
            self._add_web(wanted.http)

    def _chance(self, *name: str) -> random.Random:
        return stream(self._wanted.seed, *name)

    def _add_bus(self, line: scenario.Line, name: str) -> None:
        units = {unit.unit_id: self._unit(unit) for unit in line.units}
        self._add_line(line, name, "modbus", ModbusBus(units), list(units.values()))

    def _add_text(self, text: scenario.Text, name: str) -> None:
        if text.recording is not None:
            self._add_replay(text, text.recording, name)
            return
        is_charger = text.kind in scenario.CHARGERS
        faults = Faults(RAPI if is_charger else TEXT, self._chance("faults", name, "device"))
        device = self._talker(text, text.sensor_id or name, faults)
        peer = TextPeer(device, is_charger=is_charger)
        self._add_line(text, name, text.kind, peer, [device])

    def _add_replay(self, text: scenario.Text, recording: Path, name: str) -> None:
        try:
            script = script_of(read(recording))
        except RecordingError as error:
            raise scenario.ScenarioError([f"recording of line {name}: {error}"]) from error
        faults = Faults(TEXT, self._chance("faults", name, "device"))
        device = ReplayDevice(text.sensor_id or name, faults, script)
        self._add_line(text, name, text.kind, ReplayPeer(device, script), [device])

    def _add_line(
        self,
        line: scenario.Line | scenario.Text,
        name: str,
        kind: str,
        peer: Peer,
        devices: Sequence[Device],
    ) -> None:
        endpoint = endpoint_of(line)
        faults = Faults(
            peer.possible,
            self._chance("line", name),
            [*share(Kind.SILENCE, line.error_rate), *line.faults],
        )
        speed = Speed(line.speed, line.parity, line.stopbits)
        ids = tuple(device.device_id for device in devices)
        facts = Line(name, kind, endpoint.place, faults, ids, speed.baudrate, line.paced)
        self.registry.add(facts, devices)
        self.lines.append(SerialLine(facts, endpoint, peer, speed, self._chance("garbage", name)))

    def _unit(self, unit: scenario.Unit) -> Unit:
        faults = Faults(MODBUS, self._chance("faults", unit.sensor_id), unit.faults)
        refuses = [Refusal(each.table, each.address, each.count, each.exception) for each in unit.refuses]
        manners = Manners(unit.max_registers, unit.separate_blocks, refuses)
        blocks = _blocks_of(unit)
        if unit.kind == scenario.REGISTERS:
            return Unit(unit.unit_id, unit.sensor_id, unit.kind, faults, blocks, manners)
        signal = Signal(unit.kind, self._wanted.zone, self._chance("value", unit.sensor_id))
        return SensorUnit(unit.unit_id, unit.sensor_id, unit.kind, faults, signal, now, blocks, manners)

    def _talker(self, text: scenario.Text, name: str, faults: Faults) -> TextDevice:
        def measured(kind: str) -> Callable[[], float]:
            signal = Signal(kind, self._wanted.zone, self._chance(kind, name))
            return lambda: signal.at(now())

        if text.kind in scenario.CHARGERS:
            return self._charger(text, name, faults)
        if text.kind == "scale":
            return Scale(name, text.kind, faults, measured("generic"))
        return Printer(name, text.kind, faults, measured("temperature"), measured("humidity"))

    def _charger(self, text: scenario.Text, name: str, faults: Faults) -> ChargerDevice:
        wanted = text.charger or scenario.ChargerMake()
        ev = wanted.ev
        vehicle = Vehicle(
            plugged=ev.plugged,
            asks_for_charge=ev.requesting_charge,
            soc=ev.soc,
            battery_kwh=ev.battery_kwh,
            max_charge_kw=ev.max_charge_kw,
            direct_mode=ev.direct_mode,
            direct_amps=ev.direct_amps,
            variance=ev.variance,
            chance=self._chance("ev", name),
        )
        make = Make(
            wanted.firmware_version,
            wanted.protocol_version,
            wanted.amps,
            wanted.service_level,
            wanted.serial,
        )
        charger = Charger(scenario.dialect_of(text), make, vehicle)
        return ChargerDevice(name, text.kind, faults, charger, wanted.round_s)

    def _add_web(self, http: scenario.Http) -> None:
        devices = {
            name: MotionDevice(
                name,
                Faults(HTTP, self._chance("faults", name)),
                MotionModel(now(), self._wanted.zone, self._chance("motion", name)),
                now,
            )
            for name in http.motion
        }
        faults = Faults(HTTP, self._chance("http"), [*share(Kind.HANG, http.error_rate), *http.faults])
        facts = Line(HTTP_LINE, "http", web_url(http.host, http.port), faults, tuple(devices))
        self.registry.add(facts, list(devices.values()))
        app = create_app(devices, {http.host, *http.names})
        statuses = {line.facts.line_id: _status_of(line) for line in self.lines}
        add_control(app, ControlApi(self._wanted.instance_id, self.registry, statuses, self.profiles))
        self.web = WebServer(http.host, http.port, app, faults, devices)


def _status_of(line: SerialLine) -> Callable[[], Status]:
    return lambda: line.status


def endpoint_of(line: scenario.Line | scenario.Text) -> Endpoint:
    """Where the line's clients come in."""
    mode = line.place_mode
    if mode == "pty":
        assert line.pty_path is not None
        return PtyEndpoint(line.pty_path)
    assert line.tcp_port is not None
    if mode == "tcp":
        return TcpServer(line.tcp_host, line.tcp_port, many=line.clients == "many")
    backoff_s = line.reconnect_backoff_ms / 1000
    return TcpClient(line.tcp_host, line.tcp_port, backoff_s, line.reconnect_timeout_sec)


def _blocks_of(unit: scenario.Unit) -> Blocks:
    given: dict[Table, Words | Bits] = {
        Table.HOLDING: unit.holding,
        Table.INPUT: unit.input,
        Table.COIL: unit.coil,
        Table.DISCRETE: unit.discrete,
    }
    return {
        table: {
            address: [int(word) for word in (words if isinstance(words, list) else [words])]
            for address, words in contents.items()
        }
        for table, contents in given.items()
    }
