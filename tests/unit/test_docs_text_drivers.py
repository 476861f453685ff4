"""The pages of the text drivers are compared with their code, and their examples are valid instances."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from sensor_hub.drivers.ascii_line_settings import AsciiLineOptions, AsciiSensor, TextProperty
from sensor_hub.drivers.rapi import Rapi, RapiLine, RapiSensor
from sensor_hub.drivers.rapi_values import FAULTS
from tests.unit.test_docs import code_in, fences, problems_of, rows
from tests.wire.scripted_peers import line, sensor

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("rapi.md", "ascii-line.md")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "models"),
    [("rapi.md", (RapiLine, RapiSensor)), ("ascii-line.md", (AsciiLineOptions, AsciiSensor, TextProperty))],
)
def test_a_page_has_every_option_and_no_other(name: str, models: tuple[type[BaseModel], ...]) -> None:
    keys = {field.alias or key for model in models for key, field in model.model_fields.items()}
    tables = page(name).partition("## Options")[2].partition("\n## ")[0]
    assert {word for cells in rows(tables) for word in code_in(cells[0])} == keys


def test_the_page_of_the_chargers_has_every_property_with_its_unit_and_whether_it_is_writable() -> None:
    specs = Rapi(line("/dev/x", "rapi"), [sensor("ev")]).properties("ev")
    table = page("rapi.md").partition("## Properties")[2].partition("\n## ")[0]
    documented = {
        name: ("writable" in cells[0], cells[1], cells[3])
        for cells in rows(table)
        for name in code_in(cells[0])
    }
    assert set(documented) == set(specs)
    for name, spec in specs.items():
        writable, unit, pace = documented[name]
        assert writable is spec.writable, name
        assert spec.unit is None or re.search(rf"\b{spec.unit}\b|^{spec.unit}", unit), name
        assert pace.startswith(
            ("read_interval", "`read", "once")
            if spec.interval_s in (None, 3600)
            else f"{spec.interval_s:g} s"
        )


def test_the_page_of_the_chargers_has_every_state_and_fault() -> None:
    text = page("rapi.md")
    specs = Rapi(line("/dev/x", "rapi"), [sensor("ev")]).properties("ev")
    for name in ("state", "fault"):
        words = next(code_in(cells[1]) for cells in rows(text) if code_in(cells[0])[:1] == [name])
        assert sorted(words) == sorted(specs[name].choices or ())
    assert set(FAULTS.values()) < set(specs["fault"].choices or ())


@pytest.mark.parametrize("name", PAGES)
def test_the_example_of_a_page_is_a_valid_instance(name: str, tmp_path: Path) -> None:
    (example,) = fences("json", page(name))
    assert problems_of(example, tmp_path) == ()
