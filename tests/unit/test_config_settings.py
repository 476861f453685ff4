"""Variables: precedence, what each takes, `.env`, secrets."""

from __future__ import annotations

import json
import pickle
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sensor_hub.config import SETTINGS, read
from sensor_hub.config.model import Report
from sensor_hub.config.secrets import SecretText
from tests.unit.test_config import LAMP, YARD, Document, config_of, hub, platform_form, read_hub


def origin_of(report: Report, name: str) -> tuple[str, str]:
    [setting] = [setting for setting in report.settings if setting.name == name]
    return setting.value, setting.origin


LEVELS = ["default", ".env", "file", "environment", "command line"]


@pytest.mark.parametrize("highest", range(len(LEVELS)), ids=LEVELS)
def test_highest_level_that_says_something_wins(highest: int, tmp_path: Path) -> None:
    if highest >= 1:
        (tmp_path / ".env").write_text("UPDATE_INTERVAL=11\n")
    document = hub() | ({"update_interval": "12"} if highest >= 2 else {})
    environ = {"UPDATE_INTERVAL": "13" if highest >= 3 else ""}
    overrides = {"UPDATE_INTERVAL": "14"} if highest >= 4 else {}
    report = read_hub(tmp_path, document, environ, overrides=overrides)
    assert config_of(report).update_interval_s == 10 + highest
    assert origin_of(report, "UPDATE_INTERVAL") == (str(10 + highest), LEVELS[highest])


