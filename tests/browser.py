"""A real browser for tests of pages: Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = "chromium"
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run")
# What Chromium itself would fetch is none of the page's doing; so it has nowhere to go.
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--proxy-server=127.0.0.1:9")


class Browser:
    """One page of Chromium; what it says on the console and what it asks the network for is kept.

    :ivar problems: errors and warnings of the console, exceptions, violations of the page's policy.
    :ivar requests: URLs other than the page's own and what the page itself holds.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chromium-"))
        import websocket  # of the tests' extra

        command = [PROGRAM, *SWITCHES, *OFFLINE, f"--user-data-dir={self.folder}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.timeout, self.numbers = timeout, itertools.count(1)
        self.problems: list[str] = []
        self.requests: list[str] = []
        port, path = self._wait_for(self.folder / "DevToolsActivePort")
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}{path}", timeout=timeout, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )
        self.session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _wait_for(self, file: Path) -> list[str]:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"chromium ended with {self.process.returncode}")
            if file.is_file() and len(lines := file.read_text().split()) == 2:
                return lines
            time.sleep(0.05)
        raise TimeoutError("chromium did not start")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and return its result; events that come meanwhile are looked at."""
        number = next(self.numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._look_at(answer.get("method"), answer.get("params", {}))

    def _look_at(self, event: str | None, values: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(argument.get("value")) for argument in values["args"]))
        elif event == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.problems.append(values["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            url = values["request"]["url"]
            if url != self.url and not url.startswith(("data:", "blob:", "about:")):
                self.requests.append(url)

    url = "about:blank"

    def open(self, page: Path, ready: str = "document.documentElement.dataset.ready === 'true'") -> None:
        """Load a file and wait until an expression holds."""
        self.url = page.absolute().as_uri()
        self.send("Page.navigate", url=self.url)
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self.evaluate("document.readyState === 'complete'") and self.evaluate(ready):
                return
            time.sleep(0.1)
        raise TimeoutError(f"{page} did not become ready: {self.problems}")

    def evaluate(self, expression: str) -> Any:
        """Value of an expression on the page; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as a person would."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0]))}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def view(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Size of the window in CSS pixels, and whether the user prefers light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path, *, whole: bool = False) -> bytes:
        """The window, or the whole page, as PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(found["data"])
        path.write_bytes(data)
        return data
