"""Who has a terminal open is looked up for all who ask together, not once for each."""

from __future__ import annotations

from collections.abc import Collection

from emulator.openers import FRESH_S, SHARE, Openers


class Machine:
    """Processes to look through, and the time that takes."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.now, self.takes_s, self.looks = 0.0, takes_s, 0

    def look(self, terminals: Collection[str]) -> dict[str, tuple[str, ...]]:
        self.now += self.takes_s
        self.looks += 1
        return dict.fromkeys(terminals, (f"look {self.looks}",))


def test_many_pages_are_one_look_a_second() -> None:
    machine = Machine()
    openers = Openers(machine.look, lambda: machine.now)
    assert [openers.of(["/dev/pts/1"])["/dev/pts/1"] for _ in range(50)] == [("look 1",)] * 50
    machine.now += FRESH_S
    assert openers.of(["/dev/pts/1"]) == {"/dev/pts/1": ("look 2",)}


def test_a_slow_look_is_taken_a_small_share_of_the_time() -> None:
    machine = Machine(takes_s=2.0)
    openers = Openers(machine.look, lambda: machine.now)
    for _ in range(1000):
        openers.of(["/dev/pts/1"])
        machine.now += 1.0
    assert machine.looks * machine.takes_s <= machine.now * SHARE + machine.takes_s


def test_a_new_terminal_is_looked_for_at_once() -> None:
    machine = Machine()
    openers = Openers(machine.look, lambda: machine.now)
    openers.of(["/dev/pts/1"])
    assert openers.of(["/dev/pts/1", "/dev/pts/2"])["/dev/pts/2"] == ("look 2",)
    assert openers.of(["/dev/pts/2"])["/dev/pts/2"] == ("look 2",)