def test_mounted_credentials_win_over_everything(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hub_mqtt").write_text("username=me\r\npassword=a=b#c\n")
    report = read_hub(tmp_path, hub(), {"MQTT_PASSWORD": "env"}, overrides={"MQTT_USERNAME": "cli"})
    mqtt = config_of(report).mqtt
    assert (mqtt.username, mqtt.password) == ("me", "a=b#c")
    assert origin_of(report, "MQTT_PASSWORD") == ("***", "secret")


def test_every_level_is_checked_also_where_a_higher_one_overrides_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CACHE_TTL=x\n")
    report = read_hub(tmp_path, hub(cache_ttl=-1), {"CACHE_TTL": "y"}, overrides={"CACHE_TTL": "5"})
    paths = [(problem.path, problem.message.partition("not ")[2]) for problem in report.problems]
    assert paths == [
        ("CACHE_TTL", f"'x' (in {tmp_path / '.env'})"),
        ("config.cache_ttl", "-1"),
        ("CACHE_TTL", "'y'"),
    ]
    report = read_hub(tmp_path, hub(), overrides={"CACHE_TTL": "z"})
    assert report.problems[-1].message.endswith("not 'z' (on the command line)")


BAD_VALUES = [
    ("MQTT_HOST", "mqtt://broker", "host name"),
    ("MQTT_HOST", "300.1.1.1", "IP address"),
    ("MQTT_PORT", "65536", "65535"),
    ("MQTT_PORT", "1883.5", "whole number"),
    ("MQTT_PORT", "٣", "whole number"),
    ("MQTT_BASE_TOPIC", "home/#", "without + and #"),
    ("MQTT_BASE_TOPIC", "/home", "slash"),
    ("MQTT_BASE_TOPIC", "home/", "slash"),
    ("MQTT_QOS", "3", "0 to 2"),
    ("MQTT_RETAIN", "sometimes", "true or false"),
    ("MQTT_KEEPALIVE", "0", "1 to 65535"),
    ("MQTT_CA_CERT", "/nonexistent/ca.pem", "existing, readable file"),
    ("MQTT_CA_CERT", "/" + "x" * 5000, "existing, readable file"),
    ("UPDATE_INTERVAL", "nan", "1 to 86400"),
    ("UPDATE_INTERVAL", "0.5", "1 to 86400"),
    ("LOG_LEVEL", "loud", "WARNING"),
    ("LOG_FORMAT", "xml", "json"),
    ("TZ", "Mars/Olympus", "time zone"),
    ("TZ", "../../etc/passwd", "time zone"),
    ("TZ", "Europe", "time zone"),
    ("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", "name of a time zone like UTC or Europe/Berlin (a POSIX rule"),
    ("TZ", ":/etc/localtime", "name of a time zone"),
    ("SERVICE_HOST", "http://0.0.0.0", "IP address"),
    ("SERIAL_HANDLER_URL", "localhost:5001", "URL"),
    ("SERIAL_HANDLER_URL", "http://[::1", "URL"),
    ("SERIAL_HANDLER_URL", "http://h:99999", "URL"),
    ("HTTP_POLLER_PORT", "5001", "differ from SERIAL_HANDLER_PORT"),
    ("EMULATOR_ERROR_RATE", "1.1", "0 to 1"),
    ("EMULATOR_SEED", "0x10", "whole number"),
    ("EMULATOR_PORT", "0", "1 to 65535"),
    ("EMULATOR_PORT", "5002", "differ from HTTP_POLLER_PORT"),
]


@pytest.mark.parametrize(("name", "value", "word"), BAD_VALUES)
def test_bad_variable_is_one_problem_that_says_what_is_allowed(
    name: str, value: str, word: str, tmp_path: Path
) -> None:
    document = hub(sensors=[{"sensor_id": "door", "sensor_type": "motion"}])
    [problem] = read_hub(tmp_path, document, {name: value}).problems
    assert problem.path == name
    assert word in problem.message


@pytest.mark.parametrize("word", ["true", "1", "YES", "on"])
def test_flags_have_several_words(word: str, tmp_path: Path) -> None:
    assert config_of(read_hub(tmp_path, hub(), {"MQTT_TLS": word})).mqtt.tls is True


def test_client_certificate_needs_its_key(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.touch()
    [problem] = read_hub(tmp_path, hub(), {"MQTT_CLIENT_CERT": str(pem)}).problems
    assert problem.path == "MQTT_CLIENT_KEY"
    config = config_of(read_hub(tmp_path, hub(), {"MQTT_CLIENT_CERT": str(pem), "MQTT_CLIENT_KEY": str(pem)}))
    assert (config.mqtt.client_cert, config.mqtt.client_key) == (pem, pem)


def test_services_have_ports_and_urls_that_say_whether_they_were_set(tmp_path: Path) -> None:
    environ = {"SERIAL_HANDLER_PORT": "6001", "HTTP_POLLER_URL": "http://poller:80/"}
    report = read_hub(tmp_path, hub(), environ)
    services = config_of(report).services
    assert [(s.name, s.port, s.url, s.port_is_set) for s in services.values()] == [
        ("serial-handler", 6001, "http://localhost:6001", True),
        ("http-poller", 5002, "http://poller:80", False),
        ("state-aggregator", 5003, "http://localhost:5003", False),
    ]
    assert origin_of(report, "SERIAL_HANDLER_URL") == ("http://localhost:6001", "default")
    assert origin_of(report, "EMULATOR_PORT") == ("6004", "default")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:5001"),
        ("0.0.0.0", "http://localhost:5001"),
        ("::", "http://localhost:5001"),
        ("localhost", "http://localhost:5001"),
        ("127.0.0.2", "http://127.0.0.2:5001"),
        ("192.0.2.7", "http://192.0.2.7:5001"),
        ("2001:db8::7", "http://[2001:db8::7]:5001"),
        ("hub.example", "http://hub.example:5001"),
    ],
)
def test_services_on_a_single_address_are_called_by_it(host: str, url: str, tmp_path: Path) -> None:
    report = read_hub(tmp_path, hub(), {"SERVICE_HOST": host})
    assert config_of(report).services["serial-handler"].url == url
    assert origin_of(report, "SERIAL_HANDLER_URL") == (url, "default")


def test_the_emulators_default_port_is_none_of_the_services(tmp_path: Path) -> None:
    document = hub(sensors=[{"sensor_id": "door", "sensor_type": "motion"}])
    report = read_hub(tmp_path, document, {"SERIAL_HANDLER_PORT": "4999"})
    assert report.problems == ()
    assert origin_of(report, "EMULATOR_PORT") == ("5004", "default")


def test_time_zone_is_utc_unless_set(tmp_path: Path) -> None:
    assert config_of(read_hub(tmp_path, hub())).timezone is UTC
    assert config_of(read_hub(tmp_path, hub(), {"TZ": "Asia/Tokyo"})).timezone == ZoneInfo("Asia/Tokyo")


def test_unknown_override_is_a_problem(tmp_path: Path) -> None:
    [problem] = read_hub(tmp_path, hub(), overrides={"UPDATE_INTERVALL": "5"}).problems
    assert problem.path == "UPDATE_INTERVALL"


