"""The documentation cannot lie: its tables, links, targets and examples are compared with the code."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import sys
import threading
import typing
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.simple_server import make_server as make_wsgi_server

import pytest
from flask import Flask
from pydantic import BaseModel

from emulator import scenario
from sensor_hub import config, sensor_types, wire
from sensor_hub.aggregator import Aggregator
from sensor_hub.aggregator_api import aggregator_app
from sensor_hub.cli import app as command_line
from sensor_hub.clock import system_clock
from sensor_hub.config.instance_file import CONFIG_KEYS
from sensor_hub.config.model import Handler, HubConfig
from sensor_hub.drivers import DRIVERS, check_options
from sensor_hub.drivers.http_settings import Auth, Command, HttpSensor
from sensor_hub.drivers.modbus_settings import ModbusSensor, Register, RtuSettings
from sensor_hub.errors import BY_CODE, DeviceRefused, Problem, ReadFailed, TransportDown
from sensor_hub.handler import HandlerService
from sensor_hub.handler_api import handler_app
from sensor_hub.outputs import OUTPUTS, check_output, influxdb_settings
from sensor_hub.outputs.followers import Followers
from sensor_hub.outputs.sink import Sink
from sensor_hub.outputs.topics import REQUEST_FILTERS, Topics
from sensor_hub.readings import Json, Quality, Status
from sensor_hub.sensor_types import SENSOR_TYPES, SensorType
from tests.contract.feed import feed
from tests.contract.output_suite import Got, OutputSuite
from tests.contract.output_suite import message as a_message
from tests.support import eventually

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "docs/adding-things.md").read_text(encoding="utf-8")
INSTANCES = sorted((ROOT / "instances").glob("*.json"))


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def section(title: str, text: str = README) -> str:
    """What stands under a heading, its subsections too."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.M)
    assert found is not None, f"no heading {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row; header and rule are left out."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        is_head = number + 1 < len(lines) and re.fullmatch(r"\|[-| ]+\|", lines[number + 1])
        if line.startswith("| ") and not is_head:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def fences(kind: str, text: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def marked(mark: str) -> str:
    """The example in docs/adding-things.md that follows the comment `mark`."""
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)\n```", RECIPES, re.S)
    assert found is not None, f"no example marked {mark!r}"
    return found[1]


def problems_of(text: str, folder: Path) -> tuple[Problem, ...]:
    report = read(text, folder)
    return tuple(report.problems)


def read(text: str, folder: Path) -> config.model.Report:
    file = folder / "instance.json"
    file.write_text(text, encoding="utf-8")
    return config.read(
        {}, root=folder, file=file, secrets_dir=folder, check_options=check_options, check_output=check_output
    )


def hub_of(text: str, folder: Path) -> HubConfig:
    report = read(text, folder)
    assert report.config is not None, report.problems
    return report.config


# -- tables ------------------------------------------------------------------------------------------------------


def test_the_readme_has_every_setting_with_its_default_and_what_it_takes() -> None:
    found = {
        code_in(name)[0]: (default.strip("`"), takes.replace("\\|", "|").replace(" | ", "|"))
        for name, default, takes, _ in rows(section("Variables"))
    }
    assert found == {v.name: (v.default_shown or "none", v.takes) for v in config.SETTINGS}


def test_the_readme_names_the_file_key_of_a_setting() -> None:
    keys = {
        code_in(name)[0]: re.search(r"file: `(\w+)`", meaning)
        for name, _, _, meaning in rows(section("Variables"))
    }
    assert {name: found[1] if found else None for name, found in keys.items()} == {
        variable.name: variable.file_key for variable in config.SETTINGS
    }


def test_the_readme_has_every_error_code_with_its_status() -> None:
    table = [cells for cells in rows(section("Status, quality, errors")) if len(cells) == 3]
    assert {code_in(code)[0]: int(status) for code, status, _ in table} == {
        code: error.status for code, error in BY_CODE.items()
    }


