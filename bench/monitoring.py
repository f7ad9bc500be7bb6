"""The bars of monitoring, one part each:

    python bench/monitoring.py PART [its options]

A part is a file in bench/watching, which says what it measures and how long it takes.
"""

import runpy
import sys
from pathlib import Path

PARTS = Path(__file__).parent / "watching"


def main() -> None:
    names = sorted(path.stem for path in PARTS.glob("*.py"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python bench/monitoring.py {{{','.join(names)}}} ...")
    part = PARTS / f"{sys.argv[1]}.py"
    sys.argv = [str(part), *sys.argv[2:]]
    runpy.run_path(str(part), run_name="__main__")


if __name__ == "__main__":
    main()
