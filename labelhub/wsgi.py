"""The WSGI entry point."""

from __future__ import annotations

import os
import signal
import sys

from django.core.wsgi import get_wsgi_application

from training import processes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelhub.settings")

application = get_wsgi_application()

if master := os.environ.get("LABELHUB_WEB_MASTER"):
    # Under `manage.py start` this is a worker. One that outlived its master, killed
    # with -9, would keep the port.
    processes.die_with_parent(signal.SIGKILL)
    if os.getppid() != int(master):
        sys.exit(1)