def test_every_setting_is_listed_once_with_an_option_and_a_help_text(tmp_path: Path) -> None:
    assert [s.name for s in read_hub(tmp_path, hub()).settings] == [variable.name for variable in SETTINGS]
    assert len({variable.option for variable in SETTINGS}) == len(SETTINGS)
    assert [variable.name for variable in SETTINGS if not (variable.help and variable.default_shown)] == []
    assert {v.option for v in SETTINGS if v.file_key} == {
        "--update-interval",
        "--cache-ttl",
        "--poll-interval",
        "--parallelism",
        "--ha-discovery",
        "--ha-discovery-prefix",
    }


def test_path_of_the_installation_comes_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances" / "hub.json").write_text(json.dumps(hub()))
    environ = {"INSTANCE_NAME": "hub", "IOT2MQTT_PATH": str(tmp_path)}
    assert config_of(read(environ, secrets_dir=tmp_path)).root == tmp_path


def test_relative_paths_are_as_seen_from_where_the_hub_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "instances").mkdir(parents=True)
    (tmp_path / "here" / "instances" / "hub.json").write_text(json.dumps(hub()))
    (tmp_path / "ca.pem").touch()
    monkeypatch.chdir(tmp_path)
    environ = {"INSTANCE_NAME": "hub", "IOT2MQTT_PATH": "here", "MQTT_CA_CERT": "ca.pem"}
    config = config_of(read(environ, secrets_dir=tmp_path))
    assert (config.root, config.mqtt.ca_cert) == (tmp_path / "here", tmp_path / "ca.pem")


# .env


def test_relative_paths_in_dotenv_are_as_seen_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "ca.pem").touch()
    (root / ".env").write_text("MQTT_CA_CERT=ca.pem\n")
    monkeypatch.chdir(elsewhere)
    assert config_of(read_hub(root, hub())).mqtt.ca_cert == root / "ca.pem"


def test_dotenv_has_quotes_comments_and_no_interpolation(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# host\nexport MQTT_HOST='broker' # here\nMQTT_PASSWORD=\"p$HOME ${HOME}\"\nMQTT_USERNAME=\nX=1\n"
    )
    mqtt = config_of(read_hub(tmp_path, hub())).mqtt
    assert (mqtt.host, mqtt.password, mqtt.username) == ("broker", "p$HOME ${HOME}", None)


def test_hosts_path_in_dotenv_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IOT2MQTT_PATH=/home/somebody\n")
    assert config_of(read_hub(tmp_path, hub())).root == tmp_path


def test_broken_dotenv_line_about_one_of_our_variables_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTHER='x\n\nMQTT_PASSWORD=\"geheim\n")
    [problem] = read_hub(tmp_path, hub()).problems
    assert (problem.path, "line 3" in problem.message) == ("MQTT_PASSWORD", True)
    assert "geheim" not in problem.message


def test_unreadable_dotenv_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"MQTT_HOST=\xff\n")
    assert [p.path for p in read_hub(tmp_path, hub()).problems] == [str(tmp_path / ".env")]
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    [problem] = read_hub(tmp_path, hub()).problems
    assert "folder" in problem.message


# Secrets in the instance file


TOKEN = "s3cr3t-t0ken"
AUTH = {"username": "me", "password": "__SECRET__sensors.0.auth.password__"}


def creds(root: Path, text: str) -> None:
    (root / "secrets").mkdir(exist_ok=True)
    (root / "secrets" / "hub_creds").write_text(text)


@pytest.mark.parametrize("key", ["sensors.0.auth.password", "sensors[0].auth.password", "password"])
def test_placeholder_is_filled_from_the_mounted_file(key: str, tmp_path: Path) -> None:
    creds(tmp_path, f"# mine\n\n{key}={TOKEN}\n")
    config = config_of(read_hub(tmp_path, hub(sensors=[{**YARD, "auth": AUTH}])))
    assert config.sensors[0].options["auth"] == {"username": "me", "password": TOKEN}


def test_placeholder_is_filled_from_the_environment(tmp_path: Path) -> None:
    environ = {"SECRET_SENSORS_0_AUTH_PASSWORD": TOKEN}
    config = config_of(read_hub(tmp_path, hub(sensors=[{**YARD, "auth": AUTH}]), environ))
    assert config.sensors[0].options["auth"] == {"username": "me", "password": TOKEN}


