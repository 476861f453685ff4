"""What stands in a file's place is read when it is a file, and named when it is none. Never waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sensor_hub import config, regular_file
from sensor_hub.regular_file import read_regular


def plant(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        with path.open("wb") as file:
            file.truncate(regular_file.MAX_BYTES + 1)


KINDS = {
    "folder": "folder|directory",
    "pipe": "is no regular file",
    "endless device": "is no regular file",
    "socket": "No such device or address",
    "huge file": "is larger than 16 MiB",
}
PLACES = ("instances/x.json", ".env", "secrets/x_mqtt", "secrets/x_creds")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_no_file_is_a_problem_with_its_path(tmp_path: Path, kind: str, place: str) -> None:
    for folder in ("instances", "secrets"):
        (tmp_path / folder).mkdir()
    (tmp_path / "instances" / "x.json").write_text('{"instance_id": "x", "config": {"sensors": []}}')
    path = tmp_path / place
    plant(kind, path)
    report = config.read({"INSTANCE_NAME": "x"}, root=tmp_path, secrets_dir=tmp_path / "secrets")
    messages = [problem.message for problem in report.problems if problem.path == str(path)]
    assert len(messages) == 1, report.problems
    assert any(word in messages[0] for word in KINDS[kind].split("|"))
    assert report.config is None


def test_a_link_to_a_file_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"content"


def test_a_file_of_just_16_mib_is_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(regular_file.MAX_BYTES)
    assert len(read_regular(tmp_path / "file")) == regular_file.MAX_BYTES
