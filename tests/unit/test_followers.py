"""What is said of outputs that say nothing themselves; their workers are doubles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sensor_hub import runtime
from sensor_hub.config import load
from sensor_hub.config.model import OutputConfig
from sensor_hub.outputs.counts import Counts
from sensor_hub.outputs.delivery import Report, State
from sensor_hub.outputs.followers import Followers
from sensor_hub.store_queue import Figures
from tests.unit.manual_clock import NOON, ManualClock

HOUR_S = 3600.0


class Worker:
    """Answers, or does not."""

    pid, restarts = 5, 0

    def __init__(self) -> None:
        self.answers = True

    def ask_at_once(self, _request: object) -> Report | None:
        figures = Figures(3, 300, 7.0, 0, on_disk=True)
        return Report(State.UP, NOON, "", Counts(sent=9), figures, "") if self.answers else None


@pytest.fixture
def instance_id() -> Iterator[str]:
    made = f"t{uuid4().hex[:8]}"
    runtime.run_dir(made).mkdir(mode=0o700)
    yield made
    shutil.rmtree(runtime.run_dir(made), ignore_errors=True)


def test_figures_of_an_output_that_is_deaf_are_as_old_as_its_last_answer(
    tmp_path: Path, instance_id: str
) -> None:
    time, worker = ManualClock(), Worker()
    output = OutputConfig("files", "json_lines", "config.outputs[0]", {})
    hub = load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path)
    followers = Followers(
        replace(hub, data_dir=tmp_path, outputs=(output,), instance_id=instance_id), time.clock
    )
    followers._workers["files"] = worker  # type: ignore[assignment]

    def shown() -> dict[str, Any]:
        followers._write_figures()
        return runtime.read_queue_figures(instance_id)["files"]

    assert shown()["reported_s"] < HOUR_S
    time.advance(HOUR_S)
    assert shown()["reported_s"] < HOUR_S  # it has answered again
    worker.answers = False
    time.advance(HOUR_S)
    found = shown()
    assert (found["state"], found["depth"], found["sent"]) == ("deaf", 3, 9)
    assert found["reported_s"] >= HOUR_S
