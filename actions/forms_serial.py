"""From the forms of a charger, and of a device that speaks in lines of text, to lists of an instance."""

from __future__ import annotations

from answering import Json
from checks import Problems, blank
from forms import LIMIT_KEYS, LINE_ID, SERIAL_KEYS, Draft, Form, form_of, kept, more, properties_of

_LINE_KEYS = ("url", *SERIAL_KEYS, "timeout_s", "read_interval")
_SENSOR_KEYS = ("sensor_id", "friendly_name", "stale_after")
_NUMBER_KEYS = ("scale", "offset", "decimal", *LIMIT_KEYS)
_PROPERTY_KEYS = (
    *("regex", "json", "type", "optional", *_NUMBER_KEYS, "unit"),
    *("on", "off", "command", "answer"),
)
_PLACES = {"regex": "regex", "json": "path"}  # where a value stands -> the field that says it


def charger(given: Form, _: Problems) -> Draft:
    """One charger on its line."""
    form, draft = form_of(given, "sensor"), Draft()
    sensor = kept(form, *_SENSOR_KEYS, "stop")
    draft.add({**sensor, "sensor_type": "generic", "transport": LINE_ID}, "the sensor")
    line = kept(form_of(given, "line"), *_LINE_KEYS, "profile")
    draft.transports.append(
        {"transport_id": LINE_ID, "driver": "rapi", **line, "write": form.get("write") is True}
    )
    return draft


def text(given: Form, problems: Problems) -> Draft:
    """A device by form and more by lines, all on one line."""
    form, draft = form_of(given, "sensor"), Draft()
    sensor: Form = {**kept(form, *_SENSOR_KEYS, "match"), "transport": LINE_ID}
    if form.get("speaks") == "asked":
        sensor["request"] = _needed(form, "request", "the sensor.request", problems)
    first = _property(form, "", problems)
    if form.get("two") is True:
        names = [str(_needed(form, key, f"the sensor.{key}", problems)).strip() for key in ("name", "name_2")]
        if str(form.get("find")) not in _PLACES:
            problems.add("the sensor.find", "two values of a line need an expression or a path each")
        if names[0] == names[1]:
            problems.add("the sensor.name_2", "must differ from the first value's name")
        properties = dict(zip(names, (first, _property(form, "_2", problems)), strict=True))
        draft.add({**sensor, "sensor_type": "generic", "properties": properties}, "the sensor")
    else:
        draft.add({**sensor, **kept(form, "sensor_type"), "value": first}, "the sensor")
    more(form, draft, problems, {"transport": LINE_ID}, dict.fromkeys(_PROPERTY_KEYS, "value"))
    line = kept(form_of(given, "line"), *_LINE_KEYS, "terminator", "send_terminator", "encoding")
    if line.get("send_terminator") == "same":
        del line["send_terminator"]
    writes = any("command" in item for item in properties_of(draft, "value"))
    draft.transports.append({"transport_id": LINE_ID, "driver": "ascii_line", **line, "write": writes})
    return draft


def _property(form: Form, suffix: str, problems: Problems) -> Form:
    """What the form says of one value; the second one's fields end in `_2`."""
    place = _PLACES.get(str(form.get("find")))
    unit = kept(form, f"unit{suffix}")
    item: Form = {"unit": unit[f"unit{suffix}"]} if unit else {}
    if place is not None:
        key = f"{place}{suffix}"
        item[str(form["find"])] = _needed(form, key, f"the sensor.{key}", problems)
    if suffix:
        return item
    item |= kept(form, "type")
    if item.get("type", "number") == "number":
        item |= kept(form, "scale", "offset", "decimal")
    if form.get("write") is True:
        item |= kept(form, "answer")
        item["command"] = _needed(form, "command", "the sensor.command", problems)
        item |= kept(form, *LIMIT_KEYS) if item.get("type", "number") == "number" else {}
    return item


def _needed(form: Form, key: str, place: str, problems: Problems) -> Json:
    if blank(form.get(key)):
        problems.add(place, "required")
        return None
    return form[key]
