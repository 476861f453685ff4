"""Queue files of outputs that have left the configuration."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.clock import system_clock
from sensor_hub.config import load
from sensor_hub.config.model import HubConfig, OutputConfig
from sensor_hub.outputs.follower import QUEUE
from sensor_hub.outputs.forgotten_queues import look_after_forgotten
from sensor_hub.store import Store, path_for
from sensor_hub.store_file import Item

QueueOf = Callable[..., Path]


@pytest.fixture
def hub(tmp_path: Path) -> HubConfig:
    configured = OutputConfig("history", "json_lines", "config.outputs[0]", {}, enabled=False)
    return replace(
        load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path),
        data_dir=tmp_path,
        outputs=(configured,),
    )


@pytest.fixture
def queue_of(hub: HubConfig) -> QueueOf:
    def write(process: str, readings: int, name: str = QUEUE, mark: str = "0123456789ab-1") -> Path:
        store = Store(path_for(hub, process), system_clock(), 0.01)
        store.start()
        item = Item("a", "2026-03-01T12:00:00.000+00:00", "reading", b"{}")
        store.queue(name).put([item] * readings, mark=mark)
        store.close(30)
        assert store.path.exists()
        return store.path

    return write


def test_an_empty_one_is_removed_with_its_log_and_what_it_counted_is_said(
    hub: HubConfig, queue_of: QueueOf
) -> None:
    path = queue_of("cloud", 0, mark="0123456789ab-1 sent=7 refused=3 missed=2 interrupted=1")
    with capture_logs() as told:
        look_after_forgotten(hub)
    assert list(path.parent.iterdir()) == []
    last_word = {"sent": 7, "refused": 3, "missed": 2, "interrupted": 1, "dropped": 0}
    event = "queue of an output that is gone was empty and is removed"
    assert told == [{"event": event, "log_level": "info", "file": str(path), **last_word}]


def test_one_that_holds_readings_is_kept_and_said(hub: HubConfig, queue_of: QueueOf) -> None:
    path = queue_of("cloud", 3)
    before = path.read_bytes()
    for _ in range(2):
        with capture_logs() as told:
            look_after_forgotten(hub)
        (said,) = told
        assert (said["event"], said["file"], said["readings"]) == (
            "queue of an output that is gone",
            str(path),
            3,
        )
        assert (said["log_level"], path.read_bytes()) == ("warning", before)


@pytest.mark.parametrize("process", ["history", "mqtt-bridge"])
def test_those_of_the_bridge_and_of_outputs_that_are_configured_are_let_alone(
    hub: HubConfig, queue_of: QueueOf, process: str
) -> None:
    path = queue_of(process, 0)
    with capture_logs() as told:
        look_after_forgotten(hub)
    assert (told, path.exists()) == ([], True)


def test_what_is_no_queue_of_an_output_is_let_alone(hub: HubConfig, queue_of: QueueOf) -> None:
    folder = queue_of("other-program", 0, "events").parent
    (folder / "text.sqlite3").write_text("mine", encoding="ascii")
    (folder / "empty.sqlite3").write_bytes(b"")
    with sqlite3.connect(folder / "foreign.sqlite3") as foreign:
        foreign.execute(f"CREATE TABLE q_{QUEUE} (x)")
    foreign.close()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with capture_logs() as told:
        look_after_forgotten(hub)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert told == []


def test_without_a_folder_there_is_nothing_to_look_after(hub: HubConfig) -> None:
    with capture_logs() as told:
        look_after_forgotten(hub)
    assert told == []
