"""Markers of the tests; what they need is set up where it is needed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is no finding, and what one run finds every run finds: the same examples each time. Others are
# tried on purpose (CONTRIBUTING.md).
settings.register_profile(
    "hub", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore",
    deadline=None,
    derandomize=False,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hub")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known: an unknown one is an error."""
    config.addinivalue_line("markers", "mosquitto: needs a real mosquitto, skipped with a reason without it")
    config.addinivalue_line("markers", "system: starts the whole hub under supervisord")
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line(
        "markers", "container: builds and runs the image; skipped with a reason without an engine"
    )
