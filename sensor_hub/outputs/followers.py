"""All outputs of an instance beside MQTT, each with a worker of its own: what one suffers, no other notices."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sensor_hub import logs, runtime, threads
from sensor_hub.clock import Clock
from sensor_hub.config.model import BRIDGE, HubConfig, OutputConfig, Parallelism
from sensor_hub.crew.hosts import Host, LogSetup, ProcessHost
from sensor_hub.crew.messages import Request
from sensor_hub.crew.worker import Worker
from sensor_hub.outputs.delivery import Report
from sensor_hub.outputs.follower import FollowerHost, FollowerJob, FollowerSetup
from sensor_hub.outputs.forgotten_queues import look_after_forgotten
from sensor_hub.readings import Json
from sensor_hub.sources import sources
from sensor_hub.store import path_for

log = logs.get(__name__)

STOPS_WITHIN_S = 1.5
TELL_S = 2.0
_STALE = (
    "state",
    "since",
    "problem",
    "store_problem",
    "pid",
)  # in the last word of a worker that says nothing now


def setup_of(hub: HubConfig, output: OutputConfig) -> FollowerSetup:
    """What the output needs to know of the instance."""
    found = sources(hub)
    ours = [sensor.sensor_id for sensor in hub.sensors if output.output_id in sensor.bridge]
    infos = {str(each["source_transport"]): each["source_transport_info"] for each in found.values()}
    return FollowerSetup(
        output=output,
        instance_id=hub.instance_id,
        aggregator_url=hub.services["state-aggregator"].url,
        devices={device_id: str(found[device_id]["source_transport"]) for device_id in ours},
        infos={line: info for line, info in infos.items() if isinstance(info, dict)},
        queue_file=path_for(hub, output.output_id),
    )


def figures_of(body: Mapping[str, Json]) -> dict[str, Json]:
    """A report as `/health` shows it beside the figures of other queues: those of its own first."""
    queue = body.get("queue")
    rest = {key: value for key, value in body.items() if key != "queue"}
    return {**(queue if isinstance(queue, dict) else {}), **rest}


class Followers:
    """The workers of all outputs that are enabled. Thread-safe."""

    def __init__(self, hub: HubConfig, clock: Clock) -> None:
        """Start nothing."""
        self._clock, self._hub, self._instance_id = clock, hub, hub.instance_id
        self._often = logs.OncePerMinute()
        self._log_setup = LogSetup(BRIDGE, hub.log_level, hub.log_format, str(hub.timezone))
        self._outputs = [each for each in hub.outputs if each.enabled]
        self._workers = {each.output_id: self._worker(setup_of(hub, each)) for each in self._outputs}
        self._last: dict[str, dict[str, Json]] = {}  # what each has said last
        # When; the start for those that have said nothing.
        self._said_at = dict.fromkeys(self._workers, clock.monotonic())
        self._stopping, self._stopped = threading.Event(), threading.Event()
        self._ender: threading.Thread | None = None

    def _worker(self, setup: FollowerSetup) -> Worker:
        def new_host() -> Host:
            if setup.output.parallelism is Parallelism.PROCESS:
                return ProcessHost(FollowerJob(setup), self._log_setup)
            return FollowerHost(setup, self._clock)

        return Worker(f"output {setup.output.output_id}", new_host, lambda _: None, self._clock)

    def start(self) -> None:
        """Begin; each is started again for ever."""
        for worker in self._workers.values():
            worker.start()
        self._ender = threads.start("outputs", self._tell_and_end, self._stopped)
        threads.start("forgotten", lambda: look_after_forgotten(self._hub), self._stopping)

    def stop(self) -> None:
        """End them side by side, in the background; safe in a signal handler."""
        self._stopping.set()

    def join(self, within_s: float = STOPS_WITHIN_S + 1.0) -> None:
        """Wait for what `stop` began."""
        self.stop()
        if self._ender is not None:
            self._ender.join(within_s)

    def report(self) -> dict[str, dict[str, Json]]:
        """Of every output how it is; takes half a second for each that is deaf."""
        return {each.output_id: self._describe(each) for each in self._outputs}

    def _describe(self, output: OutputConfig) -> dict[str, Json]:
        worker = self._workers[output.output_id]
        found = worker.ask_at_once(lambda request_id, until: Request(request_id, until, True))
        facts: dict[str, Json] = {
            "type": output.output_type,
            "parallelism": str(output.parallelism),
            "pid": worker.pid,
            "restarts": worker.restarts,
        }
        if isinstance(found, Report):
            self._said_at[output.output_id] = self._clock.monotonic()
            self._last[output.output_id] = {**facts, **found.body()}
            return self._last[output.output_id]
        # What it has counted and what waits is true all the same: whoever adds that up sees no jump.
        last = self._last.get(output.output_id, {})
        is_deaf = facts["pid"] is not None and facts["pid"] == last.get("pid")
        rest = {key: value for key, value in last.items() if key not in _STALE}
        return {**rest, **facts, "state": "deaf" if is_deaf else "starting"}

    def _tell_and_end(self) -> None:
        while not self._stopping.wait(TELL_S):
            self._write_figures()
        self._end()

    def _write_figures(self) -> None:
        for output_id, body in self.report().items():
            age_s = self._clock.monotonic() - self._said_at[output_id]
            try:
                runtime.write_queue_figures(self._instance_id, output_id, figures_of(body), age_s)
            except (OSError, ValueError) as error:
                passes, _ = self._often.passes(output_id)
                if passes:
                    log.warning("figures of an output not written", output=output_id, reason=str(error))

    def _end(self) -> None:
        enders = [
            threading.Thread(target=worker.stop, args=(STOPS_WITHIN_S,), daemon=True)
            for worker in self._workers.values()
        ]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        self._stopped.set()
