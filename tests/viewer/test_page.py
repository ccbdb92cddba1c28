"""The page in a real browser: headless Chromium, where there is one."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from tests.viewer.conftest import TOKEN
from wsi_hf.viewer.app import viewer_app
from wsi_hf.viewer.finding import find_shown_slides

SECONDS = 60
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture
def address(maps: Path, cohort: list) -> Iterator[str]:
    """The viewer, served on loopback."""
    app = viewer_app(find_shown_slides([maps], cohort=cohort), TOKEN)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/"
        server.should_exit = True
        thread.join(SECONDS)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The page, its first slide drawn."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1300,800"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.get(address)
        wait_for(driver, DRAWN)
        yield driver
        assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        driver.quit()


DRAWN = """
const world = window.wsiViewer?.world;
return world?.getItemCount() == 2 && [0, 1].every((i) => world.getItemAt(i).getFullyLoaded())
"""
PIXEL = """
const at = wsiViewer.viewport.pixelFromPoint(new OpenSeadragon.Point(arguments[0] / 1200, arguments[1] / 1200));
const canvas = wsiViewer.drawer.canvas, ratio = canvas.width / wsiViewer.container.clientWidth;
return [...canvas.getContext("2d").getImageData(at.x * ratio, at.y * ratio, 1, 1).data].slice(0, 3)
"""
SLIDE = """
const slider = document.querySelector(arguments[0]);
slider.value = arguments[1];
slider.dispatchEvent(new Event("input"))
"""
REQUESTS = "return performance.getEntriesByType('resource').filter(e => e.name.endsWith('.png')).length"


def wait_for(page: Any, script: str, *arguments: Any) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := page.execute_script(script, *arguments)):
        assert time.monotonic() < deadline, script
        time.sleep(0.1)
    return found


def wait_for_pixel(page: Any, x_l0: float, y_l0: float, redness: float) -> None:
    """Wait until red exceeds blue by about so much at a point of the slide."""
    deadline = time.monotonic() + SECONDS
    while abs(np.subtract(*page.execute_script(PIXEL, x_l0, y_l0)[::2]) - redness) > 25:
        assert time.monotonic() < deadline, page.execute_script(PIXEL, x_l0, y_l0)
        time.sleep(0.1)


def press(page: Any, key: str) -> None:
    page.execute_script("document.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0] }))", key)


def test_map_lesions_and_verdicts(page, maps):
    names = [item.text for item in page.find_elements("css selector", "nav strong")]
    assert names == ["dark", "light"]
    assert len(page.find_elements("css selector", "path.lesion")) == 2
    assert len(page.find_elements("css selector", "path.truth")) == 1

    # the map is coloured over the lesion; sliders change that without asking for tiles again
    page.execute_script(SLIDE, "#opacity", 1)
    wait_for_pixel(page, 750, 550, 160 - 32)
    wait_for_pixel(page, 300, 700, 0)
    before = page.execute_script(REQUESTS)
    page.execute_script(SLIDE, "#threshold", 0)
    wait_for_pixel(page, 300, 700, 255 - 178)
    page.execute_script(SLIDE, "#opacity", 0)
    wait_for_pixel(page, 750, 550, 90 - 110)
    assert page.execute_script(REQUESTS) == before > 0
    page.execute_script(SLIDE, "#opacity", 0.5)

    # a click into the outline chooses the lesion; a key accepts it
    centre = page.execute_script(
        "const at = wsiViewer.viewport.pixelFromPoint(new OpenSeadragon.Point(750 / 1200, 550 / 1200));"
        "const box = wsiViewer.container.getBoundingClientRect(); return [box.x + at.x, box.y + at.y].map(Math.round)"
    )
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    actions = ActionBuilder(page)
    actions.pointer_action.move_to_location(*centre).click()
    actions.perform()
    wait_for(page, "return document.querySelector('#lesion-list .chosen .go')?.textContent.startsWith('1.')")
    ActionChains(page).send_keys("a").perform()
    wait_for(page, "return document.querySelector('path.accepted')")
    (feature,) = json.loads((maps / "dark" / "review.geojson").read_text())["features"]
    assert feature["properties"]["verdict"] == "accepted"
    wait_for(page, "return document.querySelector('nav .reviewed').textContent === '1 lesion reviewed'")

    # the next slide has neither lesions nor an annotation
    press(page, "ArrowDown")
    wait_for(page, "return document.querySelector('#name').textContent === 'light'")
    wait_for(page, DRAWN)
    assert page.find_elements("css selector", "path.lesion") == []
    assert page.find_element("css selector", "#lesion-list").text == "none at or above 0.5"
    assert not page.find_element("css selector", "#truth-key").is_displayed()
