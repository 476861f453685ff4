"""`make bench`: road and lines. `python -m bench road` or `lines`: one of them; `lines paced crowd`: parts of that.

`python -m bench outage` is by itself: it needs influxd.
"""

from __future__ import annotations

import sys

from bench import lines, outage, road


def main() -> None:
    """What the command line names."""
    wanted, *parts = sys.argv[1:] or ["all"]
    if wanted not in ("all", "road", "lines", "outage"):
        sys.exit("usage: python -m bench [road | lines [PART ...] | outage]")
    if wanted == "outage":
        outage.main()
    if wanted in ("all", "road"):
        road.main()
    if wanted in ("all", "lines"):
        lines.main(parts)


if __name__ == "__main__":
    main()