def test_the_readme_has_every_status_and_quality() -> None:
    words = [code_in(cells[0])[0] for cells in rows(section("Status, quality, errors")) if len(cells) == 2]
    assert words == [*map(str, Status), *map(str, Quality)]


def test_the_readme_has_every_program() -> None:
    conf = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";",))
    conf.read(ROOT / "supervisord.conf", encoding="utf-8")
    programs = {
        name.partition(":")[2] for name in conf.sections() if name.startswith(("program:", "eventlistener:"))
    }
    assert {code_in(cells[0])[0] for cells in rows(section("Processes, ports, health"))} == programs


def test_the_readme_has_every_sensor_type() -> None:
    sentence = re.search(r"^Types: (.*)\.$", README, re.M)
    assert sentence is not None
    assert code_in(sentence[1]) == list(SENSOR_TYPES)


def test_the_readme_has_every_driver() -> None:
    sentence = re.search(r"`driver` is (.*)\.$", README, re.M)
    assert sentence is not None
    assert code_in(sentence[1]) == list(DRIVERS)


def test_the_readme_has_every_command_of_the_command_line() -> None:
    found = {code_in(cells[0])[0].split()[1] for cells in rows(section("Command line"))}
    names = {
        command.name or (command.callback.__name__ if command.callback else "")
        for command in command_line.registered_commands
    }
    assert found == names


@pytest.mark.parametrize(
    "model",
    [RtuSettings, Register, ModbusSensor, HttpSensor, Auth, Command],
    ids=lambda model: model.__name__,
)
def test_the_readme_has_every_key_of_a_drivers_settings(model: type[BaseModel]) -> None:
    keys = {field.alias or name for name, field in model.model_fields.items()}
    tables = section("The instance file")
    documented = {word for cells in rows(tables) for word in code_in(cells[0])}
    documented |= set(re.findall(r'"(\w+)": …', tables))
    assert keys - documented == set()


def test_the_readme_has_every_key_of_an_instance() -> None:
    documented = {word for cells in rows(section("The instance file")) for word in code_in(cells[0])}
    assert set(CONFIG_KEYS) | {"instance_id", "connector_type", "enabled"} <= documented


def test_the_readme_names_every_property_name_that_is_taken() -> None:
    sentence = re.search(r"^A property may have any name.*?\.$", README, re.M | re.S)
    assert sentence is not None
    assert sorted(code_in(sentence[0])) == sorted(wire.RESERVED)


def topics_of_the_code() -> set[str]:
    topics = Topics("base", "x")
    leaves = ("state", "error", "events", "availability", "telemetry", "cmd/response")
    full = {
        topics.status,
        topics.state_property("{id}", "{property}"),
        topics.group_response("{group_id}"),
        topics.meta("devices_list"),
        topics.meta("info"),
        topics.discovered,
        *(topics.device("{id}", leaf) for leaf in leaves),
    }
    requests = {
        each.replace("devices/+", "devices/{id}").replace("groups/+", "groups/{group_id}")
        for each in REQUEST_FILTERS
        if each != "meta/request/+"
    }
    asked = {f"meta/request/{what}" for what in ("devices_list", "info", "discover")}
    return {topic.removeprefix(topics.prefix + "/") for topic in full} | requests | asked


def test_the_readme_has_every_topic() -> None:
    table = section("MQTT")
    assert {code_in(cells[0])[0] for cells in rows(table)} == topics_of_the_code()
    assert "`{MQTT_BASE_TOPIC}/v1/global/events`" in table
    assert Topics("b", "i").global_events == "b/v1/global/events"


