"""http-poller: one worker process, its lines in threads."""

from __future__ import annotations

from sensor_hub.clock import system_clock
from sensor_hub.config.model import Handler, HubConfig
from sensor_hub.drivers import check_options
from sensor_hub.handler import HandlerService
from sensor_hub.handler_api import handler_app
from sensor_hub.startup import configured
from sensor_hub.web import HubFlask


def create_app(hub: HubConfig | None = None) -> HubFlask:
    """Read the configuration (unless given), start reading devices, serve the API."""
    hub = hub or configured("http-poller", check_options)
    service = HandlerService("http-poller", Handler.HTTP, hub, system_clock(hub.timezone))
    service.start()
    return handler_app(service, Handler.HTTP)
