"""What drives each line, in a thread or a process (see `crew`), and what its handler sees of it.

`Line` is one transport as a handler uses it; an `Engine` per line does the work. The two sides talk in `messages` only.
"""

from __future__ import annotations

from sensor_hub.crew.hosts import LogSetup
from sensor_hub.workers.line import Line
from sensor_hub.workers.messages import LineSetup
from sensor_hub.workers.staff import hire, parallelism_of

__all__ = ["Line", "LineSetup", "LogSetup", "hire", "parallelism_of"]
