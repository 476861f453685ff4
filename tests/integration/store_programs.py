"""Programs that use a store where a test wants them to: `python -m tests.integration.store_programs <which> <path>`."""

from __future__ import annotations

import random
import resource
import sys
from itertools import count
from pathlib import Path

from sensor_hub import store
from sensor_hub.clock import system_clock
from sensor_hub.store import Store
from sensor_hub.store_file import Item
from tests.support import eventually

KIB = 1024


def item(number: int, size: int = 10) -> Item:
    return Item("a", "2026-03-01T12:00:00.000+00:00", "reading", f"{number:>{size}}".encode())


def numbers(queue: store.Queue) -> list[int]:
    return [int(each.item.payload) for each in queue.peek(1_000_000)]


def put_until_full(its: Store, queue: store.Queue, number: int) -> int:
    """The next number."""
    while True:
        queue.put([item(number + more, KIB) for more in range(50)])
        number += 50
        queue.flush(0.3)
        if its.problem:
            return number


def write_and_acknowledge(path: Path, first: int) -> None:
    """Until killed: tell what is put, what will be acknowledged, and what is on the disk of both."""
    its = Store(path, system_clock(), 0.001)
    its.start()
    queue = its.queue("q")
    print("began", *(each.item.payload.decode().strip() for each in queue.peek(1_000_000)), flush=True)
    for batch in count():
        new = range(first + batch * 20, first + batch * 20 + 20)
        queue.put([item(number) for number in new], mark=str(new[-1]))
        assert queue.flush(60)
        print("put", *new, flush=True)
        old = random.sample(queue.peek(100), 15)
        words = [each.item.payload.decode().strip() for each in old]
        print("acknowledging", *words, flush=True)
        queue.ack([each.id for each in old])
        assert queue.flush(60)
        print("acknowledged", *words, flush=True)


def fill_the_disk(path: Path) -> None:
    """The disk is smaller than what is put; then there is room again."""
    store.RETRY_S = 0.05
    its = Store(path, system_clock(), 0.01)
    its.start()
    queue = its.queue("q")
    ballast = path.parent / "ballast"
    ballast.write_bytes(bytes(KIB * KIB))
    put = put_until_full(its, queue, 0)
    queue.put([item(put + more, KIB) for more in range(50)])
    put += 50
    figures = queue.figures()
    assert (figures.depth, figures.dropped, figures.on_disk) == (put, 0, False), figures
    assert numbers(queue) == list(range(put))

    queue.ack([each.id for each in queue.peek(100)])
    ballast.unlink()
    eventually(lambda: not its.problem, 30)  # somebody made room
    assert numbers(queue) == list(range(100, put))

    put = put_until_full(its, queue, put)
    queue.ack([each.id for each in queue.peek(1_000_000)])
    eventually(lambda: not its.problem, 30)  # the receiver made room
    queue.put([item(put)])
    assert queue.flush(30)
    its.close(30)

    again = Store(path, system_clock(), 0.01)
    again.start()
    assert not again.problem
    assert numbers(again.queue("q")) == [put]
    again.close(30)


def limit_files(path: Path) -> None:
    """No file may be larger than half a MiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * KIB, resource.RLIM_INFINITY))
    store.RETRY_S = 0.05
    its = Store(path, system_clock(), 0.01)
    its.start()
    queue = its.queue("q")
    put = put_until_full(its, queue, 0)
    assert numbers(queue) == list(range(put))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    eventually(lambda: not its.problem, 30)
    assert numbers(queue) == list(range(put))
    assert queue.figures().depth == put
    its.close(30)


def find_it_read_only(path: Path) -> None:
    """The folder is there and cannot be written."""
    its = Store(path, system_clock(), 0.01)
    its.start()
    assert its.problem
    queue = its.queue("q")
    queue.put([item(1)])
    eventually(lambda: numbers(queue) == [1])
    its.close(30)


if __name__ == "__main__":
    which, where, *rest = sys.argv[1:]
    if which == "write_and_acknowledge":
        write_and_acknowledge(Path(where), int(rest[0]))
    else:
        {each.__name__: each for each in (fill_the_disk, limit_files, find_it_read_only)}[which](Path(where))
