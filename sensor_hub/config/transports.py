"""Lines: building transports from their entries, and from HTTP sensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sensor_hub.config import values
from sensor_hub.config.instance_file import Document
from sensor_hub.config.model import Handler, Parallelism, TransportConfig, WriteChecks
from sensor_hub.config.outputs import MQTT, output_names
from sensor_hub.config.problems import Fields, Problems
from sensor_hub.readings import Json

HTTP_DRIVER = "http_json"
HTTP_TIMEOUT_S = 3.0
TIMEOUT_RANGE_S = (0.01, 300.0)


@dataclass(frozen=True, slots=True)
class Common:
    """What holds for all lines of a hub."""

    parallelism: Parallelism = Parallelism.AUTO
    register_maps: Path | None = None  # the users' folder of device definitions
    outputs: Sequence[str] = (MQTT,)  # what `bridge` may name, and names by default


def _parallelism(value: Json) -> Parallelism:
    return Parallelism(values.choice(tuple(Parallelism))(value))


def parse_transports(
    document: Document, problems: Problems, reserved: Sequence[str], common: Common
) -> tuple[dict[str, TransportConfig], set[str]]:
    """The transports that are well formed, by id, and the ids that are in use at all.

    `reserved`: an id may not start with any of these. `common`: what they do not say themselves.
    """
    built: dict[str, TransportConfig] = {}
    places: dict[str, str] = {}
    owners: dict[str, str] = {}  # serial port -> path of the transport that has it
    for path, content in document.objects("transports", problems):
        fields = Fields(content, path, problems)
        transport_id = fields.need("transport_id", values.identifier)
        if transport_id in places:
            fields.fail("transport_id", f"{transport_id!r} is used twice; also at {places[transport_id]}")
        if transport_id is not None:
            places.setdefault(transport_id, path)
            for prefix in reserved:
                if transport_id.startswith(prefix):
                    fields.fail(
                        "transport_id", f"ids starting with {prefix!r} are reserved for emulated lines"
                    )
        url_key = "url" if fields.has("url") else "port"
        transport = _transport(fields, transport_id or "", common)
        port = None if transport is None else _serial_port(transport.url)
        if port is not None and owners.setdefault(port, path) != path:
            fields.fail(url_key, f"is the same line as {owners[port]}; put its sensors on that transport")
        if transport is not None:
            built[transport.transport_id] = transport
    return built, set(places)


def _serial_port(url: str) -> str | None:
    """What only one transport may hold: a device (whatever it is called by), or a port of a serial gateway.

    None for what takes several connections, such as Modbus TCP.
    """
    if url.startswith("/"):
        return None if os.path.isdir(url) else os.path.realpath(url)
    try:
        parts = urlsplit(url)
        gateway = parts.scheme in ("socket", "rfc2217") and f"{parts.hostname}:{parts.port}"
    except ValueError:
        return None  # the driver says what is wrong with it
    return gateway or None


def _transport(fields: Fields, transport_id: str, common: Common) -> TransportConfig | None:
    driver = fields.need("driver", values.text)
    url = fields.need("url", values.text, otherwise="port")
    if fields.has("port"):
        port = fields.take("port", values.text, "")
        if port and url and port != url:
            fields.fail("port", "is another word for url, and url says something else; leave one out")
    fields.drop("port")
    write = fields.take("write", values.write_mode, "false")
    transport = TransportConfig(
        transport_id=transport_id,
        driver=driver or "",
        url=url or "",
        handler=Handler.HTTP if driver == HTTP_DRIVER else Handler.SERIAL,
        path=fields.path,
        read_interval_s=fields.take("read_interval", values.number(0.05, 86400), 5.0),
        timeout_s=fields.take("timeout_s", values.number(*TIMEOUT_RANGE_S), 0.5),
        write=write != "false",
        write_checks=WriteChecks.FULL if write == "false" else WriteChecks(write),
        parallelism=fields.take("parallelism", _parallelism, common.parallelism),
        register_maps=common.register_maps,
        reconnect_backoff_s=fields.take("reconnect_backoff_ms", values.number(10, 600_000), 1000.0) / 1000,
        reconnect_timeout_s=fields.take("reconnect_timeout_sec", values.number(0, 31_536_000), 0.0),
        bridge=fields.take("bridge", output_names(common.outputs), tuple(common.outputs)),
        device_name=fields.take("device_name", values.text, ""),
        manufacturer=fields.take("manufacturer", values.text, ""),
        model=fields.take("model", values.text, ""),
        serial_number=fields.take("serial_number", values.text, ""),
        options=fields.leftover(),
    )
    return transport if fields.ok else None


def http_transport_id(sensor_id: str) -> str:
    """Id of the line of a sensor with a URL of its own."""
    return f"http:{sensor_id}"


def http_transport(
    sensor_id: str,
    *,
    url: str,
    path: str,
    poll_interval_s: float,
    timeout_s: float = HTTP_TIMEOUT_S,
    bridge: Iterable[str] = (MQTT,),
    emulated: bool = False,
) -> TransportConfig:
    """The line of one sensor with a URL of its own."""
    return TransportConfig(
        transport_id=http_transport_id(sensor_id),
        driver=HTTP_DRIVER,
        url=url,
        handler=Handler.HTTP,
        path=path,
        read_interval_s=poll_interval_s,
        timeout_s=timeout_s,
        write=True,
        bridge=tuple(bridge),
        emulated=emulated,
    )
