"""Walks through the flows for HTTP sensors."""

from __future__ import annotations

from tests.contract.setup_places import HUB, Places, Walk


def http_motion(at: Places) -> Walk:
    paths = {"motion_path": "pir.active", "battery_path": "battery"}
    sensor = {
        "sensor_id": "yard",
        "url": f"{at.http.base}/api/pir",
        **paths,
        "try_it": True,
        "stale_after": "30",
    }
    more = (
        f"attic temperature url={at.http.base}/api/sensors/attic fields.value=climate.temperature timeout_s=2"
    )
    return Walk(
        "http_manual",
        {"hub": {**HUB, "poll_interval": 0.5}, "sensor": {**sensor, "more": more}},
        {"yard": ("motion", "http:yard", at.http.base), "attic": ("temperature", "http:attic", at.http.base)},
    )


def http_password(at: Places) -> Walk:
    access = {"auth_kind": "basic", "username": "me", "password": "pa ss:wörd"}
    sensor = {"sensor_id": "yard", "url": f"{at.http.base}/api/sensors/yard", **access, "try_it": True}
    return Walk(
        "http_manual",
        {"hub": HUB, "sensor": sensor},
        {"yard": ("motion", "http:yard", at.http.base)},
        wants="Basic bWU6cGEgc3M6d8O2cmQ=",
        secrets={"sensors.0.auth.password": "pa ss:wörd"},
    )


def http_token(at: Places) -> Walk:
    sensor = {"sensor_id": "attic", "sensor_type": "generic", "url": f"{at.http.base}/api/sensors/attic"}
    fields = {
        "fields": "temp=climate.temperature\nhum = climate.humidity",
        "try_it": True,
        "verify_tls": False,
    }
    return Walk(
        "http_manual",
        {"hub": HUB, "sensor": {**sensor, **fields, "auth_kind": "bearer", "token": "t0ken"}},
        {"attic": ("generic", "http:attic", at.http.base)},
        wants="Bearer t0ken",
    )


def http_search(at: Places) -> Walk:
    sensor = {"base_url": f"{at.http.base}/api", "auth_kind": "bearer", "token": "t0ken", "try_it": True}
    return Walk(
        "http_scan",
        {"hub": HUB, "sensor": sensor},
        {
            "attic_temperature": ("temperature", "http:attic_temperature", at.http.base),
            "attic_humidity": ("humidity", "http:attic_humidity", at.http.base),
            "yard": ("motion", "http:yard", at.http.base),
        },
        {"found": lambda found: [item for item in found if "/sensors/" in item["url"]]},
        wants="Bearer t0ken",
    )
