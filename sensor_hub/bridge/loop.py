"""The bridge's loop: one thread that owns what the broker was told; everybody else hands it events."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sensor_hub import logs, runtime, threads
from sensor_hub.bridge.discovery import Discovery
from sensor_hub.bridge.happenings import Happenings, error_item, telemetry_item
from sensor_hub.bridge.meta import Meta
from sensor_hub.bridge.outbox import Outbox
from sensor_hub.bridge.requests import Requests
from sensor_hub.bridge.states import StatePublisher
from sensor_hub.clients import AggregatorClient
from sensor_hub.clock import Clock
from sensor_hub.config.model import HubConfig
from sensor_hub.errors import HubError, Unreadable
from sensor_hub.journal import Had, News
from sensor_hub.outputs.base import Connected, Disconnected, Event, Heard, Message, Output, Request, Retained
from sensor_hub.outputs.topics import Topics
from sensor_hub.properties import PropertySpec
from sensor_hub.readings import Json
from sensor_hub.store_file import Item
from sensor_hub.store_queue import telemetry_of

log = logs.get(__name__)

TICK_S = 0.25
SIGN_OF_LIFE_S = 2.0
TELEMETRY_S = 60.0
RETAINED_S = 5.0  # how long after the first connect leftovers of earlier configurations are looked for
HANDLERS_PATIENCE_S = 10.0
MAX_WAITING_REQUESTS = 20_000
MAX_WAITING_NEWS = 3  # a thousand entries each at most; more wait in the journal, which is bounded
WATCHED = "mqtt"  # the output whose connection `sensor-hub health` asks about


@dataclass(frozen=True, slots=True)
class _News:
    news: News


@dataclass(frozen=True, slots=True)
class _Lost:
    error: HubError


@dataclass(frozen=True, slots=True)
class _Telemetry:
    rows: dict[str, Json]


@dataclass(frozen=True, slots=True)
class _Properties:
    specs: dict[str, dict[str, PropertySpec]]
    complete: bool


@dataclass(frozen=True, slots=True)
class _Failed:
    device_id: str
    error: HubError


_Inner = Event | _News | _Lost | _Telemetry | _Properties | _Failed


class Bridge:
    """Runs until `stop`."""

    def __init__(self, hub: HubConfig, aggregator: AggregatorClient, output: Output, clock: Clock) -> None:
        """Wire the parts; nothing is reached for before `run`."""
        self._hub, self._aggregator, self._output, self._clock = hub, aggregator, output, clock
        self._topics = Topics(hub.mqtt.base_topic, hub.instance_id)
        self._inbox: queue.SimpleQueue[_Inner] = queue.SimpleQueue()
        self._room_for_news = threading.Semaphore(MAX_WAITING_NEWS)
        self._stopping = threading.Event()
        self._outbox = Outbox(hub, self._topics, output, clock)
        self._states = StatePublisher(hub, self._topics, output.publish, clock, output.name)
        self._happenings = Happenings(hub, self._states.sensors, clock)
        self._requests = Requests(
            hub, self._topics, aggregator, output.publish, self._outbox.put, self._states.publishes, clock
        )
        self._discovery = Discovery(hub, self._topics, output, clock, self._ask_properties)
        self._meta = Meta(hub, aggregator, self._states.online, clock)
        self._overflow = logs.OncePerMinute()
        self._listed: str | None = None  # the device list the broker has
        self._asked: set[str] = set()  # since the last tick
        self._tick_at = self._sign_at = self._telemetry_at = 0.0
        self._forget_at: float | None = None
        self._had = Had()
        self._is_marked = False  # whether the place in the journal was kept since the start
        self._cleared: list[str] = []  # topics of earlier lives

    def stop(self) -> None:
        """End the loop; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Wait for the services, connect, then follow and answer until stopped."""
        self._had = Had.load(self._happenings.load(self._outbox.start()))
        threads.start("readiness", self._start_when_ready, self._stopping)
        self._telemetry_at = self._clock.monotonic() + TELEMETRY_S
        while not self._stopping.is_set():
            event: _Inner | None = None
            try:
                event = self._inbox.get(timeout=TICK_S)
            except queue.Empty:
                pass
            try:
                if event is not None:
                    self._handle(event)
                if self._clock.monotonic() >= self._tick_at:  # a flood of events must not be a flood of ticks
                    self._tick_at = self._clock.monotonic() + TICK_S
                    self._tick()
            except Exception:
                # Top of the loop: one defect must not silence every device.
                log.exception("bridge failed to handle an event", kind=type(event).__name__)
        self._keep_place()
        self._outbox.stop()
        self._output.stop()
        self._outbox.close()
        log.info("stopped")

    def _put(self, event: _Inner) -> None:
        if isinstance(event, Request | Retained | Heard) and self._inbox.qsize() >= MAX_WAITING_REQUESTS:
            passes, held = self._overflow.passes("overflow")
            if passes:
                log.error("too many messages at once, some are dropped", held_back=held)
            return
        self._inbox.put(event)

    def _start_when_ready(self) -> None:
        """Ask until the services answer: the instance is not `online` before it can serve."""
        first_answer: float | None = None
        while not self._stopping.wait(0.1):
            try:
                health = self._aggregator.health()
            except HubError as error:
                self._say_waiting(str(error))
                continue
            first_answer = first_answer or self._clock.monotonic()
            patient = self._clock.monotonic() - first_answer < HANDLERS_PATIENCE_S
            if health.get("status") == "healthy" or not patient:
                break
        if not self._stopping.is_set():
            log.info("services are ready")
            self._output.start(self._put)
            threads.start("follow", self._follow, self._stopping)

    def _follow(self) -> None:
        self._aggregator.follow_journal(
            self._take_news, lambda e: self._put(_Lost(e)), self._stopping, self._had
        )

    def _take_news(self, news: News) -> None:
        """Waits while the loop has enough to do."""
        while not self._room_for_news.acquire(timeout=TICK_S):
            if self._stopping.is_set():
                return
        self._put(_News(news))

    def _say_waiting(self, reason: str) -> None:
        passes, _ = self._overflow.passes("waiting")
        if passes:
            log.info("waiting for the state-aggregator", reason=reason)

    def _say_unreadable(self, error: HubError) -> None:
        if isinstance(error, Unreadable):
            passes, held = self._overflow.passes("unreadable")
            if passes:
                log.error("feed cannot be read", of="state-aggregator", reason=str(error), held_back=held)

    def _handle(self, event: _Inner) -> None:
        match event:
            case _News(news):
                self._room_for_news.release()
                items = self._happenings.news(news)
                self._states.changed(news.changes)
                self._keep(items)
                self._note_loss(news.missed)
            case _Lost(error):
                self._say_unreadable(error)
                self._keep(self._happenings.board(self._states.lost(error)))
            case Request():
                self._request(event)
            case Connected():
                self._connected()
            case Disconnected():
                self._states.connected = self._happenings.connected = False
            case Retained(topic):
                self._clear_leftover(topic)
            case Heard():
                self._discovery.heard(event)
            case _Properties(specs, complete):
                self._discovery.learn(specs, complete=complete)
            case _Telemetry(rows):
                self._publish_telemetry(rows)
            case _Failed(device_id, error):
                item = error_item(device_id, error.code, str(error), "warning", self._clock.now())
                self._keep([item])

    def _connected(self) -> None:
        self._states.connected = self._happenings.connected = True
        self._states.announce()
        self._list_devices(anew=True)
        self._publish_info()
        self._discovery.connected()
        if self._forget_at is None:
            self._forget_at = self._clock.monotonic() + RETAINED_S
        self._sign_at = 0.0
        self._outbox.look()

    def _keep(self, items: Sequence[Item]) -> None:
        """What happened, and with it how far the journal was read: after a kill nothing is told twice or skipped."""
        is_first = not self._is_marked and self._happenings.is_read
        if items or is_first:
            self._is_marked = self._is_marked or is_first
            self._outbox.put(items, self._happenings.mark())

    def _keep_place(self, items: Sequence[Item] = ()) -> None:
        """How far the journal was read, from time to time: what was had is not read again, nor taken for missed."""
        self._outbox.put(items, self._happenings.mark() if self._happenings.is_read else None)

    def _note_loss(self, missed: int) -> None:
        if missed:
            self._keep_place()
            passes, _ = self._overflow.passes("missed")
            if passes:
                words, total = "entries of the journal were missed, events may be", self._happenings.missed
                log.error(words, count=missed, total=total)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self._states.tick()
        if self._states.connected:
            self._answer_asked()
            if self._discovery.tick():
                self._states.announce()
        if now >= self._telemetry_at:
            self._telemetry_at = now + TELEMETRY_S
            self._requests.aside(lambda: self._put(_Telemetry(self._aggregator_telemetry())))
            self._publish_info()
        if self._forget_at is not None and now >= self._forget_at:
            self._forget_at = float("inf")
            self._output.forget_retained()
            self._discovery.forget()
            if self._cleared:
                some = ", ".join(self._cleared[:5])
                log.info("cleared leftover topics", count=len(self._cleared), some=some)
        if self._output.name == WATCHED and now >= self._sign_at:
            self._sign_at = now + SIGN_OF_LIFE_S
            self._sign_of_life()

    def _sign_of_life(self) -> None:
        try:
            problem = self._output.problem()
            runtime.write_bridge_state(self._hub.instance_id, self._output.connected, problem)
            runtime.write_queue_figures(self._hub.instance_id, self._output.name, self._figures())
        except OSError as error:
            passes, _ = self._overflow.passes("sign of life")
            if passes:
                log.warning("sign of life not written", reason=str(error))

    def _request(self, request: Request) -> None:
        if request.retained:
            self._requests.ignore("retained request ignored", request.topic)
            return
        match request.topic.split("/"):
            case ["devices", device_id, "cmd"]:
                self._requests.device_command(device_id, request.payload)
            case ["devices", device_id, "get"]:
                self._requests.get(device_id, request.payload, lambda d, e: self._put(_Failed(d, e)))
            case ["groups", group_id, "cmd"]:
                self._requests.group_command(group_id, request.payload)
            case ["meta", "request", "info"]:
                self._publish_info()
            case ["meta", "request", ("devices_list" | "discover") as what]:
                self._asked.add(what)
            case _:
                self._requests.ignore("unknown request", request.topic[:200])

    def _answer_asked(self) -> None:
        """Once, however often it was asked: the answers are long, and everybody hears them."""
        asked, self._asked = self._asked, set()
        self._list_devices(anew="devices_list" in asked)
        if "discover" in asked:
            self._output.publish(Message(self._topics.discovered, self._meta.discovered()))

    def _list_devices(self, *, anew: bool = False) -> None:
        text = self._meta.devices_list()
        if anew or text != self._listed:
            taken = self._output.publish(Message(self._topics.meta("devices_list"), text, retain=True))
            self._listed = text if taken else None

    def _publish_info(self) -> None:
        def work() -> None:
            self._output.publish(Message(self._topics.meta("info"), self._meta.info(), retain=True))

        if self._states.connected:
            self._requests.aside(work)

    def _aggregator_telemetry(self) -> dict[str, Json]:
        rows = self._aggregator.get("/telemetry").get("telemetry")
        return rows if isinstance(rows, dict) else {}

    def _ask_properties(self) -> None:
        def work() -> None:
            try:
                self._put(_Properties(*self._aggregator.properties()))
            except HubError:
                self._put(_Properties({}, complete=False))
                raise

        self._requests.aside(work)

    def _publish_telemetry(self, rows: dict[str, Json]) -> None:
        now, queues = self._clock.now(), self._queue_metrics()
        self._keep_place(
            [
                telemetry_item(device_id, {**metrics, **queues}, now)
                for device_id, metrics in rows.items()
                if self._states.publishes(device_id) and isinstance(metrics, dict)
            ]
        )

    def _figures(self) -> dict[str, Json]:
        return self._outbox.figures(self._happenings.missed)

    def _queue_metrics(self) -> dict[str, Json]:
        """Of the instance's queues together, whichever output they belong to."""
        others = runtime.read_queue_figures(self._hub.instance_id)
        return telemetry_of({**others, self._output.name: self._figures()}.values())

    def _clear_leftover(self, topic: str) -> None:
        """A retained topic of an earlier life: cleared unless a device of today owns it."""
        device_id, full = topic.split("/")[1], f"{self._topics.prefix}/{topic}"
        if self._states.publishes(device_id):
            self._states.found(device_id, full)
            return
        sensor = self._hub.sensor(device_id)
        disabled = sensor is not None and not sensor.enabled
        if disabled and topic.endswith("/availability"):
            return
        self._cleared.append(topic)
        self._output.publish(Message(full, "", retain=True))
