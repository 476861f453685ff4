"""Register maps by name: where they are looked for, our own format, what is shipped."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from emulator.values import PROFILES
from sensor_hub.drivers import ppg_cells, register_maps
from sensor_hub.drivers.modbus_plan import Span
from sensor_hub.drivers.modbus_register import Register
from sensor_hub.drivers.register_map_file import MapFile, schema_text
from sensor_hub.drivers.register_maps import MapError, RegisterMap, available, load
from sensor_hub.sensor_types import SENSOR_TYPES

ROOT = Path(__file__).resolve().parents[2]
CSV = "variable name,documented name,register,unit\n"
TEMPERATURE = {"table": "input", "address": 1, "data_type": "int16", "scale": 0.1, "unit": "°C"}


def shipped() -> list[str]:
    return available(None)


def put(folder: Path, file: str, content: str | dict[str, Any]) -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def problems(name: str, folder: Path | None) -> str:
    with pytest.raises(MapError) as caught:
        load(name, folder)
    return str(caught.value)


# -- our own format ----------------------------------------------------------------------------------------------


def test_a_file_of_our_own_says_registers_and_how_the_device_is_read(tmp_path: Path) -> None:
    content = {
        "$schema": "https://example.org/register-map.schema.json",
        "description": "A thermometer",
        "source": "its manual, page 7",
        "baudrate": 9600,
        "max_registers": 20,
        "max_gap": 0,
        "delay_ms": 50,
        "write_multiple": True,
        "never_read": [{"table": "holding", "address": 10, "length": 2}],
        "registers": {
            "temperature": TEMPERATURE,
            "reset": {"table": "holding", "address": 20, "write": True, "read": False},
        },
    }
    put(tmp_path, "thermo.json", content)
    found = load("thermo", tmp_path)
    assert found.registers["temperature"] == Register.model_validate(TEMPERATURE)
    line = found.line
    assert (line.baudrate, line.max_registers, line.max_gap, line.delay_ms) == (9600, 20, 0, 50)
    assert line.write_multiple is True
    assert found.never_read == (Span("holding", 10, 2), Span("holding", 20, 1))
    assert (found.name, found.description, found.notes) == ("thermo", "A thermometer", ())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "thermo.json: not JSON"),
        ("[]", "thermo.json: must be a JSON object"),
        ({}, "thermo.json has no registers of its own, and there is none of thermo.holding_registry_map.csv"),
        ({"registers": {}}, "thermo.json, registers: must have at least one register"),
        ({"registers": {"t": 5}}, "thermo.json, registers.t: must be an object"),
        ({"registers": {"t": {"table": "input"}}}, "thermo.json, registers.t.address: required"),
        (
            {"registers": {"t": {**TEMPERATURE, "scael": 1}}},
            "thermo.json, registers.t.scael: unknown key; known are table, address",
        ),
        ({"registers": {"t": TEMPERATURE}, "speed": 1}, "thermo.json, speed: unknown key; known are $schema"),
        ({"registers": {"status": TEMPERATURE}}, "'status' is reserved"),
        ({"registers": {"t": TEMPERATURE}, "max_registers": 126}, "max_registers: must be a whole number"),
    ],
)
def test_a_bad_file_of_our_own_is_named_with_its_place(
    content: str | dict[str, Any], says: str, tmp_path: Path
) -> None:
    put(tmp_path, "thermo.json", content)
    assert says in problems("thermo", tmp_path)


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    put(tmp_path, "x.json", {"registers": {"a": {"table": "x"}, "b": TEMPERATURE, "c": {}}, "delay_ms": -1})
    with pytest.raises(MapError) as caught:
        load("x", tmp_path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "x.json, delay_ms",
        "x.json, registers.a.table",
        "x.json, registers.a.address",
        "x.json, registers.c.table",
        "x.json, registers.c.address",
    ]


def test_the_published_schema_is_the_models() -> None:
    assert (ROOT / "docs/register-map.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_says_what_the_model_refuses() -> None:
    schema = json.loads(schema_text())
    register = schema["$defs"]["Register"]
    assert schema["required"] == ["registers"]
    assert register["required"] == ["table", "address"]
    assert register["additionalProperties"] is False
    assert register["properties"]["address"]["maximum"] == 65535
    assert "float64" in register["properties"]["data_type"]["enum"]
    assert set(schema["properties"]) == set(MapFile.known_keys())


# -- the documentation -------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs/register-maps.md").read_text(encoding="utf-8")


def words_of(first: str) -> list[str]:
    """The words in the first column of the table whose header begins with `first`."""
    table = PAGE.split(f"| {first} |")[1].split("\n\n")[0]
    return [
        word for line in table.splitlines()[2:] for word in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]


def test_the_page_has_every_key_of_a_map_file() -> None:
    assert set(words_of("key")) == set(MapFile.known_keys())


def test_the_page_has_every_map_that_is_shipped() -> None:
    assert words_of("map") == shipped()


@pytest.mark.parametrize("word", [word for word in words_of("type") if "…" not in word])
def test_every_type_of_the_page_is_known(word: str) -> None:
    assert ppg_cells.type_of(word).bits > 0


def test_every_access_word_of_the_page_is_known() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `writable`"))
    words = re.findall(r"`([^`]+)`", row.split(" | ")[1])
    assert len(words) == 13
    assert [word for word in words if ppg_cells.access_of(word)[1] is not None] == []


def test_the_map_of_the_page_loads_and_means_what_it_says(tmp_path: Path) -> None:
    example = re.search(r"<!-- map -->\n```json\n(.*?)\n```", PAGE, re.S)
    assert example is not None
    put(tmp_path, "boiler.json", example[1])
    registers = load("boiler", tmp_path).registers
    assert registers["flow_temperature"].decode([455]) == 45.5
    assert registers["alarms"].decode([3]) == "no water,no flame"
    assert registers["mode"].encode("manual", [0xFFFF]) == [0xFFEF]
    assert registers["serial_number"].count == 8


# -- what is shipped ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_map_loads_without_a_note_and_says_its_source(name: str) -> None:
    found = load(name)
    file = json.loads((register_maps.SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
    assert found.registers
    assert found.notes == ()
    assert found.description
    assert file["source"]


@pytest.mark.parametrize("kind", PROFILES)
def test_every_emulated_device_has_a_map(kind: str) -> None:
    registers = load(f"emulator_{kind}").registers
    value = registers["value"]
    assert (value.table, value.address, value.decode([225])) == ("input", 0, 22.5)
    assert value.unit == SENSOR_TYPES[kind].unit
    assert registers["setpoint"].encode(21.0) == [210]
    assert registers["switch"].write is True
    assert registers["switch_feedback"].table == "discrete"


def test_a_shipped_meter_is_decoded() -> None:
    meter = load("eastron_sdm120").registers
    assert meter["voltage"].decode([0x4366, 0x3334]) == 230.2
    assert (meter["frequency"].address, meter["total_energy"].address) == (70, 342)


# -- finding -----------------------------------------------------------------------------------------------------


def test_an_unknown_map_is_told_which_there_are(tmp_path: Path) -> None:
    put(tmp_path, "mine.json", {"registers": {"t": TEMPERATURE}})
    text = problems("yours", tmp_path)
    assert "there is no such map; known are " in text
    assert "mine" in text
    assert "eastron_sdm120" in text


def test_a_folder_that_is_not_there_holds_no_maps(tmp_path: Path) -> None:
    assert available(tmp_path / "none") == shipped()
    assert load("eastron_sdm120", tmp_path / "none").registers


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "x\0", "a" * 101])
def test_a_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    put(tmp_path, "x.json", {"registers": {"t": TEMPERATURE}})
    (tmp_path / "inner").mkdir()
    assert "there is no such map" in problems(name, tmp_path / "inner")


def test_a_users_map_comes_before_a_shipped_one(tmp_path: Path) -> None:
    put(tmp_path, "eastron_sdm120.json", {"registers": {"mine": TEMPERATURE}})
    assert list(load("eastron_sdm120", tmp_path).registers) == ["mine"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path, "x.json", {"registers": {"a": TEMPERATURE}})
    assert list(load("x", tmp_path).registers) == ["a"]
    put(tmp_path, "x.json", {"registers": {"b": TEMPERATURE}})
    os.utime(path, ns=(1, 1))
    assert list(load("x", tmp_path).registers) == ["b"]


def test_what_one_caller_does_to_its_map_nobody_else_sees(tmp_path: Path) -> None:
    put(tmp_path, "x.json", {"registers": {"a": TEMPERATURE}})
    first = load("x", tmp_path)
    assert isinstance(first.registers, dict)
    first.registers.clear()
    assert list(load("x", tmp_path).registers) == ["a"]


@pytest.mark.parametrize("place", ["", "maker/", "some/where/else/"])
def test_a_definitions_files_may_lie_in_folders(place: str, tmp_path: Path) -> None:
    put(tmp_path, f"{place}maker_one.json", {})
    put(tmp_path, f"{place}maker_one.holding_registry_map.csv", CSV + ",A,1,V\n")
    put(tmp_path, f"{place}maker_one.holding_registry_map.override.csv", CSV + ",A,,mV\n")
    put(tmp_path, f"{place}maker_one.input_registry_map.csv", CSV + ",B,1,V\n")
    registers = load("maker_one", tmp_path).registers
    assert {name: (item.table, item.unit) for name, item in registers.items()} == {
        "a": ("holding", "mV"),
        "b": ("input", "V"),
    }


def test_the_nearest_file_is_taken(tmp_path: Path) -> None:
    for place in ("", "maker/", "a/"):
        put(tmp_path, f"{place}maker_one.holding_registry_map.csv", CSV + f",{place or 'here'},1,V\n")
    put(tmp_path, "maker_one.json", {})
    assert list(load("maker_one", tmp_path).registers) == ["here"]


def test_tables_whose_name_has_one_v_more_are_found(tmp_path: Path) -> None:
    put(tmp_path, "victron_gx_3.3.json", {})
    put(tmp_path, "victron_gx_v3.3.holding_registry_map.csv", CSV + ",A,1,V\n")
    found = load("victron_gx_3.3", tmp_path)
    assert list(found.registers) == ["a"]
    assert found.notes == (
        "victron_gx_v3.3.holding_registry_map.csv is taken for victron_gx_3.3.holding_registry_map.csv",
    )


def test_tables_without_a_json_file_have_the_defaults(tmp_path: Path) -> None:
    put(tmp_path, "x.input_registry_map.csv", CSV + ",A,1,V\n")
    found = load("x", tmp_path)
    assert found.notes == ("there is no x.json: defaults are taken",)


def test_messages_are_no_registers(tmp_path: Path) -> None:
    put(tmp_path, "can.json", {"transport": "canbus", "byteorder": "little"})
    put(tmp_path, "can.registry_map.csv", CSV + ",A,x355.2,0.1V\n")
    found = load("can", tmp_path)
    assert found.registers == {}
    assert found.messages["a"].decode(bytes([0, 0, 0x64, 0])) == 10.0


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_tables_are_latin_1_or_utf_8(encoding: str, tmp_path: Path) -> None:
    put(tmp_path, "x.json", {})
    (tmp_path / "x.input_registry_map.csv").write_bytes((CSV + ",A,1,0.1°C\n").encode(encoding))
    assert load("x", tmp_path).registers["a"].unit == "°C"


def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    put(tmp_path, "x.json", {})
    os.mkfifo(tmp_path / "x.holding_registry_map.csv")
    (tmp_path / "x.input_registry_map.csv").mkdir()
    text = problems("x", tmp_path)
    assert "x.holding_registry_map.csv: is no regular file" in text
    assert "x.input_registry_map.csv: Is a directory" in text


def test_a_file_that_may_not_be_read_and_a_huge_one_are_named(tmp_path: Path) -> None:
    put(tmp_path, "x.json", " " * (4 * 1024 * 1024 + 1))
    assert "x.json: is larger than 4 MiB" in problems("x", tmp_path)


def test_a_map_is_a_plain_value(tmp_path: Path) -> None:
    assert RegisterMap("x", {}).line.max_registers is None
    put(tmp_path, "x.json", {"registers": {"a": TEMPERATURE}})
    assert load("x", tmp_path) == load("x", tmp_path)
