"""A real InfluxDB 1.x as a context manager, on loopback ports that were free a moment ago."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import eventually
from tests.support import free_ports as free_ports

HOST = "127.0.0.1"
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
INFLUXD = shutil.which("influxd", path=_PATH)
needs_influxd = pytest.mark.skipif(
    INFLUXD is None, reason="influxd is missing (Debian: apt install influxdb)"
)


class Influx:
    """Started when entered; may be stopped and started again on its port, with its data."""

    def __init__(self, folder: Path, *, auth: bool = False, limits: str = "") -> None:
        """`limits`: further lines of the configuration's [data]."""
        self._folder, self._auth = folder, auth
        self.port, self._rpc_port = free_ports(2)
        self.url = f"http://{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._login = {"u": "root", "p": "secret"} if auth else {}
        folder.mkdir(parents=True, exist_ok=True)
        self.configure(limits)

    def configure(self, limits: str) -> None:
        """For the next start."""
        folder = self._folder
        (folder / "influxdb.conf").write_text(
            f"""reporting-disabled = true
bind-address = "{HOST}:{self._rpc_port}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
{limits}
[monitor]
store-enabled = false
[http]
bind-address = "{HOST}:{self.port}"
auth-enabled = {str(self._auth).lower()}
log-enabled = false
[logging]
level = "error"
"""
        )

    def __enter__(self) -> Influx:
        self.start()
        if self._login:
            self.query("CREATE USER root WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        assert INFLUXD is not None
        self._process = subprocess.Popen(
            [INFLUXD, "-config", str(self._folder / "influxdb.conf")],
            env={"PATH": _PATH, "HOME": str(self._folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(self._answers, 60)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "influxd has ended"
        try:
            return requests.get(f"{self.url}/ping", timeout=5).status_code == 204
        except requests.RequestException:
            return False

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)

    def query(self, text: str, database: str = "") -> list[dict[str, Any]]:
        """Every row of every series, its tags (of GROUP BY *) among its columns; times are nanoseconds."""
        response = requests.post(
            f"{self.url}/query",
            params={"db": database, "epoch": "ns", **self._login},
            data={"q": text},
            timeout=60,
        )
        body = response.json()
        assert response.ok, body
        assert "error" not in str(body), body
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], row, strict=True))}
            for result in body["results"]
            for series in result.get("series", [])
            for row in series["values"]
        ]

    def database(self, name: str) -> str:
        self.query(f'CREATE DATABASE "{name}"')
        return name
