"""Give the browser tests a browser: Debian's chromium, by apt if root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main() -> int:
    if shutil.which("chromium"):
        return 0
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(
            "The browser tests need the command `chromium`: install your system's "
            "package of that name, or run this as root on Debian.",
            file=sys.stderr,
        )
        return 1
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
