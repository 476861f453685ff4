"""How long bytes take on a line of a given speed. Pure: times are numbers of one clock."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_S = 0.004  # bytes arrive in groups of so long at most, as from a UART with a FIFO


@dataclass(frozen=True, slots=True)
class Speed:
    """A line's speed."""

    baudrate: int
    parity: str = "N"
    stopbits: float = 1

    @property
    def char_s(self) -> float:
        """One character: start bit, eight data bits, parity, stop bits."""
        return (9 + (self.parity != "N") + self.stopbits) / self.baudrate

    @property
    def silence_s(self) -> float:
        """The silence that ends a Modbus frame: 3.5 characters, or 1.75 ms above 19200 baud."""
        return 3.5 * self.char_s if self.baudrate <= 19200 else 0.00175


class Direction:
    """One direction of a line: bytes follow each other."""

    def __init__(self, char_s: float) -> None:
        """`char_s` 0: at any speed."""
        self.char_s = char_s
        self._free_at = 0.0

    def take(self, at: float, count: int) -> float:
        """Send `count` bytes not before `at`; the time when the first begins."""
        begins_at = max(at, self._free_at)
        self._free_at = begins_at + count * self.char_s
        return begins_at

    def chunk(self, count: int) -> int:
        """How many of `count` bytes arrive at a time."""
        return min(count, max(1, int(CHUNK_S / self.char_s))) if self.char_s else count
