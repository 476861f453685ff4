"""The serial-handler service."""
