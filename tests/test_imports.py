"""What the web side costs to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ML = {"torch", "transformers", "trl", "datasets", "peft", "accelerate"}
NUMBERS = {"pyarrow", "numpy", "pandas", "scipy", "sklearn", "IPython"}

IMPORT_THE_WEB = """
import json, sys
import labelhub.wsgi, labelhub.urls
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
IMPORT_EVERYTHING = """
import json, pkgutil, sys, importlib
import django
django.setup()
import labelhub, training, labelhub.urls, labelhub.wsgi
web = ["training.core.config", "training.core.errors", "training.core.run_directory"]
for package in (labelhub, training):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith("training.core."):
            web.append(module.name)
for name in web:
    importlib.import_module(name)
print(json.dumps([len(web), sorted(name for name in sys.modules if "." not in name)]))
"""


def test_no_module_of_the_web_side_imports_an_ml_library():
    n_modules, imported = run(IMPORT_EVERYTHING)
    assert n_modules > 50
    assert ML & set(imported) == set()


def test_a_process_that_starts_imports_no_library_of_numbers():
    assert (ML | NUMBERS) & set(run(IMPORT_THE_WEB)) == set()


def run(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"DJANGO_SETTINGS_MODULE": "labelhub.settings", "PATH": "/usr/bin:/bin"}
        | {"DATA_DIR": str(ROOT / ".cache" / "test")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
