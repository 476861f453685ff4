"""The state-aggregator service."""
