"""A JupyterLab server and a page in the system's Chromium, with nothing but loopback and a token between them.

The waits are those without which some runs stand still: no `?reset` in the address, cells only once the kernel is
connected and idle, the announcements extension off."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
_DIRECTORIES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")


@contextmanager
def lab(root: Path, own: Path, theme: str = "JupyterLab Light") -> Iterator[Callable[[str], str]]:
    """A JupyterLab on `root`: the address of a file in it. `own`, a fresh folder, takes its configuration and log."""
    token = secrets.token_urlsafe()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = dict(os.environ, **{name: str(own / name.lower()) for name in (*_DIRECTORIES, "IPYTHONDIR")})
    env |= {"JUPYTER_TOKEN": token}  # not on the command line, which other users can read
    env.pop("TRK_HEADLESS", None)
    _write(own / "jupyter_config_dir/labconfig/page_config.json", {"disabledExtensions": _NEWS})
    _write(own / "jupyterlab_settings_dir/@jupyterlab/apputils-extension/themes.jupyterlab-settings", {"theme": theme})
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True"]
    with open(own / "server.log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api", server, own / "server.log")
            yield lambda file: f"http://127.0.0.1:{port}/lab/tree/{file}?token={token}"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


_NEWS = {"@jupyterlab/apputils-extension:announcements": True}


def _write(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=1)
            return
        except OSError:
            time.sleep(0.1)
        if server.poll() is not None:
            break
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def book_of(cell: str) -> nbformat.NotebookNode:
    """A notebook of one cell."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return book


@contextmanager
def chromium() -> Iterator:
    """A browser without a window; one at a time in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)


@contextmanager
def page_in(browser, width: int = 1300, height: int = 1000, scheme: str = "light") -> Iterator:
    """A page; an error on it that nobody caught is an AssertionError at the end."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def run_all(page, address: str) -> None:
    """Open a notebook and run all its cells; returns when they are under way."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    idle = ".jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status=idle]"
    page.wait_for_selector(idle, timeout=60_000)
    page.evaluate(
        """async () => { await jupyterapp.restored; const shown = jupyterapp.shell.currentWidget;
                         await shown.context.ready; await shown.sessionContext.ready }"""
    )
    page.wait_for_function(
        """() => { const kernel = jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
                   return kernel && kernel.connectionStatus == 'connected' && kernel.status == 'idle' }""",
        timeout=60_000,
    )
    # In braces: a call that returned the promise would wait for ever.
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")
