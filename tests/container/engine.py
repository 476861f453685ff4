"""A container engine behind the command `docker`: Docker itself where it runs, podman with runc else.

With podman everything happens in a store of its own below the user's cache folder: nobody else's containers, images
and networks are touched, and the base image stays there from run to run.
"""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sensor-hub-container"
PROCESSES = 4096  # far more than a few hubs need (the limit counts all processes of the image's user id)
_SHIM = """#!/bin/sh
# `docker`, as podman with runc: what it cannot do by itself on a machine without systemd is added here.
command=$1
shift
case "$command" in
build) exec {podman} build --isolation chroot --format docker {layers} $SENSOR_HUB_BUILD "$@" ;;
run) exec {podman} run {limits} "$@" ;;
*) exec {podman} "$command" "$@" ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """How to run `docker …` in a shell."""

    name: str  # docker | podman
    environ: Mapping[str, str]

    @property
    def private(self) -> bool:
        """Whether names, images and (with a network namespace of our own) ports are ours alone."""
        return self.name == "podman"

    def shell(
        self, line: str, *, within_s: float = 180, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as a user types it, in the checkout; output and errors apart, as text."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=ROOT,
            env={**self.environ, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"exit code {done.returncode} of: {line}\n{done.stdout}\n{done.stderr}")
        return done

    def docker(
        self, *words: str, within_s: float = 180, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker` with these arguments."""
        return self.shell(shlex.join(["docker", *words]), within_s=within_s, check=check)


def find() -> Engine | str:
    """The engine of this machine, or why there is none."""
    if shutil.which("docker") and _succeeds("docker", "info"):
        return Engine("docker", dict(os.environ))
    missing = [name for name in ("podman", "runc") if _which(name) is None]
    if missing:
        return f"neither a Docker engine nor podman with runc works here: {', '.join(missing)} not found"
    if os.geteuid() != 0:
        return "neither a Docker engine nor podman as root works here: not root"
    driver = "overlay" if _succeeds(*_podman("overlay"), "info") else "vfs"
    podman = _podman(driver)
    if not _succeeds(*podman, "info"):
        return "neither a Docker engine nor podman works here: podman info fails"
    shim = CACHE / "bin" / "docker"
    shim.parent.mkdir(parents=True, exist_ok=True)
    draft = shim.with_suffix(f".{os.getpid()}")
    layers = f"--layers={str(driver == 'overlay').lower()}"  # with vfs each is a full copy: no cache of them
    text = _SHIM.format(podman=shlex.join(podman), limits=shlex.join(_limits()), layers=layers)
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o755)
    draft.replace(shim)
    path = f"{shim.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin:/sbin"
    return Engine("podman", {**os.environ, "PATH": path})


def _podman(driver: str) -> list[str]:
    store = [
        "--storage-driver",
        driver,
        "--root",
        str(CACHE / driver),
        "--runroot",
        f"/run/sensor-hub-{driver}",
    ]
    return ["podman", "--log-level", "fatal", "--runtime", str(_which("runc")), *store]


def _limits() -> list[str]:
    """podman asks for more open files and processes than it may give to a container here."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    wanted = [("nofile", files, files), ("nproc", processes, min(processes, PROCESSES))]
    return [f"--ulimit={name}={most}:{most}" for name, hard, most in wanted if hard != resource.RLIM_INFINITY]


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
