"""A headless Chromium, by chromedriver's own protocol: JSON over HTTP."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import requests
from waiting import PATIENCE, until

CHROMEDRIVER = shutil.which("chromedriver")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-dev-shm-usage", "--window-size=1200,1000"]


class Browser:
    """One window."""

    def __init__(self, driver: str) -> None:
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy on the way to this machine itself
        options = {"args": ARGUMENTS, "binary": CHROMIUM}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = driver
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"{driver}/session/{made['sessionId']}"

    def call(self, method, path, body=None):
        body = {} if body is None and method == "POST" else body
        answer = self._http.request(method, self._session + path, json=body, timeout=PATIENCE).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["message"])
        return answer

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def script(self, code, *arguments):
        return self.call("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def wait(self, condition, seconds=PATIENCE):
        """Until a script returns something true, which is given."""
        end = time.monotonic() + seconds
        while not (found := self.script(condition)):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"still not: {condition}; the page says {self.script('return document.body.innerText')}"
                )
            time.sleep(0.02)
        return found

    def log(self):
        """What the page has written to the console since the last call, errors of the browser included."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]


@contextmanager
def browser():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([CHROMEDRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        made = Browser(_driver(port))
        try:
            yield made
        finally:
            made.call("DELETE", "")
            made._http.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _driver(port):
    """The driver's address, once it listens."""

    def listens():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    until(listens, "chromedriver listens")
    return f"http://127.0.0.1:{port}"
