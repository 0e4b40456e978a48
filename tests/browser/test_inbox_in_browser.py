"""The inbox and its runbooks in a real Chromium on a phone: readable, nothing cut off, what was asked for in sight."""

import asyncio
from pathlib import Path

import pytest

from central.inbox import Inbox
from tests.browser.test_pages_in_browser import FAINT, chromium

pytestmark = pytest.mark.browser

MESSAGE = (
    "<b>GAWAT · {}: putus internet</b>\nRSU-1124-0207 · sejak 02.07 WIB · layanan 24 jam\nSebab: listrik padam (mungkin)\n"
    'Hubungi: PLN 123\nPanduan: <a href="{}/runbook#SiteDown">langkah demi langkah</a>'
)
WIDER = "document.documentElement.scrollWidth > innerWidth || document.querySelector('main,body').scrollWidth > innerWidth"
IN_SIGHT = "(e => { const r = e.getBoundingClientRect(); return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight })"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_message_and_its_runbook_on_a_phone(tmp_path: Path, dark: bool) -> None:
    asyncio.run(on_a_phone(tmp_path, dark))


async def on_a_phone(folder: Path, dark: bool) -> None:
    with Inbox() as inbox:
        for i in range(12):
            inbox.send("-1001", MESSAGE.format(f"Kantor {i} " + "W" * 100, inbox.url), "HTML")
        async with chromium(folder) as tab:
            await tab.look(360, dark=dark)
            await tab.go(f"{inbox.url}/")
            assert await tab.js(f"{IN_SIGHT}([...document.querySelectorAll('article time')].pop())")
            await readable(tab)

            await tab.click("article:last-of-type a")
            assert await tab.js("location.pathname + location.hash") == "/runbook#SiteDown"
            assert await tab.js(f"{IN_SIGHT}(document.getElementById('SiteDown'))")
            await readable(tab)
            assert all(address.startswith((inbox.url, "data:")) for address in tab.requests)
            assert tab.trouble == []


async def readable(tab) -> None:
    assert await tab.js(WIDER) is False
    assert await tab.js(FAINT) == []
