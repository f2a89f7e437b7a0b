"""examples/web_app.py as it stands: a real server, an HTTP client, and a real browser.

The browser is Chromium with its driver (Debian: apt install chromium chromium-driver). Where it is
missing these tests are skipped; with AIOMANAGER_TEST_BROWSER=required, as in CI, they fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from tests.support import leaks
from tests.support.programs import EXAMPLES, Program
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.may_leave(
    "processes",
    "descriptors",
    "files",
    reason="a server and a browser are there for all tests; their fixtures see that all of it ends",
)

# A moment for the first factor, and about a second for the other.
SLOW = 2 * 99_999_999_999_973


class Site:
    """The running app."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=30)

    def submit(self, number: int) -> int:
        """Ask for a number's factors; return the id of the job."""
        response = self.client.post("/jobs", json={"number": number})
        assert response.status_code == 202, response.text
        return int(response.json()["id"])

    def events(self, job: int, last_event: int | None = None) -> Iterator[tuple[int, int | None]]:
        """The events of a job as they come: position, and factor or None at the end."""
        headers = {} if last_event is None else {"Last-Event-ID": str(last_event)}
        with self.client.stream("GET", f"/jobs/{job}/events", headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            position = -1
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    position = int(value)
                elif field == "data":
                    yield position, json.loads(value)["factor"]

    def worker(self) -> psutil.Process:
        """The worker process that runs at the moment."""

        def find() -> psutil.Process | None:
            for child in psutil.Process(self.program.process.pid).children():
                if "web_worker.py" in " ".join(child.cmdline()):
                    return child
            return None

        found = wait_until_sync(find, description="there is a worker")
        assert found is not None
        return found


@contextlib.contextmanager
def leaving_no_process() -> Iterator[None]:
    """See that what was started in the block has ended after it."""
    before = leaks.processes().keys()
    yield
    wait_until_sync(
        lambda: not leaks.processes().keys() - before, description="all processes have ended"
    )


@pytest.fixture(scope="module")
def site(scratch: Path) -> Iterator[Site]:
    """The app on a port of its own, ended by Ctrl-C, which it has to survive with exit code 0."""
    with leaving_no_process(), Program(EXAMPLES / "web_app.py", "0", cwd=scratch) as program:
        url = program.wait_for(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")[1]
        site = Site(program, url)
        with site.client:
            yield site
        assert program.interrupt() == 0, program.text
        assert "Application shutdown complete" in program.text
        assert "Traceback" not in program.text


def test_streams_results(site):
    """Every factor is an event, then the end; the job is done."""
    job = site.submit(360)
    assert list(site.events(job)) == [*enumerate([2, 2, 2, 3, 3, 5]), (6, None)]
    statistics = site.client.get("/statistics").json()
    assert statistics["unfinished"] == 0


def test_a_reader_that_comes_again_goes_on(site):
    """A browser says which event it had last."""
    job = site.submit(2 * 3 * 5)
    assert len(list(site.events(job))) == 4
    assert list(site.events(job, last_event=1)) == [(2, 5), (3, None)]


def test_results_come_while_the_job_is_under_way(site):
    """The first factor is there before the last is found."""
    job = site.submit(SLOW)
    events = site.events(job)
    assert next(events) == (0, 2)
    assert site.client.get("/statistics").json()["leased"] == 1
    assert list(events) == [(1, SLOW // 2), (2, None)]


def test_a_killed_worker_loses_nothing(site):
    """Another takes its place and its job, and no result comes twice."""
    redeliveries = site.client.get("/statistics").json()["redeliveries"]
    job = site.submit(SLOW)
    events = site.events(job)
    assert next(events) == (0, 2)
    worker = site.worker()
    worker.send_signal(signal.SIGKILL)
    assert list(events) == [(1, SLOW // 2), (2, None)]
    assert site.client.get("/statistics").json()["redeliveries"] == redeliveries + 1
    assert site.worker().pid != worker.pid


@pytest.mark.parametrize("number", [1, 10**15 + 1, "ten", None])
def test_bad_jobs(site, number):
    """Refused by the app, before they are queued."""
    assert site.client.post("/jobs", json={"number": number}).status_code == 422


def test_unknown_job(site):
    """Its events are nowhere."""
    assert site.client.get("/jobs/999999/events").status_code == 404


def test_a_full_queue_is_an_error(site):
    """Where a hundred jobs wait, one more is told to come again later."""
    worker = site.worker()
    worker.suspend()
    accepted = []
    try:
        while (response := site.client.post("/jobs", json={"number": 2})).status_code == 202:
            accepted.append(response.json()["id"])
        assert response.status_code == 503
        assert response.json()["detail"] == "too many jobs wait; try again later"
        assert len(accepted) in (100, 101)  # the worker may have one
    finally:
        worker.resume()
    for job in accepted:
        assert list(site.events(job)) == [(0, 2), (1, None)]


# -- in a browser -----------------------------------------------------------------------------


def installed(program: str) -> str:
    """The path of a program that a browser test needs."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed (Debian: apt install chromium chromium-driver)"
        if os.environ.get("AIOMANAGER_TEST_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A Chromium without a window, and with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = installed("chromium")
    for argument in (
        "--headless",
        "--no-sandbox",  # CI runs as root
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=900,700",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(installed("chromedriver"))
    with leaving_no_process():
        driver = webdriver.Chrome(options, service)
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture
def page(site: Site, browser: WebDriver) -> Iterator[WebDriver]:
    """The page of the app, freshly loaded; an error in its console fails the test."""
    browser.get(site.url)
    browser.get_log("browser")  # type: ignore[attr-defined]
    yield browser
    errors = browser.get_log("browser")  # type: ignore[attr-defined]
    assert [entry for entry in errors if entry["source"] != "network"] == []


def submit(page: WebDriver, number: object) -> None:
    """Type a number and press Enter."""
    page.find_element(By.ID, "number").send_keys(str(number), Keys.ENTER)


def jobs(page: WebDriver) -> list[tuple[str, str]]:
    """What the page says of each job, newest first: its state and its text."""
    found = page.execute_script(
        "return [...document.querySelectorAll('#jobs > li')]"
        ".map((item) => [item.dataset.state, item.innerText.replace(/\\s+/g, ' ')])"
    )
    return [(state, text) for state, text in found]


def wait_for_jobs(page: WebDriver, *expected: tuple[str, str]) -> None:
    """Wait until the page shows these."""
    wait_until_sync(
        lambda: jobs(page) == list(expected), timeout=20, description=f"the page shows {expected}"
    )


def test_page_shows_results(page, tmp_path):
    """A number is typed, its factors appear, and the field is ready for the next."""
    assert page.title == "Prime factors"
    submit(page, 600851475143)
    wait_for_jobs(page, ("done", "600851475143 = 71 839 1471 6857 4 factors"))
    submit(page, 97)
    wait_for_jobs(
        page,
        ("done", "97 = 97 prime"),
        ("done", "600851475143 = 71 839 1471 6857 4 factors"),
    )
    assert page.find_element(By.ID, "number").get_attribute("value") == ""
    assert page.switch_to.active_element.get_attribute("id") == "number"
    assert page.save_screenshot(str(tmp_path / "page.png"))


def test_page_shows_results_while_the_job_is_under_way(page, tmp_path):
    """The first factor stands there while the worker looks for the other."""
    submit(page, SLOW)
    wait_for_jobs(page, ("working", f"{SLOW} = 2 working"))
    assert page.save_screenshot(str(tmp_path / "page.png"))
    wait_for_jobs(page, ("done", f"{SLOW} = 2 {SLOW // 2} 2 factors"))


def says(element: WebElement, text: str) -> bool:
    """Whether an element shows a text."""
    return element.text == text


def test_page_says_what_is_wrong(page):
    """A number out of range and a word, each in a sentence; no job is shown."""
    for text, error in {
        "1": "Write a number from 2 to 10¹⁵.",
        "ten": "Write a whole number.",
    }.items():
        page.find_element(By.ID, "number").clear()
        submit(page, text)
        shown = page.find_element(By.ID, "error")
        wait_until_sync(partial(says, shown, error), description=f"the page says {error!r}")
    assert jobs(page) == []


def test_page_is_for_two(site, page, browser):
    """Two windows see their own jobs, from one worker."""
    first = browser.current_window_handle
    submit(page, 15)
    browser.switch_to.new_window("tab")
    try:
        browser.get(site.url)
        submit(page, 21)
        wait_for_jobs(page, ("done", "21 = 3 7 2 factors"))
    finally:
        browser.close()
        browser.switch_to.window(first)
    wait_for_jobs(page, ("done", "15 = 3 5 2 factors"))