def routes_of(app: Flask) -> set[str]:
    return {
        f"{method} {re.sub(r'<[^>]+>', '{id}', rule.rule)}"
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_the_readme_has_every_call_of_every_service(tmp_path: Path) -> None:
    hub = hub_of(INSTANCES[-1].read_text(encoding="utf-8"), tmp_path)
    clock = system_clock()
    apps: dict[str, Flask] = {
        "serial-handler": handler_app(
            HandlerService("serial-handler", Handler.SERIAL, hub, clock), Handler.SERIAL
        ),
        "http-poller": handler_app(HandlerService("http-poller", Handler.HTTP, hub, clock), Handler.HTTP),
        "state-aggregator": aggregator_app(Aggregator(hub, clock)),
    }
    documented: dict[str, set[str]] = {name: set() for name in apps}
    for owners, calls, _ in rows(section("REST")):
        names = list(apps) if owners == "all" else owners.split(", ")
        for name in names:
            documented[name] |= {call.partition("?")[0] for call in code_in(calls)}
    assert documented == {name: routes_of(app) for name, app in apps.items()}


# -- links, targets, paths ---------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        place = page.parent / target if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*fences(r"\w*", text), *code_in(re.sub(r"```.*?```", "", text, flags=re.S))])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)\b", code)) - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_file_that_is_named_exists(page: Path) -> None:
    folders = "sensor_hub|services|emulator|shared|tests|docs|instances"
    named = re.findall(rf"`((?:{folders})/[\w/.-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_page_has_a_path_of_a_build_machine(page: Path) -> None:
    assert (
        re.findall(r"(?<![\w.])/(?:home|root|work|Users|builds?)/\S*", page.read_text(encoding="utf-8")) == []
    )


def test_decisions_are_numbered_without_gaps_and_say_why() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        heads = re.findall(r"^## (.*)$", text, re.M)
        assert heads[:2] == ["Context", "Decision"], page.name
        assert heads[-1] == "Consequences", page.name


# -- examples ----------------------------------------------------------------------------------------------------


def json_examples() -> list[str]:
    return fences("json", README)


def test_the_readme_shows_all_forms_of_an_instance() -> None:
    keys = [key for text in json_examples() for key in ('"config"', '"connection"', '"lines"') if key in text]
    assert set(keys) == {'"config"', '"connection"', '"lines"'}


@pytest.mark.parametrize("text", json_examples(), ids=range(len(json_examples())))
def test_every_json_example_of_the_readme_is_valid(text: str, tmp_path: Path) -> None:
    if '"lines"' in text:
        assert scenario.parse(json.loads(text)).lines[0].units[0].unit_id == 1
    else:
        assert problems_of(text, tmp_path) == ()


def test_the_platforms_form_is_understood_as_the_readme_says(tmp_path: Path) -> None:
    text = next(text for text in json_examples() if '"connection"' in text)
    hub = hub_of(text, tmp_path)
    assert [(s.sensor_id, s.sensor_type, s.handler) for s in hub.sensors] == [
        ("temp_cellar", "temperature", Handler.SERIAL),
        ("motion_hall", "motion", Handler.HTTP),
    ]
    assert hub.transports[0].url == "/dev/ttyUSB0"


@pytest.mark.parametrize("file", INSTANCES, ids=page_id)
def test_every_instance_file_is_valid_and_in_the_readme(file: Path, tmp_path: Path) -> None:
    assert f"]({page_id(file)})" in README
    assert problems_of(file.read_text(encoding="utf-8"), tmp_path) == ()


def test_the_sample_is_shown_as_it_is_shipped() -> None:
    assert (ROOT / "instances/sensor_hub_01.json").read_text(encoding="utf-8") in json_examples()


# -- recipes -----------------------------------------------------------------------------------------------------


def module_of(mark: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module, as if it stood in its file."""
    name = f"recipe_{mark}"
    file = folder / f"{name}.py"
    file.write_text(marked(mark), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of numbers, as the recipe's driver reads it."""
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    (numbers / "temp").write_text("48312\n", encoding="utf-8")
    return numbers


@pytest.fixture
def with_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe's driver stands in DRIVERS."""
    driver = module_of("driver", tmp_path, monkeypatch).FileNumber
    monkeypatch.setitem(typing.cast(dict[str, object], DRIVERS), driver.name, driver)


def instance_at(folder: Path) -> str:
    document = json.loads(marked("driver instance"))
    document["config"]["transports"][0] |= {"url": str(folder), "read_interval": 0.05}
    return json.dumps(document)


class Running:
    """A serial-handler with an instance's lines, for as long as the block lasts."""

    def __init__(self, text: str, folder: Path) -> None:
        hub = hub_of(text, folder)
        self.service = HandlerService("serial-handler", Handler.SERIAL, hub, system_clock(hub.timezone))

    def __enter__(self) -> HandlerService:
        self.service.start()
        eventually(
            lambda: all(t["state"] != "connecting" for t in self.service.transports() if isinstance(t, dict))
        )
        return self.service

    def __exit__(self, *_: object) -> None:
        self.service.close()


@pytest.mark.usefixtures("with_driver")
def test_the_recipe_for_a_driver_reads_a_device(tmp_path: Path, folder: Path) -> None:
    with Running(instance_at(folder), tmp_path) as service:
        reading = service.read("cpu")
        assert (reading["value"], reading["unit"], reading["quality"]) == (48.31, "°C", "good")
        (folder / "temp").write_text("50000", encoding="utf-8")
        eventually(lambda: service.last("cpu")["value"] == 50.0)
        assert service.status("cpu") is Status.ONLINE


@pytest.mark.usefixtures("with_driver")
def test_the_recipe_for_a_driver_names_its_failures(tmp_path: Path, folder: Path) -> None:
    with Running(instance_at(folder), tmp_path) as service:
        (folder / "temp").write_text("warm", encoding="utf-8")
        with pytest.raises(ReadFailed, match="temp holds no number"):
            service.read("cpu")
        (folder / "temp").unlink()
        with pytest.raises(DeviceRefused, match="no file temp"):
            service.read("cpu")
    with Running(instance_at(folder / "gone"), tmp_path) as service, pytest.raises(TransportDown):
        service.read("cpu")


@pytest.mark.usefixtures("with_driver")
def test_the_recipe_for_a_driver_refuses_unknown_options(tmp_path: Path) -> None:
    text = marked("driver instance").replace('"scale"', '"skale"')
    assert problems_of(text, tmp_path) == (
        Problem("config.sensors[0].skale", "unknown key; known are file, scale"),
    )


def test_without_the_line_in_drivers_the_recipes_instance_is_refused(tmp_path: Path) -> None:
    found = problems_of(marked("driver instance"), tmp_path)
    assert [problem.path for problem in found] == ["config.transports[0].driver"]


@pytest.mark.usefixtures("with_driver")
def test_the_recipe_for_a_sensor_type_gives_unit_rounding_and_quality(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = eval("{" + marked("sensor type") + "}", {"SensorType": SensorType})
    for name, sensor_type in row.items():
        monkeypatch.setitem(typing.cast(dict[str, SensorType], sensor_types.SENSOR_TYPES), name, sensor_type)
    text = instance_at(folder).replace('"sensor_type": "temperature"', '"sensor_type": "sound"')
    with Running(text, tmp_path) as service:
        (folder / "temp").write_text("61237", encoding="utf-8")
        good = service.read("cpu")
        assert (good["value"], good["unit"], good["quality"]) == (61.2, "dB", "good")
        (folder / "temp").write_text("400000", encoding="utf-8")
        assert service.read("cpu")["quality"] == "poor"


class Posted:
    """Where the recipe's output posts to."""

    def __init__(self) -> None:
        self._server: WSGIServer | None = None
        self._port = 0
        self.messages: dict[str, dict[str, typing.Any]] = {}
        self.come_back()
        self.options: dict[str, Json] = {"url": self.url}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/readings"

    def _answer(self, environ: dict[str, typing.Any], start: typing.Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        self.messages.update({each["id"]: each for each in json.loads(body)})
        start("204 No Content", [])
        return []

    def got(self) -> list[Got]:
        return [
            (each["device_id"], each["data"]["value"], datetime.fromisoformat(each["timestamp"]))
            for each in self.messages.values()
        ]

    def leave(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def come_back(self) -> None:
        self._server = make_wsgi_server("127.0.0.1", self._port, self._answer, handler_class=QuietWsgi)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()


class QuietWsgi(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def posted() -> Iterator[Posted]:
    made = Posted()
    yield made
    made.leave()


@pytest.fixture
def with_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Sink]:
    recipe: type[Sink] = module_of("output", tmp_path, monkeypatch).Webhook
    monkeypatch.setitem(typing.cast(dict[str, type[Sink]], OUTPUTS), recipe.name, recipe)
    return recipe


class TestTheRecipeForAnOutput(OutputSuite):
    """It does what every output must do."""

    @pytest.fixture(autouse=True)
    def _kind(self, with_output: type[Sink], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "kind", with_output, raising=False)

    @pytest.fixture
    def receiver(self, posted: Posted) -> Posted:
        return posted


def test_the_recipe_for_an_output_gets_what_its_devices_say_and_nothing_else(
    tmp_path: Path, posted: Posted, with_output: type[Sink]
) -> None:
    content = json.loads(marked("output instance"))["config"]
    outputs = [{**content["outputs"][0], "url": posted.url, "parallelism": "thread"}]
    with feed(tmp_path, outputs, content["sensors"]) as its_feed:
        followers = Followers(its_feed.hub, system_clock())
        followers.start()
        try:
            for number in range(10):
                its_feed.says("cellar", {"value": -number})
                its_feed.says("attic", {"value": number})
            eventually(lambda: len(posted.messages) >= 10, 30)
        finally:
            followers.join(10)
    assert [each[:2] for each in posted.got()] == [("attic", number) for number in range(10)]
    assert {each["target_transport"] for each in posted.messages.values()} == {"web"}


def test_without_the_line_in_outputs_the_recipes_instance_is_refused(tmp_path: Path) -> None:
    found = problems_of(marked("output instance"), tmp_path)
    assert [problem.path for problem in found] == ["config.outputs[0].type"]


@pytest.mark.parametrize("sink", list(OUTPUTS.values()), ids=list(OUTPUTS))
def test_the_page_of_outputs_has_every_option_of_every_type(sink: type[Sink]) -> None:
    page = (ROOT / "docs/outputs.md").read_text(encoding="utf-8")
    documented = {word for cells in rows(section(f"`{sink.name}`", page)) for word in code_in(cells[0])}
    assert documented == set(sink.settings.known_keys())


def test_the_page_of_outputs_names_every_placeholder() -> None:
    page = (ROOT / "docs/outputs.md").read_text(encoding="utf-8")
    sentence = re.search(r"^Placeholders: (.*?)\.$", page, re.M | re.S)
    assert sentence is not None
    assert code_in(sentence[1]) == [f"{{{name}}}" for name in influxdb_settings.PLACEHOLDERS]


@pytest.mark.parametrize(
    "text", fences("json", (ROOT / "docs/outputs.md").read_text(encoding="utf-8")), ids=lambda text: text[:30]
)
def test_every_json_example_of_the_page_of_outputs_is_valid(text: str, tmp_path: Path) -> None:
    content = json.loads(text)
    if "id" in content:
        assert list(content) == list(a_message(7, {"value": 21.5}, extra={"unit": "°C"}).body())
    else:
        assert problems_of(json.dumps({"instance_id": "x", "config": content}), tmp_path) == ()


def test_the_recipe_for_a_service_answers_and_names_the_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = hub_of(INSTANCES[-1].read_text(encoding="utf-8"), tmp_path)
    module = module_of("service", tmp_path, monkeypatch)
    client = module.create_app(hub).test_client()
    answer = client.get("/health")
    assert answer.get_json() == {"service": "clock", "instance_id": hub.instance_id, "status": "healthy"}
    assert answer.headers["X-Sensor-Hub-Instance"] == hub.instance_id
    assert client.get("/nothing").get_json()["error"] == "NOT_FOUND"
