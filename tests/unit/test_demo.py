"""What a demo's narrator says of a device."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensor_hub.config import load
from sensor_hub.demo import Narrator
from sensor_hub.readings import Json, Reading, Snapshot, Status
from tests.unit.manual_clock import NOON


@pytest.mark.parametrize(
    ("values", "unit", "said"),
    [
        ({"value": 21.5}, "°C", "21.5 °C"),
        ({"value": 7}, None, "7"),
        ({"device": "x", "event": 1, "service": True}, None, 'device: "x", event: 1, service: true'),
    ],
)
def test_a_reading_is_one_line_whatever_its_properties_are_called(
    values: dict[str, Json], unit: str | None, said: str, tmp_path: Path
) -> None:
    narrator = Narrator(load({"INSTANCE_NAME": "sensor_hub_01"}, secrets_dir=tmp_path))
    extra = {"unit": unit} if unit else {}
    snapshot = Snapshot("a", "generic", Status.ONLINE, Reading(values, NOON), extra=extra)
    with capture_logs() as lines:
        narrator._tell([snapshot])
    assert lines == [
        {"event": "reading", "log_level": "info", "service": "demo", "device": "a", "values": said}
    ]
