"""A real browser without a window, and what it complains of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 10.0
"""Seconds in which a page shows what it should."""
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--no-first-run",
)

# Asking the browser for each name would take a second on a long table: these may have it.
_NAMED = """
const [name, kinds] = arguments;
const labels = (each) => [...(each.labels ?? [])].map((label) => label.innerText);
const texts = (each) => [each.innerText, each.getAttribute("aria-label"), ...labels(each)];
return [...document.querySelectorAll(kinds)].filter((each) =>
    each.checkVisibility() && texts(each).some((text) => text?.trim().startsWith(name)));
"""


def chromium() -> str | None:
    """Where Chromium is; None without it or its driver."""
    return shutil.which("chromium") if shutil.which("chromedriver") else None


class Browser:
    """Chromium, driven as a person would: by what is on the page, not by how it is made."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium() or ""
        for option in _OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.base = ""

    def close(self) -> None:
        self.driver.quit()

    def size(self, width: int, height: int = 900, dark: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, base: str, place: str = "") -> None:
        """Load a page anew."""
        self.base = base
        self.driver.get("about:blank")
        self.driver.get(f"{base}/#/{place}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, what: str, seen: Callable[[], Any]) -> Any:
        """Wait until something is seen, and give it."""
        try:
            waiting = WebDriverWait(self.driver, PATIENCE, 0.05, [StaleElementReferenceException])
            return waiting.until(lambda _: seen())
        except TimeoutException:
            raise AssertionError(f"never seen: {what}; on the page: {self.text()[:3000]}") from None

    def all(self, selector: str) -> list[WebElement]:
        found: list[WebElement] = self.run(
            "return [...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility())", selector
        )
        return found

    def one(self, selector: str) -> WebElement:
        found: WebElement = self.until(selector, lambda: next(iter(self.all(selector)), None))
        return found

    def named(self, name: str, kinds: str = "button, a, input, select, textarea, summary") -> WebElement:
        """The control that a screen reader calls by this name."""

        def find() -> WebElement | None:
            return next((each for each in self.run(_NAMED, name, kinds) if each.accessible_name.strip() == name), None)

        found: WebElement = self.until(f"a control named {name}", find)
        return found

    def press(self, name: str) -> None:
        self.named(name).click()

    def write(self, name: str, text: str) -> None:
        field = self.named(name)
        field.clear()
        field.send_keys(text)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """What a screen reader calls the element that has the focus."""
        element = self.driver.switch_to.active_element
        return (element.accessible_name or element.text).strip()

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def reads(self, text: str) -> None:
        """Wait until the page has a text."""
        self.until(f"the text {text!r}", lambda: text in self.text())

    def rows(self) -> list[list[str]]:
        """The texts of the table's rows."""
        script = """return [...document.querySelectorAll("main tbody tr")].filter((row) => !row.hidden)
            .map((row) => [...row.cells].map((cell) => cell.innerText))"""
        rows: list[list[str]] = self.run(script)
        return rows

    def complaints(self, allowed: tuple[str, ...] = ()) -> list[str]:
        """What the console has against the page since the last look, and requests that went to another host."""
        found = [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                strange = urlsplit(url).scheme not in ("about", "data", "blob", "chrome")
                if strange and not url.startswith(f"{self.base}/"):
                    found.append(f"asked {url}")
        return [each for each in found if not any(text in each for text in allowed)]
