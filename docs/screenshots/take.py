"""Take the README's screenshots of a site that runs with the sample project.

python docs/screenshots/take.py http://127.0.0.1:8000 var/sample_accounts.txt
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
PAGES = {
    # name: (account, path, height)
    "judge": ("annie", "/projects/sample/judge/", 800),
    "run": ("admin", "/projects/sample/runs/2/", 1000),
    "snapshot": ("admin", "/projects/sample/snapshots/2/", 1000),
}


def main(site: str, accounts: str) -> None:
    passwords = dict(line.split() for line in Path(accounts).read_text().splitlines())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for name, (account, path, height) in PAGES.items():
            take(browser, site, account, passwords[account], name, path, height)
        browser.close()


def take(
    browser: Browser,
    site: str,
    account: str,
    password: str,
    name: str,
    path: str,
    height: int,
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": height})
    page.goto(f"{site}/login/?next={path}")
    page.fill("[name=username]", account)
    page.fill("[name=password]", password)
    page.click("main button[type=submit]")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)  # the charts draw after their data
    page.screenshot(path=HERE / f"{name}.png")
    page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
