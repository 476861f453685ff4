"""Where readings go: one file each, listed in OUTPUTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sensor_hub.config.model import HubConfig
from sensor_hub.outputs.base import Output
from sensor_hub.outputs.platform_mqtt import PlatformMqtt

OUTPUTS: Mapping[str, Callable[[HubConfig], Output]] = {PlatformMqtt.name: PlatformMqtt}
