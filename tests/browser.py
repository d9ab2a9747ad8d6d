"""Finds a Chromium or Chrome for the tests of the page, or gets one: `python -m tests.browser`.

Also the hooks of pytest that leave these tests out, and say so, where there is none.
"""

import argparse
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
)
LEFT_OUT = "there is no Chromium or Chrome"


@functools.cache
def find_browser() -> str | None:
    """The path of a browser that starts: $CHROME, one that is installed, or Playwright's own."""
    return next(filter(_starts, _candidates()), None)


def _candidates() -> Iterator[str]:
    for name in (os.environ.get("CHROME", ""), *NAMES, *PLACES):
        if path := shutil.which(name):
            yield path
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            yield playwright.chromium.executable_path
    except Exception as error:  # it is not installed, or its driver does not run here
        print(f"Playwright: {error}", file=sys.stderr)


def _starts(path: str) -> bool:
    """Ubuntu's chromium-browser, for one, is there and only says that it is not."""
    if sys.platform == "win32":  # where --version opens a window
        return os.path.exists(path)
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install_browser() -> None:
    """Debian's where we are root, else Playwright's; what goes wrong, they say themselves."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get"):
        apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
        subprocess.run([*apt, "update"], check=False)
        packages = ["--no-install-recommends", "chromium"]
        subprocess.run([*apt, "install", "-y", *packages], stdout=subprocess.DEVNULL, check=False)
        find_browser.cache_clear()
        if find_browser():
            return
    options = ["--with-deps"] if root else []
    command = [sys.executable, "-m", "playwright", "install", *options, "chromium"]
    subprocess.run(command, check=False)
    find_browser.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    of_the_page = [item for item in items if item.get_closest_marker("browser")]
    if of_the_page and not find_browser():
        for item in of_the_page:
            item.add_marker(pytest.mark.skip(LEFT_OUT))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _count_left_out(session.config) and _required() and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of a run that is not whole."""
    if count := _count_left_out(config):
        failure = ", which REQUIRE_BROWSER=1 makes a failure" if _required() else ""
        print(f"\n{count} browser tests were left out: {LEFT_OUT}{failure}.")


def _count_left_out(config: pytest.Config) -> int:
    """Of the whole run, so that a worker of several has none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    return sum(LEFT_OUT in report.longrepr[-1] for report in skipped)


def _required() -> bool:
    return os.environ.get("REQUIRE_BROWSER") == "1"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description=__doc__)
    parser.add_argument("--install", action="store_true", help="get one if there is none")
    if parser.parse_args().install and not find_browser():
        install_browser()
    print(f"Browser: {find_browser() or 'none; its tests will be left out'}")


if __name__ == "__main__":
    main()