def test_placeholder_inside_a_text_is_filled_too(tmp_path: Path) -> None:
    yard = {**YARD, "headers": {"Authorization": "Bearer __SECRET__a.b__"}}
    config = config_of(read_hub(tmp_path, hub(sensors=[yard]), {"SECRET_A_B": TOKEN}))
    assert config.sensors[0].options["headers"] == {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "text", ["__SECRET__a.b__", "x __SECRET__a.b__ y", "__SECRET__a.b", "__SECRET__A.B__", "__SECRET____"]
)
def test_placeholder_without_a_secret_is_a_problem_and_never_a_value(text: str, tmp_path: Path) -> None:
    creds(tmp_path, "other=1\nB.b=2\nA=3\n")
    [problem] = read_hub(tmp_path, hub(sensors=[{**YARD, "headers": {"X": text}}])).problems
    assert problem.path == "config.sensors[0].headers.X"
    assert "SECRET_" in problem.message


def test_missing_secret_in_the_platforms_form_is_one_problem(tmp_path: Path) -> None:
    yard = {**YARD, "auth": AUTH}
    [problem] = read_hub(tmp_path, platform_form({"sensors": [yard]})).problems
    assert problem.path == "connection.sensors[0].auth.password"
    assert "SECRET_SENSORS_0_AUTH_PASSWORD" in problem.message


@pytest.mark.parametrize(
    "document",
    [hub(sensors=[{**YARD, "auth": {}}]), platform_form({"sensors": [{**YARD, "auth": {}}]})],
    ids=["documented", "platform"],
)
@pytest.mark.parametrize("key", ["connection.sensors.0.auth.password", "sensors[0].auth.password"])
def test_mounted_secret_is_merged_where_its_path_leads(key: str, document: Document, tmp_path: Path) -> None:
    creds(tmp_path, f"{key}={TOKEN}\ncache_ttl=7\nsensors.9.x=1\nsensors.0.url.x=1\n")
    config = config_of(read_hub(tmp_path, document))
    assert config.sensors[0].options["auth"] == {"password": TOKEN}
    assert config.cache_ttl_s == 7.0


def test_secrets_file_that_is_no_list_of_keys_and_values_is_a_problem(tmp_path: Path) -> None:
    creds(tmp_path, f"{TOKEN}\n")
    report = read_hub(tmp_path, hub())
    assert [problem.path for problem in report.problems] == [str(tmp_path / "secrets" / "hub_creds")]
    assert TOKEN not in repr(report)


def test_no_secret_is_in_the_repr_of_a_good_report(tmp_path: Path) -> None:
    creds(tmp_path, f"token={TOKEN}1\n")
    (tmp_path / "secrets" / "hub_mqtt").write_text(f"password={TOKEN}2\n")
    (tmp_path / ".env").write_text(f"MQTT_PASSWORD={TOKEN}3\n")
    yard = {
        **YARD,
        "url": f"http://me:{TOKEN}4@192.0.2.1/x?api_key={TOKEN}5",
        "headers": {"Authorization": f"Bearer {TOKEN}6", "X": "__SECRET__a.token__"},
        "auth": {"password": f"{TOKEN}7"},
    }
    environ = {"MQTT_PASSWORD": f"{TOKEN}8", "HTTP_POLLER_URL": f"http://me:{TOKEN}9@localhost:5002"}
    report = read_hub(tmp_path, hub(sensors=[yard]), environ)
    config = config_of(report)
    assert TOKEN not in repr(report)
    assert config.transports[0].url == yard["url"]
    assert config.mqtt.password == f"{TOKEN}2"
    assert json.loads(json.dumps(config.sensors[0].options))["headers"]["X"] == f"{TOKEN}1"


def test_no_secret_is_in_the_repr_of_a_bad_report(tmp_path: Path) -> None:
    creds(tmp_path, f"cache_ttl={TOKEN}\nkind={TOKEN}\n")
    sensor = {**LAMP, "sensor_type": "__SECRET__a.kind__", "password": TOKEN}
    environ = {"SERIAL_HANDLER_URL": f"ftp://me:{TOKEN}@h", "MQTT_PASSWORD": f"\0{TOKEN}"}
    report = read_hub(tmp_path, hub(sensors=[sensor]), environ)
    assert {problem.path for problem in report.problems} == {
        "MQTT_PASSWORD", "SERIAL_HANDLER_URL", "cache_ttl", "config.sensors[0].sensor_type",
        "config.sensors[0].password",
    }  # fmt: skip
    assert TOKEN not in repr(report)


def test_secret_text_is_the_text_itself_also_in_another_process() -> None:
    secret = SecretText(f" {TOKEN}")
    copy = pickle.loads(pickle.dumps(secret))
    assert (copy, repr(copy), f"{copy}", repr(copy.strip())) == (f" {TOKEN}", "'***'", f" {TOKEN}", "'***'")
