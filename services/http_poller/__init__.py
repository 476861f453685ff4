"""The http-poller service."""
