"""Take the picture of `herovlm app`, docs/app.png: the demo model is asked about an example, by two methods.

Needs the extra `app`, playwright, and the Chromium of the system.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
SIZE = {"width": 1400, "height": 900}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Start the page, ask, and take the picture."""
    line = [sys.executable, "-m", "herovlm", "app", "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as app, sync_playwright() as driver:
        try:
            url = app.stdout.readline().split()[2] if app.stdout else ""
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            ask(page, url)
            page.screenshot(path=HERE / "app.png", full_page=True)
            browser.close()
        finally:
            app.terminate()
    with Image.open(HERE / "app.png") as shot:
        shot.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE).save(HERE / "app.png", optimize=True)


def ask(page: Page, url: str) -> None:
    """Take the first example, add a second method, and wait for the answers."""
    page.set_default_timeout(120_000)
    page.goto(url)
    page.get_by_role("button", name="notice board").click()
    page.get_by_role("button", name="What number is on the red square?").click()
    page.get_by_label("Methods").click()
    page.get_by_role("option", name="random", exact=True).click()
    page.keyboard.press("Escape")
    page.locator("#ask").click()
    page.locator(".hv-card[data-method=random] img").first.wait_for()


if __name__ == "__main__":
    main()
