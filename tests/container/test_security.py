"""TLS, passwords and certificates against a real broker, with both client libraries, and where secrets may not show."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.broker import MOSQUITTO, NO_MOSQUITTO, Mosquitto, Witness, mosquitto, password_file
from tests.container.building import IMAGE
from tests.container.platform import STANDIN, UP_WITHIN_S, Container, Platform
from tests.support import eventually

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]
CLIENTS: Mapping[str, Path | None] = {"bundled": None, "platform": STANDIN}
USER, PASSWORD, HTTP_PASSWORD, DECOY = "hub", "br0ker-Pa55-word", "s3nsor-Pa55-word", "d3coy-Pa55-word"
TLS_PORT = 8883
KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities: `ca` signs the broker and `client`; `other` signs `stranger`, and nobody knows it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for authority in ("ca", "other"):
        openssl(
            folder,
            f"req -x509 {KEY} -keyout {authority}.key -out {authority}.crt -days 2 -subj /CN={authority}",
        )
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl(folder, f"req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        signer = f"-CA {authority}.crt -CAkey {authority}.key -CAcreateserial"
        openssl(folder, f"x509 -req -in {name}.csr {signer} -days 2 -extfile san -out {name}.crt")
    return folder


def openssl(folder: Path, line: str) -> None:
    subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def broker(
    network: None, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mosquitto]:
    """A broker with a password for everybody, and on its TLS port a certificate too."""
    if MOSQUITTO is None:
        pytest.skip(NO_MOSQUITTO)
    users = password_file(tmp_path_factory.mktemp("broker") / "users", {USER: PASSWORD})
    lines = ["allow_anonymous false", f"password_file {users}", f"listener {TLS_PORT} 127.0.0.1"]
    lines += [f"cafile {certificates}/ca.crt", f"certfile {certificates}/server.crt"]
    lines += [f"keyfile {certificates}/server.key", "require_certificate true"]
    with mosquitto(1883, config_lines=lines) as running:
        yield running


@pytest.fixture(scope="module")
def witness(broker: Mosquitto) -> Iterator[Witness]:
    with Witness(broker.port, username=USER, password=PASSWORD) as client:
        yield client


class Thermometer(BaseHTTPRequestHandler):
    """An HTTP sensor that wants a password, and remembers what it was told."""

    heard: set[str] = set()

    def do_GET(self) -> None:
        self.heard.add(self.headers.get("Authorization", ""))
        body = b'{"value": 21.5}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def thermometer(network: None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Thermometer)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def hubs(
    module_host: Platform, broker: Mosquitto, certificates: Path, thermometer: int
) -> dict[str, Container]:
    """One instance per case and client library, named `<case>_<client>`, all started together."""
    host = module_host
    for path in certificates.glob("*.[ck][re][ty]"):
        host.write(f"secrets/{path.name}", path.read_text())
    tls = {"MQTT_PORT": str(TLS_PORT), "MQTT_TLS": "true", "MQTT_USERNAME": "decoy", "MQTT_PASSWORD": DECOY}
    known = {"MQTT_CA_CERT": "/run/secrets/ca.crt"}
    client, stranger = (
        {"MQTT_CLIENT_CERT": f"/run/secrets/{name}.crt", "MQTT_CLIENT_KEY": f"/run/secrets/{name}.key"}
        for name in ("client", "stranger")
    )
    cases = {
        "right": tls | known | client | {"LOG_LEVEL": "DEBUG"},
        "password": tls | known | client,
        "certificate": tls | known | stranger,
        "authority": tls | client | {"MQTT_CA_CERT": "/run/secrets/other.crt"},
    }
    login = {"username": "hub", "password": "__SECRET__sensors.0.auth.password__"}
    sensor = {"sensor_id": "boiler_room", "sensor_type": "temperature", "auth": login}
    started = {}
    for case, settings in cases.items():
        host.env(f"{case}.env", **settings)
        for name, shared in CLIENTS.items():
            instance_id = f"{case}_{name}"
            host.instance(instance_id, [sensor | {"url": f"http://127.0.0.1:{thermometer}/t"}])
            password = "wr0ng-Pa55-word" if case == "password" else PASSWORD
            host.write(f"secrets/{instance_id}_mqtt", f"username={USER}\npassword={password}\n")
            host.write(f"secrets/{instance_id}_creds", f"password={HTTP_PASSWORD}\n")
            started[instance_id] = host.start(instance_id, shared=shared, env=f"{case}.env")
    return started


@pytest.mark.parametrize("client", CLIENTS)
def test_tls_with_an_authority_a_client_certificate_and_the_password_of_the_secrets_file(
    hubs: dict[str, Container], host: Platform, witness: Witness, broker: Mosquitto, client: str
) -> None:
    hub = hubs[f"right_{client}"]
    hub.online(witness)
    value = witness.wait_for(
        f"IoT2mqtt/v1/instances/right_{client}/devices/boiler_room/state/value", UP_WITHIN_S
    )
    assert value.payload == b"21.5"
    eventually(hub.is_healthy, UP_WITHIN_S)


def errors_of(hub: Container) -> list[str]:
    return [line for line in hub.logs.splitlines() if "mqtt-bridge" in line and " ERROR " in line]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("case", "event"),
    [
        ("password", "the broker refuses the connection"),
        ("certificate", "does it accept MQTT_CLIENT_CERT?"),
        ("authority", "certificate verify failed"),
    ],
)
def test_a_wrong_one_is_one_clear_line_and_the_bridge_goes_on_trying(
    hubs: dict[str, Container], host: Platform, broker: Mosquitto, case: str, event: str, client: str
) -> None:
    hub = hubs[f"{case}_{client}"]
    first = eventually(lambda: errors_of(hub), UP_WITHIN_S)
    began_s, bridge = time.monotonic(), hub.exec("supervisorctl pid mqtt-bridge")
    attempts = attempts_in(broker)
    eventually(lambda: attempts_in(broker) >= attempts + 8, 120)  # six instances try
    assert len(errors_of(hub)) == 1, errors_of(hub)
    assert event in first[0]
    assert f"port={TLS_PORT}" in first[0]
    assert attempts_in(broker) - attempts < 6 * (time.monotonic() - began_s + 3)  # each at most once a second
    assert hub.exec("supervisorctl pid mqtt-bridge") == bridge
    assert "exited" not in hub.logs
    assert "no MQTT connection to 127.0.0.1:8883" in hub.exec("sh -c 'sensor-hub health 2>&1; true'")


def attempts_in(broker: Mosquitto) -> int:
    return broker.log.count("New connection from 127.0.0.1")


@pytest.mark.parametrize("client", CLIENTS)
def test_no_secret_is_told_anywhere(
    hubs: dict[str, Container], host: Platform, witness: Witness, certificates: Path, client: str
) -> None:
    hub = hubs[f"right_{client}"]
    hub.online(witness)
    login = base64.b64encode(f"hub:{HTTP_PASSWORD}".encode()).decode()
    eventually(lambda: f"Basic {login}" in Thermometer.heard)  # it is used, so it could leak
    key_line = (certificates / "client.key").read_text().splitlines()[1]
    secrets = [PASSWORD, HTTP_PASSWORD, DECOY, login, key_line]
    first = hub.ports()[0]
    paths = [
        "health",
        "sensors",
        "devices",
        "transports",
        "errors",
        "cache/stats",
        "readings",
        "device/boiler_room",
    ]
    bodies = [
        hub.exec(f"curl -s http://localhost:{first + number}/{path}") for number in range(3) for path in paths
    ]
    processes = [hub.main(), *hub.main().children(recursive=True)]
    commands = [
        " ".join(process.cmdline()) for process in processes if process.status() != psutil.STATUS_ZOMBIE
    ]
    told = {
        "log": hub.logs,
        "ps": "\n".join(commands),
        "rest": "\n".join(bodies),
        "mqtt": "\n".join(f"{m.topic} {m.payload.decode(errors='replace')}" for m in witness.seen("#")),
        "command line": hub.exec(
            "sh -c 'sensor-hub check-config --show; sensor-hub devices; sensor-hub health'"
        ),
        "files": hub.exec("sh -c 'cat /tmp/sensor-hub-*/*.json'"),
        "container": json.dumps(hub.engine.docker("inspect", hub.name).stdout),
        "image": hub.engine.docker("inspect", "--type", "image", IMAGE).stdout,
        "history": hub.engine.docker("history", "--no-trunc", IMAGE).stdout,
    }
    assert len(commands) > 6
    assert "boiler_room" in told["rest"]
    assert f"/{hub.instance_id}/meta/info" in told["mqtt"]
    assert [(place, secret) for place, text in told.items() for secret in secrets if secret in text] == []


def test_a_placeholder_without_its_secret_is_a_problem_that_names_the_path(host: Platform) -> None:
    login = {"username": "hub", "password": "__SECRET__sensors.0.auth.password__"}
    sensor = {"sensor_id": "a", "sensor_type": "temperature", "url": "http://127.0.0.1:9/", "auth": login}
    host.instance("nosecret", [sensor])
    code, out, err = host.run("nosecret")
    assert (code, out) == (78, "")
    assert "sensors[0].auth.password" in err
    assert "sensors.0.auth.password" in err
    assert "/run/secrets/nosecret_creds" in err
    assert "SECRET_SENSORS_0_AUTH_PASSWORD" in err


def test_a_secret_from_the_environment_fills_the_placeholder(host: Platform) -> None:
    path = "SECRET_SENSORS_0_AUTH_PASSWORD"
    login = {"username": "hub", "password": "__SECRET__sensors.0.auth.password__"}
    sensor = {"sensor_id": "a", "sensor_type": "temperature", "url": "http://127.0.0.1:9/", "auth": login}
    host.instance("fromenv", [sensor])
    options = " ".join([*host.options("fromenv"), f"-e {path}={HTTP_PASSWORD}"])
    checked = host.engine.shell(f"docker run --rm {options} {IMAGE} sensor-hub check-config --show")
    assert "all is well, 1 device" in checked.stdout
    assert HTTP_PASSWORD not in checked.stdout + checked.stderr
