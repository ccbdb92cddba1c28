"""The report in a real headless browser: it opens, its table sorts, its pictures show; and it trusts no text."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from wsi_hf.reports.cohort import read_evaluation, write_evaluation

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LISTEN = """<script>
  const errors = [];
  addEventListener("error", event => errors.push(event.message || "a picture failed"), true);
  addEventListener("securitypolicyviolation", event => errors.push(event.blockedURI));
</script>"""
PROBE = """<script>
addEventListener("load", () => {
  const names = () => [...document.querySelectorAll("#slides tbody tr")].map(row => row.cells[0].textContent);
  const heads = [...document.querySelectorAll("#slides th")];
  const found = {initially: names(), sorted: {}};
  for (const head of heads.filter(head => head.querySelector("button"))) {
    head.querySelector("button").click();
    const first = [head.getAttribute("aria-sort"), names()];
    head.querySelector("button").click();
    found.sorted[head.textContent] = [first, [head.getAttribute("aria-sort"), names()]];
  }
  const pictures = [...document.images];
  found.pictures = pictures.map(img => [img.complete, img.naturalWidth, img.getBoundingClientRect().width]);
  const last = pictures.at(-1), before = last.getBoundingClientRect().width;
  last.click();
  found.enlarged = last.getBoundingClientRect().width / before;
  found.window = [innerWidth, document.documentElement.scrollWidth];
  found.errors = errors;
  const pre = document.createElement("pre");
  pre.id = "probe";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
});
</script>"""


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    return found


def look(browser: str, page: Path, folder: Path, width: int, height: int) -> dict:
    """Open a page, click through it, and bring back what was seen."""
    probed = folder / f"probed_{width}.html"
    text = page.read_text(encoding="utf-8")
    assert text.count("<head>") == text.count("</body>") == 1
    probed.write_text(text.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}", "--timeout=30000"]
    done = subprocess.run(
        [browser, *options, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120
    )
    seen = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, done.stderr[-2000:]
    return json.loads(html.unescape(seen[1]))


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (500, 800)])
def test_the_report_opens_sorts_and_shows_its_pictures(browser, evaluated, tmp_path, width, height):
    seen = look(browser, evaluated / "report.html", tmp_path, width, height)
    rows = read_evaluation(evaluated).rows()
    by_name = {row.slide_id: row for row in rows}
    assert seen["errors"] == []
    assert seen["initially"] == [row.slide_id for row in rows]
    for title, key in (("slide", "slide_id"), ("error", "error"), ("margin", "margin"), ("label", "label")):
        orders = dict(seen["sorted"][title])
        assert set(orders) == {"ascending", "descending"}
        for direction, names in orders.items():
            values = [getattr(by_name[name], key) for name in names]
            assert values == sorted(values, reverse=direction == "descending"), (title, direction)
    for _, names in seen["sorted"]["pixel AP"]:  # undefined on benign slides: these stay at the end
        assert [by_name[name].label for name in names] == ["malignant"] * 2 + ["benign"] * 2
    assert len(seen["pictures"]) == 3 + 2 * 4
    assert all(complete and natural > 100 and shown > 50 for complete, natural, shown in seen["pictures"])
    assert seen["enlarged"] > 1.5
    inner, scroll = seen["window"]
    assert abs(inner - width) < 20
    assert scroll <= inner  # the table scrolls in itself, the page does not


def test_the_report_needs_nothing_from_elsewhere(evaluated):
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert page.count("data:image/") == 3 + 2 * 4
    assert not re.search(r"https?:|//|<link|@import|url\(|\bsrc=\"(?!\")", outside)
    assert "default-src 'none'" in page


def test_text_is_escaped(browser, evaluated, tmp_path):
    evil = '"><img src=x onerror="errors.push(1)"><script>errors.push(2)</script>'
    evaluation = read_evaluation(evaluated)
    first, *rest = evaluation.records.values()
    record = replace(first, exhaustive=False, not_analysed=[{"reason": evil}])
    records = {r.slide_id: r for r in (record, *rest)}
    changed = replace(evaluation, records=records, failed={evil: evil})
    write_evaluation(changed, tmp_path, {"revision": None})
    page = tmp_path / "report.html"
    assert evil not in page.read_text(encoding="utf-8")
    assert html.escape("<script>errors") in page.read_text(encoding="utf-8")
    assert look(browser, page, tmp_path, 800, 600)["errors"] == []
