"""state-aggregator: one API over all handlers."""

from __future__ import annotations

from sensor_hub.aggregator import Aggregator
from sensor_hub.aggregator_api import aggregator_app
from sensor_hub.clock import system_clock
from sensor_hub.config.model import HubConfig
from sensor_hub.startup import configured
from sensor_hub.web import HubFlask


def create_app(hub: HubConfig | None = None) -> HubFlask:
    """Read the configuration (unless given), follow the handlers, serve the API."""
    hub = hub or configured("state-aggregator")
    aggregator = Aggregator(hub, system_clock(hub.timezone))
    aggregator.start()
    return aggregator_app(aggregator)
