"""Building the image under test, and before that (with podman) a base image from the machine's own mirror."""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.container.engine import CACHE, ROOT, Engine

IMAGE = "sensor-hub"
BUILD = f"docker build -t {IMAGE} ."  # as docs/container.md says
BASE = "python:3.11-slim-bookworm"  # the Dockerfile's default
OWN_BASE = "localhost/sensor-hub-base:3"  # the number changes with its recipe
BUILD_WITHIN_S = 500
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEFT_OUT = (
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/locale/*",
)


def build(engine: Engine) -> str:
    """The id of the image of this checkout, built where the store has none of just these files."""
    with _alone():
        label = f"sensor-hub-sources={_digest()}"
        found = engine.docker("images", "-q", "--no-trunc", "--filter", f"label={label}").stdout.split()
        if found:
            engine.docker("tag", found[0], IMAGE)
            return found[0]
        with tempfile.TemporaryDirectory() as folder:
            options = ["--label", label, *(_for_podman(engine, Path(folder)) if engine.private else [])]
            extra = shlex.join(options)
            line = BUILD if engine.private else BUILD.replace("build", f"build {extra}")
            engine.shell(line, within_s=BUILD_WITHIN_S, SENSOR_HUB_BUILD=extra)
        new = engine.docker("images", "-q", "--no-trunc", IMAGE).stdout.split()[0]
        _remove_older(engine, new)
        return new


def _remove_older(engine: Engine, new: str) -> None:
    """The images of earlier runs; what their stages left makes the next build quick, and goes when it is much."""
    every = engine.docker("images", "-q", "--no-trunc", "--filter", "label=sensor-hub-sources").stdout.split()
    older = [image for image in dict.fromkeys(every) if image != new]
    for image in older:
        engine.docker("rmi", image, check=False, within_s=120)  # refused where a container still runs from it
    if engine.private and len(engine.docker("images", "-q", "--filter", "dangling=true").stdout.split()) > 20:
        engine.docker("image", "prune", "-f", check=False, within_s=120)


@contextmanager
def _alone() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def context_files() -> list[Path]:
    """What .dockerignore lets into the image (it names what goes in, and leaves everything else out)."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    wanted = [ROOT / line[1:].rstrip("/") for line in lines if line.startswith("!")]
    files = [path for top in wanted for path in (top.rglob("*") if top.is_dir() else [top])]
    return sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in [ROOT / "Dockerfile", ROOT / ".dockerignore", *context_files()]:
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode & 0o777:o}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]


def _for_podman(engine: Engine, folder: Path) -> list[str]:
    """Options of `podman build`: the base image, and read-only how this machine reaches its mirrors."""
    base = _base(engine)
    mounts = [*_pip(folder), *_apt(folder)]
    if _CERTIFICATES.is_file():
        mounts.append((_CERTIFICATES, _CERTIFICATES))
    volumes = [f"--volume={source}:{target}:ro" for source, target in mounts]
    return ["--build-arg", f"BASE_IMAGE={base}", *volumes]


def _base(engine: Engine) -> str:
    for name in (BASE, OWN_BASE):
        if engine.docker("image", "exists", name, check=False).returncode == 0:
            return name
    if shutil.which("debootstrap") is None:
        return BASE  # the build fetches it
    site, suite, components = _mirror()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        packages = "ca-certificates,python3,python3-venv"
        choice = ["--variant=minbase", f"--include={packages}", f"--components={','.join(components)}"]
        made = subprocess.run(
            ["debootstrap", *choice, suite, folder, site],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
        Path(folder).chmod(0o755)  # it becomes the image's /
        (Path(folder) / "usr/bin/python").symlink_to("python3")
        left_out = " ".join(f"--exclude=./{pattern}" for pattern in _LEFT_OUT)
        change = f"--change 'ENV PATH={_PATH}'"
        engine.shell(f"tar -C {folder} {left_out} -c . | docker import {change} - {OWN_BASE}", within_s=120)
    return OWN_BASE


def _mirror() -> tuple[str, str, list[str]]:
    """Address, suite and components of the first apt source (updates and security are others)."""
    form = "$(SITE) $(RELEASE) $(COMPONENT)"
    asked = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if len(line.split()) == 3]
    site, suite, _ = rows[0]
    found = list(dict.fromkeys(row[2] for row in rows if row[:2] == [site, suite]))
    return site, suite, [name for name in found if name in ("main", "universe")] or found


def _apt(folder: Path) -> list[tuple[Path, Path]]:
    """apt's own words on proxies, dates and the like."""
    done = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False)
    kept = [line for line in done.stdout.splitlines() if "IndexTargets" not in line]
    (folder / "apt.conf").write_text("\n".join([*kept, ""]), encoding="utf-8")
    return [(folder / "apt.conf", Path("/etc/apt/apt.conf.d/99machine"))]


def _pip(folder: Path) -> list[tuple[Path, Path]]:
    """pip's settings as one file, whether they come from files or the environment, and the folders they name."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings: dict[str, str] = {}
    for line in sorted(listed.stdout.splitlines(), reverse=True):  # `global.` before `:env:.`, which wins
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"")
    parser = configparser.RawConfigParser()
    parser["global"] = settings
    with (folder / "pip.conf").open("w", encoding="utf-8") as file:
        parser.write(file)
    mounts = [(folder / "pip.conf", Path("/etc/pip.conf"))]
    for word in " ".join(settings.values()).split():
        path = Path(urlsplit(word).path).parent if word.startswith("file:") else Path(word)
        if path.is_absolute() and path.exists() and path not in (Path("/"), _CERTIFICATES):
            mounts.append((path, path))
    return list(dict.fromkeys(mounts))
