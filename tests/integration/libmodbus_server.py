"""Modbus servers of libmodbus: `python -m tests.integration.libmodbus_server UNIT ADDRESS...`.

An address is `rtu:/path/of/a/port` or `tcp:PORT`. It says `serving` when it is; a port that goes away is opened again
when it is back. Debian's mbpoll brings the library, and ctypes calls it: no compiler is needed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import threading
from collections.abc import Callable

HOST = "127.0.0.1"
BAUDRATE = 19200
COUNT = 100  # of coils, discrete inputs, holding registers and input registers
INPUT_REGISTERS = {1: 225, 2: 1013}
HOLDING_REGISTERS = {10: 450}
DISCRETE_INPUTS = {5: 1}
_ADU_BYTES = 260
_RECOVER_PROTOCOL = 1 << 2  # drop what is no request, and wait for silence
_LAST_ERRNO_OF_THE_SYSTEM = 1000  # above are libmodbus' own, about what was received
_AGAIN_S = 0.05


class Mapping(ctypes.Structure):
    """modbus_mapping_t."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("nb_bits", "start_bits", "nb_input_bits", "start_input_bits")),
        *((f"{part}_{table}", ctypes.c_int) for table in ("input", "holding") for part in ("nb", "start")),
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    )


def library() -> ctypes.CDLL:
    name = ctypes.util.find_library("modbus")
    if name is None:
        raise SystemExit("libmodbus is missing")
    found = ctypes.CDLL(name, use_errno=True)
    for made in ("modbus_new_rtu", "modbus_new_tcp"):
        getattr(found, made).restype = ctypes.c_void_p
    found.modbus_mapping_new.restype = ctypes.POINTER(Mapping)
    found.modbus_strerror.restype = ctypes.c_char_p
    return found


class Server:
    """One unit at one address, served in a thread of its own."""

    def __init__(self, modbus: ctypes.CDLL, unit_id: int, address: str) -> None:
        self._modbus = modbus
        self._mapping = modbus.modbus_mapping_new(COUNT, COUNT, COUNT, COUNT)
        for place, value in INPUT_REGISTERS.items():
            self._mapping.contents.tab_input_registers[place] = value
        for place, value in HOLDING_REGISTERS.items():
            self._mapping.contents.tab_registers[place] = value
        for place, value in DISCRETE_INPUTS.items():
            self._mapping.contents.tab_input_bits[place] = value
        kind, where = address.split(":", 1)
        if kind == "rtu":
            made = modbus.modbus_new_rtu(where.encode(), BAUDRATE, ctypes.c_char(b"N"), 8, 1)
            serve: Callable[[], None] = self._serve_port
        else:
            made = modbus.modbus_new_tcp(HOST.encode(), int(where))
            serve = self._serve_listener
        self._context = ctypes.c_void_p(made)
        modbus.modbus_set_slave(self._context, unit_id)
        modbus.modbus_set_error_recovery(self._context, _RECOVER_PROTOCOL)
        self.ready = threading.Event()
        threading.Thread(target=serve, daemon=True).start()

    def _serve_port(self) -> None:
        while True:
            if self._modbus.modbus_connect(self._context) == 0:
                self.ready.set()
                self._answer_all()
            threading.Event().wait(_AGAIN_S)

    def _serve_listener(self) -> None:
        listener = ctypes.c_int(self._modbus.modbus_tcp_listen(self._context, 5))
        self.ready.set()
        while self._modbus.modbus_tcp_accept(self._context, ctypes.byref(listener)) >= 0:
            self._answer_all()

    def _answer_all(self) -> None:
        """Until the port, or who called, is gone."""
        request = (ctypes.c_uint8 * _ADU_BYTES)()
        while True:
            length = self._modbus.modbus_receive(self._context, request)
            if length > 0:
                self._modbus.modbus_reply(self._context, request, length, self._mapping)
            elif length < 0 and ctypes.get_errno() < _LAST_ERRNO_OF_THE_SYSTEM:
                self._modbus.modbus_close(self._context)
                return


def main() -> None:
    modbus = library()
    servers = [Server(modbus, int(sys.argv[1]), address) for address in sys.argv[2:]]
    for server in servers:
        server.ready.wait()
    print("serving", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
