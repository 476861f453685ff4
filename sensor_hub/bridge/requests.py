"""What people ask over MQTT: commands to devices and groups, `get`, and `meta/request`.

Everything that asks a device runs in a lane; answers are published from there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from sensor_hub import commands, logs, properties, wire
from sensor_hub.bridge.lanes import Lanes
from sensor_hub.bridge.outbox import ANSWER, GROUP_ANSWER
from sensor_hub.bridge.states import state_payload
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import Clock
from sensor_hub.commands import Command
from sensor_hub.config.model import HubConfig
from sensor_hub.errors import (
    CommandTimeout,
    Disabled,
    HubError,
    InvalidCommand,
    UnknownDevice,
    UnknownGroup,
)
from sensor_hub.outputs.base import Message
from sensor_hub.outputs.topics import Topics
from sensor_hub.readings import Json
from sensor_hub.store_file import Item

log = logs.get(__name__)

GROUP_PATIENCE_S = commands.MAX_TIMEOUT_S + 10
MAX_SENT = 100  # commands under way at once: fewer than the aggregator answers (web.MAX_ANSWERING)
# A command with less time left than this is not begun: it would be carried out after it was given up.
MIN_LEFT_S, MIN_LEFT_SHARE = 0.5, 0.1


class Requests:
    """Answers requests. Its methods are called on the bridge's loop and never wait for a device.

    States that were asked for are published; answers to commands are kept (`keep`) until they are acknowledged.

    A device for which `publishes` is false takes commands like any other; what it says is not published.
    """

    def __init__(
        self,
        hub: HubConfig,
        topics: Topics,
        aggregator: AggregatorClient,
        publish: Callable[[Message], object],
        keep: Callable[[Sequence[Item]], None],
        publishes: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        self._hub, self._topics, self._aggregator, self._publish = hub, topics, aggregator, publish
        self._keep, self._publishes, self._clock = keep, publishes, clock
        self._sensors = {sensor.sensor_id: sensor for sensor in hub.sensors}
        self._groups = {group.group_id: group for group in hub.groups}
        self._memory = commands.Memory(clock)
        self._lanes = Lanes()
        self._sending = threading.BoundedSemaphore(MAX_SENT)
        self._unanswered = logs.OncePerMinute()

    def device_command(self, device_id: str, payload: bytes) -> None:
        """`devices/{id}/cmd`."""
        command = self._parsed(payload, device=device_id)
        if command is None:
            return
        self._in_lane(
            ("device", device_id) if device_id in self._sensors else ("unknown",),
            lambda execute: self._memory.answer(f"device {device_id}", command, execute),
            self._device_work(device_id, command),
            lambda body: self._respond(ANSWER, device_id, command, body),
        )

    def group_command(self, group_id: str, payload: bytes) -> None:
        """`groups/{id}/cmd`: as a device command, for all members side by side."""
        command = self._parsed(payload, group=group_id)
        if command is None:
            return
        arrived, arrived_at = self._clock.now(), self._clock.monotonic()
        self._in_lane(
            ("group", group_id) if group_id in self._groups else ("unknown",),
            lambda execute: self._memory.answer(f"group {group_id}", command, execute),
            lambda: self._command_members(group_id, command, arrived, arrived_at),
            lambda body: self._respond(
                GROUP_ANSWER, group_id, command, {**body, "results": body.get("results", {})}
            ),
        )

    def get(self, device_id: str, payload: bytes, publish_error: Callable[[str, HubError], None]) -> None:
        """`devices/{id}/get`: publish the whole state, or the asked properties without retaining them."""
        key = ("device", device_id) if device_id in self._sensors else ("unknown",)
        done = self._lanes.submit(key, lambda: self._publish_state(device_id, payload))
        _when_failed(done, lambda error: publish_error(device_id, error))

    def aside(self, work: Callable[[], None]) -> None:
        """Run something that asks the aggregator, in a lane of its own; failures are logged once a minute."""
        _when_failed(
            self._lanes.submit(("meta",), work), lambda error: self._log_unanswered(error.code, str(error))
        )

    def ignore(self, kind: str, topic: str) -> None:
        """Say once a minute that messages of this kind are not acted on."""
        self._log_unanswered(kind, topic)

    # -- commands -----------------------------------------------------------------------------------------------

    def _parsed(self, payload: bytes, **target: str) -> Command | None:
        try:
            return commands.from_outside(payload)
        except commands.Unanswerable as error:
            self._log_unanswered(f"command refused: {error.kind}", str(error), **target)
            return None

    def _in_lane(
        self,
        key: tuple[str, ...],
        once: Callable[[Callable[[], commands.Answer]], commands.Answer],
        work: Callable[[], commands.Answer],
        respond: Callable[[Mapping[str, Json]], None],
    ) -> None:
        done = self._lanes.submit(key, lambda: respond({"status": "success", **once(work)}))
        _when_failed(done, lambda error: respond(_error(error)))

    def _device_work(self, device_id: str, command: Command) -> Callable[[], commands.Answer]:
        arrived, arrived_at = self._clock.now(), self._clock.monotonic()

        def work() -> commands.Answer:
            self._check_enabled(device_id)
            commands.check_not_stale(command, arrived)
            return self._forward(device_id, command, arrived_at)

        return work

    def _forward(
        self, device_id: str, command: Command, arrived_at: float, *, with_id: bool = True
    ) -> commands.Answer:
        """Send to the device's handler, within what is left of the command's timeout."""
        allowed_s, _ = command.left(0.0)
        spare_s = min(MIN_LEFT_S, MIN_LEFT_SHARE * allowed_s)
        patience_s = allowed_s - spare_s - (self._clock.monotonic() - arrived_at)
        if not self._sending.acquire(timeout=max(0.0, patience_s)):
            raise CommandTimeout(f"too many commands under way for {allowed_s:g} s; not sent to {device_id}")
        try:
            waited_s = self._clock.monotonic() - arrived_at
            left_s, timeout = command.left(waited_s)
            if left_s < spare_s:
                raise CommandTimeout(
                    f"waited {waited_s:.1f} s behind other commands to {device_id}; not sent"
                )
            body: dict[str, Json] = {"values": command.values, "timeout": timeout}
            if with_id and command.id is not None:
                body["id"] = command.id
            answer = self._aggregator.command(device_id, body, left_s)
        finally:
            self._sending.release()
        return {key: answer.get(key) for key in ("values", "outcome", "outcomes") if key in answer}

    def _command_members(
        self, group_id: str, command: Command, arrived: datetime, arrived_at: float
    ) -> commands.Answer:
        group = self._groups.get(group_id)
        if group is None:
            raise UnknownGroup(f"no group {group_id[:64]!r}")
        commands.check_not_stale(command, arrived)
        properties.check_shape(command.values)
        _ = command.timeout_s  # raises here, once for the group, when it is no number of milliseconds
        waiting = {
            device_id: self._submit_member(device_id, command, arrived_at) for device_id in group.devices
        }
        results = {device_id: _result(future) for device_id, future in waiting.items()}
        good = sum(result["status"] == "success" for result in results.values())
        status = "success" if good == len(results) else "partial" if good else "error"
        return {"status": status, "results": dict(results)}

    def _submit_member(self, device_id: str, command: Command, arrived_at: float) -> Future[commands.Answer]:
        def work() -> commands.Answer:
            self._check_enabled(device_id)
            return self._forward(device_id, command, arrived_at, with_id=False)

        return self._lanes.submit(("device", device_id), work)

    def _check_enabled(self, device_id: str) -> None:
        sensor = self._sensors.get(device_id)
        if sensor is None:
            raise UnknownDevice(f"no device {device_id[:64]!r}")
        if not sensor.enabled:
            raise Disabled(f"{device_id} has enabled: false")

    def _respond(self, kind: str, target: str, command: Command, body: Mapping[str, Json]) -> None:
        if command.id is None:
            if body["status"] != "success":
                self._log_unanswered(
                    f"command failed: {body.get('error')}", str(body.get("message")), target=target
                )
            return
        now = wire.timestamp_text(self._clock.now())
        payload = wire.dumps({"cmd_id": command.id, "timestamp": now, **body})
        self._keep([Item(target, now, kind, payload.encode())])

    # -- get ----------------------------------------------------------------------------------------------------

    def _publish_state(self, device_id: str, payload: bytes) -> None:
        wanted = _wanted(payload)
        self._check_enabled(device_id)
        if not self._publishes(device_id):
            raise UnknownDevice(f"{device_id} is not published here: its `bridge` does not say so")
        answer = self._aggregator.device(device_id)
        body = {key: value for key, value in answer.items() if key not in ("cached", "cache_age")}
        missing = [name for name in wanted if name not in body]
        if missing:
            raise InvalidCommand(f"no property {', '.join(missing)[:200]}; there are {', '.join(body)}")
        retain = self._hub.mqtt.retain and not wanted
        text = state_payload(device_id, body, wanted)
        self._publish(Message(self._topics.device(device_id, "state"), text, retain))

    def _log_unanswered(self, kind: str, message: str, **target: Any) -> None:
        passes, held = self._unanswered.passes(kind)
        if passes:
            log.warning(kind, reason=message[:300], held_back=held, **target)


def _wanted(payload: bytes) -> list[str]:
    """The property names of a `get`; none means all. Raises InvalidCommand."""
    if not payload:
        return []
    if len(payload) > commands.MAX_PAYLOAD_BYTES:
        raise InvalidCommand(f"a request may have {commands.MAX_PAYLOAD_BYTES} bytes")
    try:
        body = wire.loads(payload)
    except wire.MalformedJson as error:
        raise InvalidCommand(str(error)) from error
    names = body.get("properties", []) if isinstance(body, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidCommand('get takes {} or {"properties": [names]}')
    return [name for name in names if isinstance(name, str)]


def _error(error: HubError) -> dict[str, Json]:
    return {"status": "error", "error": error.code, "message": str(error)}


def _when_failed(done: Future[Any], tell: Callable[[HubError], None]) -> None:
    def look(future: Future[Any]) -> None:
        error = future.exception()
        if isinstance(error, HubError):
            tell(error)

    done.add_done_callback(look)


def _result(future: Future[commands.Answer]) -> dict[str, Json]:
    try:
        return {"status": "success", **future.result(GROUP_PATIENCE_S)}
    except HubError as error:
        return _error(error)
    except TimeoutError:
        return _error(CommandTimeout(f"no answer within {GROUP_PATIENCE_S:g} s"))
