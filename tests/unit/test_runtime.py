"""The small files that the parts of a running instance share."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator

import pytest

from sensor_hub import runtime
from sensor_hub.config import values
from sensor_hub.runtime import Instance


@pytest.fixture
def instance_id() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    runtime.run_dir(name).mkdir(mode=0o700)
    yield name
    shutil.rmtree(runtime.run_dir(name))


def test_what_the_launcher_decided_is_read_as_written(instance_id: str) -> None:
    written = Instance(instance_id, os.getpid(), {"http-poller": "http://localhost:5012"}, "broker:1883")
    runtime.write_instance(written)
    assert runtime.read_instance(instance_id) == written


def test_an_instance_is_listed_while_its_launcher_lives(instance_id: str) -> None:
    runtime.write_instance(Instance(instance_id, os.getpid(), {}, ""))
    assert instance_id in runtime.running_instances()
    runtime.write_instance(Instance(instance_id, 2**22 + 1, {}, ""))
    assert instance_id not in runtime.running_instances()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"unknown": 1}', "\ud83d".encode("utf-16", "surrogatepass")]
)
def test_a_file_that_says_nothing_usable_counts_as_absent(instance_id: str, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    for name in ("instance.json", "bridge.json", "fatal.json"):
        (runtime.run_dir(instance_id) / name).write_bytes(data)
    assert runtime.read_instance(instance_id) is None
    assert runtime.read_bridge_state(instance_id) is None
    assert runtime.read_fatal(instance_id) is None
    assert instance_id not in runtime.running_instances()


def written(**facts: object) -> dict[str, object]:
    return {"instance_id": "?", "launcher_pid": os.getpid(), "urls": {}, "mqtt": "", "enabled": True} | facts


@pytest.mark.parametrize(
    "facts",
    [
        {"launcher_pid": 10**30},
        {"launcher_pid": 0},
        {"launcher_pid": -1},
        {"launcher_pid": True},
        {"launcher_pid": "1"},
        {"launcher_pid": None},
        {"instance_id": "another"},
        {"instance_id": ["list"]},
        {"urls": None},
        {"urls": {"x": 1}},
        {"urls": {"x": "http://a\nb"}},
        {"mqtt": "\x1b[2J"},
        {"enabled": "no"},
    ],
)
def test_a_planted_file_that_no_launcher_writes_counts_as_absent(
    instance_id: str, facts: dict[str, object]
) -> None:
    path = runtime.run_dir(instance_id) / "instance.json"
    path.write_text(json.dumps(written(instance_id=instance_id)))
    assert runtime.read_instance(instance_id) is not None
    path.write_text(json.dumps(written(**{"instance_id": instance_id, **facts})))
    assert runtime.read_instance(instance_id) is None
    assert instance_id not in runtime.running_instances()


def test_a_folder_whose_name_is_no_id_is_not_listed() -> None:
    name = f"t{uuid.uuid4().hex[:8]}\n\x1b[2J"
    runtime.run_dir(name).mkdir(mode=0o700)
    try:
        facts = written(instance_id=name)
        (runtime.run_dir(name) / "instance.json").write_text(json.dumps(facts))
        assert name not in runtime.running_instances()
    finally:
        shutil.rmtree(runtime.run_dir(name))


def test_a_sign_of_life_without_a_time_is_none(instance_id: str) -> None:
    facts = {"connected": True, "loop_turned_at": "now"}
    (runtime.run_dir(instance_id) / "bridge.json").write_text(json.dumps(facts))
    assert runtime.read_bridge_state(instance_id) is None


def test_a_pipe_in_place_of_a_file_is_not_waited_for(instance_id: str) -> None:
    os.mkfifo(runtime.run_dir(instance_id) / "instance.json")
    assert runtime.read_instance(instance_id) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of somebody else")
def test_a_file_of_somebody_else_is_for_root_only(instance_id: str) -> None:
    runtime.write_instance(Instance(instance_id, os.getpid(), {}, ""))
    path = runtime.run_dir(instance_id)
    path.chmod(0o755)
    os.chown(path / "instance.json", 65533, -1)
    assert runtime.read_instance(instance_id) is not None
    os.seteuid(65534)
    try:
        assert runtime.read_instance(instance_id) is None
    finally:
        os.seteuid(0)


def test_the_bridges_sign_of_life_has_the_time_of_its_writing(instance_id: str) -> None:
    before = time.monotonic()
    runtime.write_bridge_state(instance_id, connected=True)
    state = runtime.read_bridge_state(instance_id)
    assert state is not None
    assert state.connected
    assert before <= state.loop_turned_at <= time.monotonic()


def test_the_first_program_that_gave_up_stays_the_reason(instance_id: str) -> None:
    runtime.write_fatal(instance_id, "mqtt-bridge")
    runtime.write_fatal(instance_id, "http-poller")
    assert runtime.read_fatal(instance_id) == "mqtt-bridge"


def test_no_draft_is_left_beside_the_files(instance_id: str) -> None:
    runtime.write_fatal(instance_id, "mqtt-bridge")
    assert [path.name for path in runtime.run_dir(instance_id).iterdir()] == ["fatal.json"]
    assert json.loads((runtime.run_dir(instance_id) / "fatal.json").read_text()) == {"program": "mqtt-bridge"}
    assert runtime.read_fatal(instance_id) == "mqtt-bridge"


def test_the_figures_of_queues_are_read_by_name_with_their_age(instance_id: str) -> None:
    assert runtime.read_queue_figures(instance_id) == {}
    runtime.write_queue_figures(instance_id, "mqtt", {"depth": 2})
    runtime.write_queue_figures(instance_id, "influx.home", {"depth": 3})
    found = runtime.read_queue_figures(instance_id)
    assert {name: row["depth"] for name, row in found.items()} == {"mqtt": 2, "influx.home": 3}
    assert all(isinstance(age := row["reported_s"], float) and 0 <= age < 60 for row in found.values())


@pytest.mark.parametrize("name", ["_history", "-h", ".h", ":h", "h.json", ".json0", "x" * 64])
def test_every_id_of_an_output_may_have_figures(instance_id: str, name: str) -> None:
    assert values.identifier(name) == name
    runtime.write_queue_figures(instance_id, name, {"depth": 3})
    assert [(each, row["depth"]) for each, row in runtime.read_queue_figures(instance_id).items()] == [
        (name, 3)
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"written_at": "now", "figures": {}}', '{"written_at": 1}']
)
def test_figures_that_say_nothing_usable_are_left_out(instance_id: str, text: str) -> None:
    runtime.write_queue_figures(instance_id, "mqtt", {"depth": 2})
    (runtime.run_dir(instance_id) / "queues" / "broken.json").write_text(text)
    assert list(runtime.read_queue_figures(instance_id)) == ["mqtt"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-", "a\n"])
def test_a_name_that_is_no_file_of_its_own_is_refused(instance_id: str, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a queue's name"):
        runtime.write_queue_figures(instance_id, name, {})
