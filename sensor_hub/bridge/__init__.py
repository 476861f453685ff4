"""The bridge between the aggregator and an output: states out, requests in."""

from sensor_hub.bridge.loop import Bridge

__all__ = ["Bridge"]
