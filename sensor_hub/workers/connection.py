"""Whether a line is open, since when and why not; when it is tried again."""

from __future__ import annotations

from collections.abc import Callable

from sensor_hub import logs
from sensor_hub.clock import Clock
from sensor_hub.config.model import TransportConfig
from sensor_hub.drivers.base import Driver
from sensor_hub.errors import TransportDown
from sensor_hub.line_report import LineState
from sensor_hub.reconnecting import Backoff
from sensor_hub.workers.messages import LineNews

log = logs.get(__name__)


class Connection:
    """Opens and closes one line through its driver, and tells each change of its state. One thread's."""

    def __init__(
        self, transport: TransportConfig, driver: Driver, clock: Clock, tell: Callable[[LineNews], None]
    ) -> None:
        """Nothing is opened yet."""
        self._transport, self._driver, self._clock, self._tell = transport, driver, clock, tell
        self._state, self._since = LineState.CONNECTING, clock.now()
        self._last_error: str | None = None
        self._backoff = Backoff(transport.reconnect_backoff_s, transport.reconnect_timeout_s)
        # A line that opens and breaks again and again says each of these once.
        self._told_loss: str | None = None  # reason of the loss that was logged; None: it was healthy since
        self._tell_return = False

    @property
    def is_up(self) -> bool:
        """Whether the line is open."""
        return self._state is LineState.UP

    @property
    def reason(self) -> TransportDown:
        """Why it is not."""
        return TransportDown(self._last_error or "line is down")

    def open(self) -> bool:
        """Try to, when it is time. True: it is open now, and was not before. Raises TransportDown."""
        self._give_up_when_time_is_over()
        if not self._backoff.may_try(self._clock.monotonic()):
            return False
        self._driver.connect()
        if self._tell_return:
            self._tell_return = False
            log.info("line back", transport=self._transport.transport_id)
        self._last_error = None
        self._backoff.connected(self._clock.monotonic())
        self._set_state(LineState.UP)
        return True

    def healthy(self) -> None:
        """Somebody answered: the line is what it should be."""
        self._backoff.healthy()
        self._told_loss = None

    def lost(self, error: TransportDown) -> None:
        """The line is gone: close what is left of it, try again after a growing pause."""
        self._driver.close()
        if self._told_loss != str(error):
            self._told_loss, self._tell_return = str(error), True
            log.warning("line lost", transport=self._transport.transport_id, reason=str(error))
        self._last_error = str(error)
        self._backoff.failed(self._clock.monotonic())
        self._set_state(LineState.DOWN)
        self._give_up_when_time_is_over()

    def wait_s(self) -> float | None:
        """Seconds until it may be tried again, None: never."""
        self._give_up_when_time_is_over()
        return self._backoff.pause_s(self._clock.monotonic())

    def _give_up_when_time_is_over(self) -> None:
        if self._backoff.gives_up(self._clock.monotonic()):
            limit_s = self._transport.reconnect_timeout_s
            self._last_error = f"gave up after {limit_s:g} s (reconnect_timeout_sec): {self._last_error}"
            log.error("line given up", transport=self._transport.transport_id, reason=self._last_error)
            self._set_state(LineState.DOWN)

    def _set_state(self, state: LineState) -> None:
        if state is not self._state:
            self._state, self._since = state, self._clock.now()
        retry_at = None if self.is_up or self._backoff.given_up else self._backoff.retry_at
        name = self._transport.transport_id
        self._tell(LineNews(name, self._state, self._since, self._last_error, retry_at))
