"""The page as a reader's browser sees it: Debian's Chromium, headless, from a file."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from psegan.report.page import read_run, render_runs
from psegan.report.results import Results


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """The system's Chromium with its own driver, so that nothing is downloaded."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        message = "no browser: apt-get install chromium chromium-driver"
        if os.environ.get("PSEGAN_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "disable-dev-shm-usage", "window-size=1400,1000"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:  # as in CI's container; Chromium refuses to start otherwise
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    invented: Callable[[int], Results],
    run_writer: Callable[[Path, Results], Path],
) -> list[Path]:
    """Two seeds of one evaluation."""
    folder = tmp_path_factory.mktemp("runs")
    return [run_writer(folder / f"seed-{seed}", invented(seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def page(browser: webdriver.Chrome, runs: list[Path]) -> str:
    """Open the page of both runs, once its recordings have loaded or failed; gives its address."""
    out = runs[0].parent / "report.html"
    render_runs([read_run(run) for run in runs], out)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(out.as_uri())
    settled = "return [...document.querySelectorAll('audio')].every(a => a.readyState >= 1 || a.error)"
    WebDriverWait(browser, 20).until(lambda session: session.execute_script(settled))
    return out.as_uri()


@pytest.fixture(scope="module")
def requests(browser: webdriver.Chrome, page: str) -> list[str]:
    """Addresses that the page asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def _table(browser: webdriver.Chrome, name: str, split: str) -> dict[str, dict[str, list[str]]]:
    """Corpus -> system -> the lines of text in each cell of a table, all as shown."""
    script = """
      const regions = document.querySelectorAll(`[aria-label^="${arguments[0]},"][aria-label$="${arguments[1]}"]`);
      const texts = row => [...row.cells].map(cell => cell.innerText);
      const tables = [...regions].map(region => region.querySelector('table'));
      return tables.map(table => [table.caption.innerText.split(' ')[0], [...table.tBodies[0].rows].map(texts)]);
    """
    found = browser.execute_script(script, name, split)
    return {corpus: {row[0]: row[1:] for row in rows} for corpus, rows in found}


def test_console_is_silent(browser: webdriver.Chrome, page: str) -> None:
    assert browser.get_log("browser") == []


def test_page_asks_for_nothing_but_itself(requests: list[str], page: str) -> None:
    assert page in requests  # the log works
    assert [url for url in requests if url != page and not url.startswith("data:")] == []


def test_all_images_are_decoded(browser: webdriver.Chrome, page: str) -> None:
    widths = browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(widths) == 2 * 4 and all(width > 100 for width in widths)


def test_all_recordings_can_be_played(browser: webdriver.Chrome, page: str) -> None:
    script = "return [...document.querySelectorAll('audio')].map(a => [a.duration, a.error && a.error.message])"
    players: list[Any] = browser.execute_script(script)
    assert len(players) == 2 * 2 * 3
    assert all(error is None and duration == pytest.approx(1.0, abs=0.01) for duration, error in players)


def test_tables_show_the_scores(browser: webdriver.Chrome, page: str, invented: Callable[[int], Results]) -> None:
    shown = _table(browser, "Table 1", "paper")
    assert list(shown) == ["ravdess", "emodb"]
    for corpus in shown:
        cells = []
        for attribute, attacker in [("emotion", a) for a in ("strongest", "informed", "vocoder-aware", "ignorant")] + [
            ("speaker", None), ("gender", None), ("content", None),
        ]:  # fmt: skip
            found = [
                row
                for seed in (0, 1)
                for row in invented(seed).select(
                    system="psegan", corpus=corpus, split="paper", attribute=attribute, metric="accuracy",
                    attacker=attacker,
                )
            ]  # fmt: skip
            value, low, high = (sum(100 * getattr(row, name) for row in found) / 2 for name in ("value", "low", "high"))
            ends = sorted(100 * row.value for row in found)
            cells.append(f"{value:.1f}\n{low:.1f}–{high:.1f}\n2 seeds: {ends[0]:.1f} to {ends[1]:.1f}")
        assert shown[corpus]["psegan"] == cells
    assert len(shown["ravdess"]) == 13  # 12 systems and chance


def test_folded_tables_open(browser: webdriver.Chrome, page: str) -> None:
    visible = "return [...document.querySelectorAll('details > :not(summary)')].map(e => e.checkVisibility())"
    assert not any(browser.execute_script(visible))
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert all("\n" in cell for cell in _table(browser, "Members", "paper")["emodb"]["psegan"])
    assert "psegan − original" in _table(browser, "Differences", "paper")["ravdess"]


@pytest.mark.parametrize("width", [390, 1400])
def test_only_tables_scroll_sideways(browser: webdriver.Chrome, page: str, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wide = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide[1] <= width and wide[0] == wide[1]
