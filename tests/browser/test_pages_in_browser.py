"""Both pages in a real Chromium: no error, no request elsewhere, nothing cut off on a 360 px phone, readable in light and dark.

The browser is driven through a pipe (DevTools protocol, --remote-debugging-pipe): JSON messages ended by NUL, no library needed.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from agent.diagnosis import CAUSES, Verdict
from agent.web import AdminServer, LanServer
from tests.conftest import BROWSERS
from tests.fakes import closing
from tests.site import NOW, FakeSite, cut_off, devices, many, status

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip

# elements with text of their own whose contrast to what lies behind them is below WCAG AA (4.5)
FAINT = """(() => {
  const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] };
  return [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
      const [a, b] = [lum(rgb(getComputedStyle(e).color).slice(0, 3)), lum(behind(e).slice(0, 3))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.textContent] }).filter(([ratio]) => ratio < 4.5).map(([r, t]) => r.toFixed(1) + ' ' + t) })()"""


class Chromium:
    """One tab. `trouble`: console errors and exceptions; `requests`: every address the page asked for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.WriteTransport) -> None:
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future] = {}
        self._loaded = asyncio.Event()
        self._session: dict[str, str] = {}
        self.trouble: list[str] = []
        self.requests: list[str] = []

    async def open(self) -> None:
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self._session = {"sessionId": (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **params):
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": number, "method": method, "params": params, **self._session}).encode() + b"\0")
        return await asyncio.wait_for(answer, 60)

    async def listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                said = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                if "id" in said:
                    future = self._answers.pop(said["id"])
                    future.set_result(said["result"]) if "result" in said else future.set_exception(RuntimeError(str(said["error"])))
                else:
                    self._happened(said["method"], said["params"])

    def _happened(self, method: str, params) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.trouble.append(params["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening"):
            self.trouble.append(f"{method} {params}")

    async def look(self, width: int, *, dark: bool) -> None:
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def go(self, url: str) -> None:
        await self.then(self.call("Page.navigate", url=url))

    async def click(self, selector: str) -> None:
        await self.then(self.js(f"document.querySelector({selector!r}).click()"))

    async def then(self, act) -> None:
        """Does it, and waits until the page that it leads to has loaded."""
        self._loaded.clear()
        await act
        await asyncio.wait_for(self._loaded.wait(), 60)

    async def js(self, expression: str):
        return (await self.call("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

    async def text(self) -> str:
        return await self.js("document.body.innerText")

    async def shot(self, path: Path) -> None:
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.asynccontextmanager
async def chromium(folder: Path):
    program = next(filter(None, map(shutil.which, BROWSERS)))
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    arguments = [*FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f'exec "$0" "$@" 3<&{their_in} 4>&{their_out}', program, *arguments,
        pass_fds=(their_in, their_out), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(their_in)
    os.close(their_out)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 << 20)
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_in, "rb"))
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(our_out, "wb"))
    tab = Chromium(reader, writing)
    listening = asyncio.create_task(tab.listen())
    try:
        await tab.open()
        yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        reading.close()
        writing.close()
        await asyncio.sleep(0)


def evil() -> str:
    return "<script>console.log('pwned')</script>\"><img src=http://192.0.2.1/x onerror=console.log('pwned')>'"


def full_site() -> FakeSite:
    tasks = [*many(), *devices(), status(evil(), "http", "down", target=evil(), reason="body", detail=evil() * 5, labels={"role": evil()})]
    return FakeSite(tasks=tasks, held=cut_off(), problems=["/var/lib/ronda can't be written: read-only file system", evil()])


def test_the_admins_page_on_every_screen(tmp_path):
    async def run():
        async with closing(AdminServer(full_site(), "127.0.0.1:0", now=lambda: NOW)) as server, chromium(tmp_path) as tab:
            await server.start()
            for width, dark, lang in ((360, False, "id"), (360, True, "en"), (768, False, "en"), (1280, True, "id")):
                await tab.look(width, dark=dark)
                await tab.go(f"{server.url}?lang={lang}")
                await tab.shot(tmp_path / f"admin-{width}-{lang}.png")
                assert await tab.js("document.documentElement.scrollWidth") <= width
                assert await tab.js(FAINT) == []
                assert await tab.js("document.querySelectorAll('script, img').length") == 0
            text = await tab.text()
            for said in ("Keadaan sekarang: putus", "gangguan penyedia internet", "✕ MATI", "✓ BAIK", "◇ TIDAK TERPANTAU", "12,3 ms"):
                assert said in text
            assert await tab.js("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 100)")
            assert {r for r in tab.requests if not r.startswith((server.url, "data:,"))} <= {"about:blank"}
            assert tab.trouble == []
            await tab.click("header a")
            assert "State now: cut off" in await tab.text()

    asyncio.run(run())


def test_the_clerks_page_for_every_cause(tmp_path):
    async def run():
        site = FakeSite()
        async with closing(LanServer(site, "127.0.0.1:0", now=lambda: NOW)) as server, chromium(tmp_path) as tab:
            await server.start()
            for i, cause in enumerate(CAUSES):
                site.held = Verdict("ok", "ok", "certain", NOW - 7200) if cause == "ok" else cut_off(cause)
                await tab.look(360, dark=bool(i % 2))
                await tab.go(f"{server.url}?tunggu={i + 1}")  # another page for the cache of a second
                await tab.shot(tmp_path / f"lan-{cause}.png")
                assert await tab.js("document.documentElement.scrollWidth") <= 360
                assert await tab.js(FAINT) == []
                assert ("BAIK" if cause == "ok" else "PUTUS") in await tab.text()
            # the state, and what to press, are seen without scrolling far: the large word stands in the first half of the screen
            assert await tab.js("document.querySelector('h1').getBoundingClientRect().bottom") < 400
            assert {r for r in tab.requests if not r.startswith((server.url, "data:,"))} <= {"about:blank"}
            assert tab.trouble == []

    asyncio.run(run())


def test_the_button_checks_once_and_then_says_how_long_to_wait(tmp_path):
    async def run():
        site = FakeSite(held=cut_off())
        async with closing(LanServer(site, "127.0.0.1:0", now=lambda: NOW)) as server, chromium(tmp_path) as tab:
            await server.start()
            await tab.go(server.url)
            await tab.click("button")
            assert "Sedang diperiksa" in await tab.text()
            assert await tab.js("location.search") == "?periksa=ya"
            await tab.click("button")
            assert "Baru saja diperiksa, coba lagi dalam" in await tab.text()
            assert site.calls == ["check"]
            assert tab.trouble == []

    asyncio.run(run())


def test_a_form_on_another_page_can_not_press_the_button(tmp_path):
    async def run():
        site = FakeSite()
        async with closing(LanServer(site, "127.0.0.1:0", now=lambda: NOW)) as server, chromium(tmp_path) as tab:
            await server.start()
            await tab.go(f"data:text/html,<form method=post action={server.url}periksa><button>x</button></form>")
            await tab.click("button")
            assert "tidak boleh" in await tab.text()
            assert site.calls == []

    asyncio.run(run())
