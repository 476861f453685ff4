"""What outputs say of where a reading comes from."""

from __future__ import annotations

from pathlib import Path

from sensor_hub import config
from sensor_hub.sources import sources

HUB = """{"instance_id": "hub", "config": {
  "transports": [{"transport_id": "bus0", "driver": "modbus_rtu", "url": "/dev/ttyUSB0", "device_name": "Boiler bus",
                  "manufacturer": "Acme", "model": "X1", "serial_number": "AB12"}],
  "sensors": [{"sensor_id": "cellar", "sensor_type": "temperature", "transport": "bus0",
               "register": {"table": "input", "address": 1}},
              {"sensor_id": "yard", "sensor_type": "motion", "url": "http://192.0.2.20/api/pir"},
              {"sensor_id": "attic", "sensor_type": "temperature"}]}}"""


def test_every_device_has_its_transport_and_what_people_call_that(tmp_path: Path) -> None:
    file = tmp_path / "hub.json"
    file.write_text(HUB)
    hub = config.load({}, root=tmp_path, file=file, secrets_dir=tmp_path)
    found = sources(hub)
    assert list(found) == ["cellar", "yard", "attic"]
    assert found["cellar"] == {
        "source_transport": "bus0",
        "source_transport_info": {
            "name": "Boiler bus",
            "device_identifier": "ab12",
            "manufacturer": "Acme",
            "model": "X1",
            "serial_number": "AB12",
        },
    }
    yard = found["yard"]
    assert yard["source_transport"] == hub.sensors[1].transport_id
    assert yard["source_transport_info"] == {
        "name": hub.sensors[1].transport_id,
        "device_identifier": hub.sensors[1].transport_id.lower(),
        "manufacturer": "",
        "model": "",
        "serial_number": "",
    }
    assert found["attic"]["source_transport"] in {each.transport_id for each in hub.transports}
