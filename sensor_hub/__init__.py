"""Sensor Hub: from serial lines and HTTP endpoints to MQTT. Importing this package does nothing."""

__version__ = "0.1.0"
