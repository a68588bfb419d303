"""Control a headless Chromium over a pipe with the DevTools protocol; needs no port, driver or package.

    with open_browser() as browser:
        page = browser.open(Path("report.html"), width=390, height=844)

Messages of the protocol are JSON, each followed by a zero byte, on file descriptors 3 and 4 of the browser:
https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Return the path of Chromium, or None; the environment variable `CHROMIUM` can name another one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)


@dataclass
class Page:
    """What happened while a page was loaded.

    Attributes
    ----------
    requested : list of str
        Requested URLs, except ``data:`` URLs.
    faults : list of str
        Console errors and warnings, and failed requests.
    """

    requested: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, method: str, event: dict[str, Any]) -> None:
        """Record a protocol event that concerns the page."""
        if method == "Network.requestWillBeSent":
            if not event["request"]["url"].startswith("data:"):
                self.requested.append(event["request"]["url"])
        elif method == "Network.loadingFailed":
            self.faults.append(f"failed request: {event['errorText']}")
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("warning", "error"):
            self.faults.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("warning", "error"):
            self.faults.append(str(event["args"]))
        elif method == "Runtime.exceptionThrown":
            self.faults.append(event["exceptionDetails"]["text"])


class Browser:
    """One tab of a running Chromium.

    Parameters
    ----------
    to_browser, from_browser
        File descriptors of the pipes.
    patience
        Seconds to wait for a response.
    """

    def __init__(self, to_browser: int, from_browser: int, patience: float = 60.0):
        self.out, self.back, self.patience = to_browser, from_browser, patience
        self.pending, self.number, self.session = b"", 0, None
        self.page = Page()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def open(
        self, path: Path, width: int, height: int, scale: float = 1, dark: bool = False
    ) -> Page:
        """Open a file in a window of the given size in CSS pixels, and wait until it is rendered."""
        self.page = Page()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._read(lambda message: message.get("method") == "Page.loadEventFired")
        self.evaluate(
            "Promise.all([...document.images].map(image => image.decode().catch(() => 0)))"
        )
        return self.page

    def evaluate(self, script: str) -> Any:
        """Evaluate a JavaScript expression in the page, awaiting promises."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """Take a screenshot of the window, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its response; events received before it are recorded."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        answer = self._read(lambda message: message.get("id") == self.number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self, wanted) -> dict[str, Any]:
        deadline = time.monotonic() + self.patience
        while True:
            while b"\0" in self.pending:
                text, self.pending = self.pending.split(b"\0", 1)
                message = json.loads(text)
                if "method" in message:
                    self.page.note(message["method"], message["params"])
                if wanted(message):
                    return message
            ready, _, _ = select.select([self.back], [], [], max(0, deadline - time.monotonic()))
            content = os.read(self.back, 1 << 20) if ready else b""
            if not content:
                raise RuntimeError(f"Chromium gave no answer within {self.patience:g} s.")
            self.pending += content


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium, and stop it and remove its files after the block.

    Raises
    ------
    RuntimeError
        If Chromium is not found or does not respond.
    """
    chromium = find_chromium()
    if chromium is None:
        raise RuntimeError(f"No browser is on the path ({', '.join(NAMES)}); CHROMIUM names one.")
    child_in, to_browser = os.pipe()
    from_browser, child_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            chromium, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking",
        ]  # fmt: skip
        if os.geteuid() == 0:
            words.append("--no-sandbox")  # Chromium refuses to run as root with it
        # The browser expects its pipes as descriptors 3 and 4.
        shell = f'exec "$@" 3<&{child_in} 4>&{child_out}'
        running = subprocess.Popen(
            ["bash", "-c", shell, "browser", *words],
            pass_fds=[child_in, child_out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(child_in)
        os.close(child_out)
        try:
            yield Browser(to_browser, from_browser)
        finally:
            os.close(to_browser)  # the browser exits when its pipe is closed
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
            os.close(from_browser)
