"""The table of all calls of the emulator's web server, with an example for each."""

from __future__ import annotations

from emulator import control_models as told
from emulator.control_api import ControlApi
from emulator.control_routes import Route
from emulator.faults import Fault
from emulator.http_devices import DEVICES_PATH

LINE = {"line_id": "bus"}
DEVICE = {"device_id": "temperature"}
VALUE = {**DEVICE, "name": "value"}
CHARGER = {"device_id": "ev"}
MOTION = {"device_id": "motion"}


def calls(api: ControlApi) -> tuple[Route, ...]:
    """In the order in which they are documented; examples are of the emulator that runs without a scenario."""
    return (*_looking(api), *_setting(api), *_profiles(api), *_faults(api), *_detectors())


def _looking(api: ControlApi) -> tuple[Route, ...]:
    return (
        Route("GET", "/api/status", "The emulator and its lines", told.Status, api.status),
        Route("GET", "/api/lines", "All lines: place, terminal, clients, faults", told.LineTable, api.lines),
        Route("GET", "/api/lines/{line_id}", "One line", told.LineFacts, api.line, parameters=LINE),
        Route("GET", "/api/devices", "All devices with their values", told.DeviceTable, api.devices),
        Route(
            "GET", "/api/devices/{device_id}", "One device", told.DeviceFacts, api.device, parameters=DEVICE
        ),
    )


def _setting(api: ControlApi) -> tuple[Route, ...]:
    return (
        Route(
            "PUT",
            "/api/devices/{device_id}/values/{name}",
            "Set a value; a measured one is held until it is released",
            told.DeviceFacts,
            api.set_value,
            told.NewValue,
            VALUE,
            {"value": 31.5},
        ),
        Route(
            "DELETE",
            "/api/devices/{device_id}/values/{name}",
            "Release a value: back to its model",
            told.DeviceFacts,
            api.release_value,
            parameters=VALUE,
        ),
        Route(
            "PATCH",
            "/api/devices/{device_id}/values",
            "Set several values, such as those of a charger's car",
            told.DeviceFacts,
            api.set_values,
            told.NewValues,
            CHARGER,
            {"values": {"plugged": True, "requesting_charge": True, "soc": 40}},
        ),
        Route(
            "POST",
            "/api/devices/{device_id}/press",
            "Press `motion`: on for so long, then as the detector's model says",
            told.ProfileFacts,
            api.press,
            told.Press,
            MOTION,
            {"seconds": 5},
            201,
        ),
    )


def _profiles(api: ControlApi) -> tuple[Route, ...]:
    return (
        Route("GET", "/api/profiles", "Profiles: running and over", told.ProfileTable, api.profiles),
        Route(
            "POST",
            "/api/profiles",
            "Run a profile (step, ramp, day, csv) on a value; one that runs on it stops",
            told.ProfileFacts,
            api.run_profile,
            told.NewProfile,
            example={
                "device_id": "humidity",
                "value": "value",
                "profile": {"kind": "ramp", "from": 40, "to": 60, "lasts_s": 120, "then": "release"},
            },
            status=201,
        ),
        Route("DELETE", "/api/profiles", "Stop all profiles", told.Cleared, api.stop_profiles),
        Route(
            "DELETE",
            "/api/profiles/{profile_id}",
            "Stop a profile",
            told.ProfileFacts,
            api.stop_profile,
            parameters={"profile_id": "1"},
        ),
    )


def _faults(api: ControlApi) -> tuple[Route, ...]:
    line, device = "/api/lines/{line_id}/faults", "/api/devices/{device_id}/faults"
    garbage = {"kind": "garbage", "probability": 0.5, "duration_s": 30}
    silence = {"kind": "silence", "count": 3}
    one = {"fault_id": "1"}
    return (
        Route("GET", "/api/faults", "All faults in force", told.AllFaults, api.all_faults),
        Route("DELETE", "/api/faults", "Clear all faults", told.Cleared, api.clear_all_faults),
        Route("GET", line, "The faults of a line", told.FaultList, api.line_faults, parameters=LINE),
        Route("POST", line, "Inject a fault", told.FaultInForce, api.line_fault, Fault, LINE, garbage, 201),
        Route(
            "DELETE",
            f"{line}/{{fault_id}}",
            "Clear a fault",
            told.Cleared,
            api.remove_from_line,
            parameters=LINE | one,
        ),
        Route("DELETE", line, "Clear the faults of a line", told.Cleared, api.clear_line, parameters=LINE),
        Route("GET", device, "The faults of a device", told.FaultList, api.device_faults, parameters=DEVICE),
        Route(
            "POST", device, "Inject a fault", told.FaultInForce, api.device_fault, Fault, DEVICE, silence, 201
        ),
        Route(
            "DELETE",
            f"{device}/{{fault_id}}",
            "Clear a fault",
            told.Cleared,
            api.remove_from_device,
            parameters=DEVICE | one,
        ),
        Route(
            "DELETE",
            device,
            "Clear the faults of a device",
            told.Cleared,
            api.clear_device,
            parameters=DEVICE,
        ),
    )


def _detectors() -> tuple[Route, ...]:
    """What a hub polls; http_devices has them."""
    path, sensor = f"{DEVICES_PATH}{{sensor_id}}", {"sensor_id": "motion"}
    return (
        Route("GET", path, "Poll a motion detector, as a hub does", told.Poll, None, parameters=sensor),
        Route(
            "POST",
            f"{path}/motion",
            "Hold motion on or off",
            told.MotionHeld,
            None,
            told.HoldMotion,
            sensor,
            {"active": None},
        ),
    )
