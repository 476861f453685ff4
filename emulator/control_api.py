"""The control API: look at lines and devices, set values, run profiles, inject faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from emulator import control_models as told
from emulator.endpoints import Status as EndpointStatus
from emulator.faults import Fault, Faults
from emulator.openers import Openers
from emulator.profile_runner import ProfileRunner, State
from emulator.profiles import Step, Steps
from emulator.registry import BadValueError, Line, Registry, UnknownNameError

MOTION = "motion_detected"
UP = EndpointStatus(True)  # of the web server, which is asked just now


class ControlApi:
    """The calls; each takes and gives models. Any thread may call."""

    def __init__(
        self,
        instance_id: str,
        registry: Registry,
        statuses: Mapping[str, Callable[[], EndpointStatus]],
        profiles: ProfileRunner,
    ) -> None:
        """`statuses`: of the lines that have an endpoint, by id."""
        self._instance_id, self._registry = instance_id, registry
        self._statuses, self._profiles = statuses, profiles
        self._openers = Openers()
        self._begun_at = time.monotonic()

    # -- lines and devices ---------------------------------------------------------------------------------------

    def status(self) -> told.Status:
        """The whole."""
        registry = self._registry
        return told.Status(
            instance_id=self._instance_id,
            uptime_s=round(time.monotonic() - self._begun_at, 1),
            lines=self.lines().lines,
            devices=len(registry.devices),
            faults=len(self.all_faults().faults),
            profiles_running=sum(each.state is State.RUNNING for each in self._profiles.all()),
        )

    def lines(self) -> told.LineTable:
        """All lines."""
        return told.LineTable(lines=self._lines(self._registry.lines.values()))

    def line(self, line_id: str) -> told.LineFacts:
        """One line."""
        return self._lines([self._registry.line(line_id)])[0]

    def devices(self) -> told.DeviceTable:
        """All devices."""
        return told.DeviceTable(devices=tuple(self.device(each) for each in self._registry.devices))

    def device(self, device_id: str) -> told.DeviceFacts:
        """One device."""
        device = self._registry.device(device_id)
        return told.DeviceFacts(
            device_id=device_id,
            kind=device.kind,
            line_id=self._registry.line_of(device_id).line_id,
            values=dict(device.values()),
            takes=dict(device.settable()),
            held=tuple(device.held()),
            faults=told.faults_of(device.faults),
        )

    # -- values --------------------------------------------------------------------------------------------------

    def set_value(self, body: told.NewValue, device_id: str, name: str) -> told.DeviceFacts:
        """One value."""
        return self.set_values(told.NewValues(values={name: body.value}), device_id)

    def set_values(self, body: told.NewValues, device_id: str) -> told.DeviceFacts:
        """Several."""
        device = self._registry.device(device_id)
        for name, value in body.values.items():
            self._profiles.set_by_hand(device, name, value)
        return self.device(device_id)

    def release_value(self, device_id: str, name: str) -> told.DeviceFacts:
        """Back to its model."""
        self._profiles.set_by_hand(self._registry.device(device_id), name, None)
        return self.device(device_id)

    def press(self, body: told.Press, device_id: str) -> told.ProfileFacts:
        """A motion that ends by itself."""
        device = self._registry.device(device_id)
        if MOTION not in device.settable():
            raise BadValueError(f"{device_id} is no motion detector")
        profile = Steps(kind="step", steps=(Step(at_s=0, to=True),), lasts_s=body.seconds, then="release")
        return told.profile_of(self._profiles.run(device, MOTION, profile))

    # -- profiles ------------------------------------------------------------------------------------------------

    def run_profile(self, body: told.NewProfile) -> told.ProfileFacts:
        """Begin one."""
        device = self._registry.device(body.device_id)
        return told.profile_of(self._profiles.run(device, body.value, body.profile))

    def profiles(self) -> told.ProfileTable:
        """All."""
        return told.ProfileTable(profiles=tuple(told.profile_of(each) for each in self._profiles.all()))

    def stop_profile(self, profile_id: int) -> told.ProfileFacts:
        """One."""
        return told.profile_of(self._profiles.stop(profile_id))

    def stop_profiles(self) -> told.Cleared:
        """All that run."""
        return told.Cleared(cleared=self._profiles.stop_all())

    # -- faults --------------------------------------------------------------------------------------------------

    def all_faults(self) -> told.AllFaults:
        """Those in force, wherever."""
        registry = self._registry
        owners = [("line", name, line.faults) for name, line in registry.lines.items()]
        owners += [("device", name, device.faults) for name, device in registry.devices.items()]
        return told.AllFaults.model_validate(
            {
                "faults": tuple(
                    {"owner": owner, "owner_id": name, "fault": told.fault_of(active)}
                    for owner, name, faults in owners
                    for active in faults.active()
                )
            }
        )

    def clear_all_faults(self) -> told.Cleared:
        """Take all back."""
        count = len(self.all_faults().faults)
        for faults in self._everybodys():
            faults.clear()
        return told.Cleared(cleared=count)

    def line_faults(self, line_id: str) -> told.FaultList:
        """Of a line."""
        return told.faults_of(self._registry.line(line_id).faults)

    def device_faults(self, device_id: str) -> told.FaultList:
        """Of a device."""
        return told.faults_of(self._registry.device(device_id).faults)

    def line_fault(self, body: Fault, line_id: str) -> told.FaultInForce:
        """Inject one into a line."""
        return _injected(self._registry.line(line_id).faults, body)

    def device_fault(self, body: Fault, device_id: str) -> told.FaultInForce:
        """Inject one into a device."""
        return _injected(self._registry.device(device_id).faults, body)

    def clear_line(self, line_id: str) -> told.Cleared:
        """Take all of a line back."""
        return _cleared(self._registry.line(line_id).faults)

    def clear_device(self, device_id: str) -> told.Cleared:
        """Take all of a device back."""
        return _cleared(self._registry.device(device_id).faults)

    def remove_from_line(self, line_id: str, fault_id: int) -> told.Cleared:
        """Take one of a line back."""
        return _removed(self._registry.line(line_id).faults, fault_id)

    def remove_from_device(self, device_id: str, fault_id: int) -> told.Cleared:
        """Take one of a device back."""
        return _removed(self._registry.device(device_id).faults, fault_id)

    # -- inside --------------------------------------------------------------------------------------------------

    def _everybodys(self) -> list[Faults]:
        registry = self._registry
        lines = [line.faults for line in registry.lines.values()]
        return lines + [device.faults for device in registry.devices.values()]

    def _lines(self, lines: Collection[Line]) -> tuple[told.LineFacts, ...]:
        statuses = {name: status() for name, status in self._statuses.items()}
        programs = self._openers.of(
            [each.terminal for each in statuses.values() if each.terminal is not None]
        )
        return tuple(_line(line, statuses.get(line.line_id, UP), programs) for line in lines)


def _line(line: Line, status: EndpointStatus, programs: Mapping[str, tuple[str, ...]]) -> told.LineFacts:
    counters = line.counters
    return told.LineFacts(
        line_id=line.line_id,
        kind=line.kind,
        place=line.place,
        is_up=status.is_up,
        back_in_s=None if status.back_in_s is None else round(status.back_in_s, 1),
        tty=status.terminal,
        clients=status.clients if status.terminal is None else programs[status.terminal],
        baudrate=line.baudrate,
        paced=line.paced,
        counters=told.Counters(
            answered=counters.answered,
            swallowed=counters.swallowed,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
        ),
        devices=line.device_ids,
        faults=told.faults_of(line.faults),
    )


def _injected(faults: Faults, fault: Fault) -> told.FaultInForce:
    fault_id = faults.inject(fault)
    for active in faults.active():
        if active.fault_id == fault_id:
            return told.fault_of(active)
    return told.FaultInForce(**fault.model_dump(), fault_id=fault_id, struck=0, remaining_s=0.0)


def _cleared(faults: Faults) -> told.Cleared:
    count = len(faults.active())
    faults.clear()
    return told.Cleared(cleared=count)


def _removed(faults: Faults, fault_id: int) -> told.Cleared:
    if not faults.remove(fault_id):
        raise UnknownNameError(f"no fault {fault_id}")
    return told.Cleared(cleared=1)
