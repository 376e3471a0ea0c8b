"""The hidden checks in a browser: complete, and nothing of them on the judging page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.urls import reverse

from labelhub import probes
from tests.browser.conftest import accessibility_problems
from tests.builders import make_task

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SHOTS = os.environ.get("SHOTS")
OPTIONS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["probes", "gold"])
def test_a_manager_can_read_it(open_page, project, mona, name, options, request):
    task = make_task(project, "How many legs has a spider?", "Eight.", "Six, I think.")
    probes.set_gold(task, "a", "Spiders have eight legs.", mona)
    pks = [task.pk] if name == "gold" else []
    address = reverse(f"labelhub:{name}", args=[project.slug, *pks])
    page = open_page(mona, address, **options)
    if SHOTS:
        shot = f"{request.node.callspec.id}.png"
        page.screenshot(path=Path(SHOTS, shot), full_page=True)
    assert accessibility_problems(page) == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]
