"""How long things take on a serial Modbus line. Pure arithmetic.

request | silence, device thinks | answer | silence or delay | next request
"""

from __future__ import annotations

from dataclasses import dataclass

from sensor_hub.drivers.modbus_plan import Span

# The standard: 3.5 characters of silence between frames; a fixed 1.75 ms above 19200 baud.
_GAP_CHARS = 3.5
_GAP_MIN_S = 0.00175
# What a device is assumed to think for. Most need 2 to 20 ms; a low guess refuses no line that would work.
ANSWER_LATENCY_S = 0.005
_REQUEST_BYTES = 8
_ANSWER_BYTES = 5  # around what was read


@dataclass(frozen=True, slots=True)
class SerialTiming:
    """Time of one character, and the silence between frames, in seconds."""

    char_s: float
    gap_s: float

    @classmethod
    def of(cls, char_s: float) -> SerialTiming:
        """Of a line whose characters take so long."""
        return cls(char_s, max(_GAP_CHARS * char_s, _GAP_MIN_S))

    def wire_s(self, count: int) -> float:
        """How long so many bytes are on the line."""
        return count * self.char_s

    def pause_s(self, delay_s: float) -> float:
        """Silence before a request, where at least `delay_s` is wanted."""
        return max(self.gap_s, delay_s)

    def read_s(self, span: Span, delay_s: float) -> float:
        """What it takes of the line's time to read it, with the pause after it."""
        content = -(-span.count // 8) if span.is_bits else 2 * span.count
        frames_s = self.wire_s(_REQUEST_BYTES + _ANSWER_BYTES + content)
        return frames_s + max(self.gap_s, ANSWER_LATENCY_S) + self.pause_s(delay_s)
