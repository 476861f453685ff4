"""The serial ports of this machine, with what USB says of them (Linux: /sys and /dev/serial/by-id)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_CLIMB_MAX = 8  # folders from a port up to its USB device
_NO_UART = "0"  # the kernel's word for a ttyS without hardware


def listed(root: Path = Path("/")) -> list[dict[str, Any]]:
    """Every port below `root`, those with a stable name first, each with a label for people."""
    by_id = _by_id(root)
    ports = [
        _port(root, entry.name, entry, by_id)
        for entry in sorted(_children(root / "sys/class/tty"))
        if _is_hardware(entry) and (root / "dev" / entry.name).exists()
    ]
    return sorted(ports, key=lambda port: (not port["usable"], "by-id" not in port["url"], port["device"]))


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_hardware(entry: Path) -> bool:
    return (entry / "device").exists() and _text(entry / "type") != _NO_UART


def _by_id(root: Path) -> dict[str, str]:
    """Port name -> its link that stays the same whichever socket it is plugged into."""
    found = {}
    for link in _children(root / "dev/serial/by-id"):
        try:
            found[Path(os.readlink(link)).name] = str(Path("/") / link.relative_to(root))
        except OSError:
            continue
    return found


def _port(root: Path, name: str, entry: Path, by_id: dict[str, str]) -> dict[str, Any]:
    usb = _usb(entry / "device")
    device = f"/dev/{name}"
    usable = os.access(root / "dev" / name, os.R_OK | os.W_OK)
    called = " ".join(filter(None, [usb.get("manufacturer", ""), usb.get("product", "")]))
    serial = f", serial number {usb['serial']}" if usb.get("serial") else ""
    label = f"{device}: {called or 'serial port'}{serial}{'' if usable else ' (no permission)'}"
    return {
        "url": by_id.get(name, device),
        "device": device,
        "label": label,
        "usable": usable,
        "manufacturer": usb.get("manufacturer", ""),
        "product": usb.get("product", ""),
        "serial_number": usb.get("serial", ""),
        "usb_id": ":".join(filter(None, [usb.get("idVendor", ""), usb.get("idProduct", "")])),
        "hardware_id": _hardware_id(usb),
    }


def _hardware_id(usb: dict[str, str]) -> str:
    """What hwgrep:// looks at, beside name and product."""
    if not usb:
        return "n/a"
    serial = f" SER={usb['serial']}" if usb["serial"] else ""
    return (
        f"USB VID:PID={usb['idVendor']}:{usb['idProduct']}".upper() + f"{serial} LOCATION={usb['location']}"
    )


def _usb(device: Path) -> dict[str, str]:
    """What the USB device above a port says of itself; empty when there is none."""
    try:
        folder = device.resolve()
    except (OSError, RuntimeError):
        return {}
    for _ in range(_CLIMB_MAX):
        if (folder / "idVendor").exists():
            keys = ("idVendor", "idProduct", "manufacturer", "product", "serial")
            return {key: _text(folder / key) for key in keys} | {"location": folder.name}
        folder = folder.parent
    return {}


def _text(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""
    return "".join(char for char in content if char.isprintable()).strip()
