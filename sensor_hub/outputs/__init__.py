"""Ways out: MQTT (platform_mqtt, which the bridge drives), and the types that followers send to, listed in OUTPUTS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sensor_hub.config.model import OutputConfig
from sensor_hub.errors import Problem
from sensor_hub.outputs.influxdb import InfluxDb
from sensor_hub.outputs.json_lines import JsonLines
from sensor_hub.outputs.sink import Sink

OUTPUTS: Mapping[str, type[Sink]] = {sink.name: sink for sink in (InfluxDb, JsonLines)}


def check_output(output: OutputConfig) -> Iterator[Problem]:
    """Every problem that the output's type finds in its options."""
    sink = OUTPUTS.get(output.output_type)
    if sink is None:
        known = ", ".join(OUTPUTS)
        yield Problem(
            f"{output.path}.type", f"unknown type of output {output.output_type!r}; known are {known}"
        )
        return
    yield from sink.check(output)
