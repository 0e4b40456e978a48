"""The inbox answers as Telegram does, is as strict, keeps a bounded number, and shows nothing raw."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import urlencode

import pytest

from central import telegramtext
from central.inbox import KEEP, MAX_AUDIENCES, Inbox


@pytest.fixture
def inbox():
    with Inbox(now=lambda: 1795460820.0) as made:  # 2026-11-24 02.07 WIB
        yield made


def ask(url: str, body: bytes | None = None, kind: str = "application/json", **headers: str):
    request = urllib.request.Request(url, body, {"Content-Type": kind, **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


def send(inbox: Inbox, **fields: str):
    code, text = ask(f"{inbox.url}/bot1:x/sendMessage", json.dumps(fields).encode())
    return code, json.loads(text)


def test_a_message_as_json_and_as_a_form(inbox):
    code, told = send(inbox, chat_id="-1001", text="<b>GAWAT</b> · A &amp; B", parse_mode="HTML")

    assert (code, told["ok"]) == (200, True)
    assert told["result"] == {
        "message_id": 1, "date": 1795460820, "chat": {"id": -1001, "type": "supergroup", "title": "ops"}, "text": "GAWAT · A & B",
    }  # fmt: skip
    form = urlencode({"chat_id": "-1002", "text": "5 < 6"}).encode()
    assert ask(f"{inbox.url}/bot1:x/sendMessage", form, "application/x-www-form-urlencoded")[0] == 200
    assert [(m.audience, m.plain, m.safe) for m in inbox.messages] == [
        ("ops", "GAWAT · A & B", "<b>GAWAT</b> · A &amp; B"),
        ("csirt", "5 < 6", "5 &lt; 6"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<b>x", "Can't find end tag"),
        ("x</b>", "Unmatched end tag"),
        ("<b><i>x</b></i>", "Unmatched end tag"),
        ("<script>x</script>", "Unsupported start tag"),
        ("5 < 6", "Unsupported start tag"),
        ("", "message text is empty"),
        ("<b> </b>", "message text is empty"),
        ("x" * 4097, "message is too long"),
    ],
)
def test_what_telegram_refuses_is_refused(inbox, text, words):
    code, told = send(inbox, chat_id="-1", text=text, parse_mode="HTML")

    assert (code, told["ok"], told["error_code"]) == (400, False, 400)
    assert words in told["description"]
    assert inbox.messages == []


def test_entities_count_as_one_character():
    assert telegramtext.html_text("&lt;" * 4096).plain == "<" * 4096


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ('<a href="https://x.example.go.id/?a=1&amp;b=2#k">x</a>',
         '<a href="https://x.example.go.id/?a=1&amp;b=2#k" rel="noopener noreferrer">x</a>'),
        ('<a href="javascript:alert(1)">x</a>', "<a>x</a>"),
        ('<a href="data:text/html,x">x</a>', "<a>x</a>"),
        ('<b onclick="x()" style="x">x</b>', "<b>x</b>"),
        ("&lt;script&gt;&#39;&#x22;&copy;&#0;", "&lt;script&gt;&#x27;&quot;&amp;copy;\ufffd"),
    ],
)  # fmt: skip
def test_only_what_is_allowed_reaches_the_page(text, safe):
    assert telegramtext.html_text(text).safe == safe


def test_webhooks_are_kept_by_audience(inbox):
    assert ask(f"{inbox.url}/webhook/deadman", b'{"alerts": [1]}')[0] == 200
    assert ask(f"{inbox.url}/webhook/deadman", b"{")[0] == 400
    assert [h.body for h in inbox.hooks("deadman")] == [{"alerts": [1]}]
    assert json.loads(ask(f"{inbox.url}/webhooks.json")[1])["deadman"][0]["body"] == {"alerts": [1]}
    assert inbox.hooks("ops") == []
    assert "Detak 1 kali, terakhir 02.07.00 WIB" in inbox.page()


def test_everything_is_bounded(inbox):
    for i in range(KEEP + 3):
        inbox.send("-1001", f"{i}")
        inbox.hook("deadman", i)
    for i in range(MAX_AUDIENCES - 1):
        inbox.hook(f"a{i}", i)

    assert [m.plain for m in inbox.messages][:1] == ["3"]
    assert [len(inbox.messages), len(inbox.hooks("deadman"))] == [KEEP, KEEP]
    assert ask(f"{inbox.url}/webhook/one-more", b"1")[0] == 400
    assert ask(f"{inbox.url}/webhook/x", b"x" * ((1 << 20) + 1))[0] == 413


def test_the_page_has_the_newest_last_and_one_audience_if_asked(inbox):
    inbox.send("-1001", "satu")
    inbox.send("-1002", "dua <script>")

    code, page = ask(f"{inbox.url}/")
    assert (code, page.index("satu") < page.index("dua &lt;script&gt;")) == (200, True)
    assert "Selasa, 24 Nov 2026" in page
    assert "02.07.00 WIB" in page
    assert "satu" not in ask(f"{inbox.url}/?chat=csirt")[1]
    assert "<script" not in ask(f'{inbox.url}/?chat="><script>')[1]
    assert [m["plain"] for m in json.loads(ask(f"{inbox.url}/messages.json")[1])] == ["satu", "dua <script>"]


def test_an_empty_inbox_says_what_will_come(inbox):
    assert "Belum ada pesan." in inbox.page()


def test_a_page_of_another_name_can_not_read(inbox):
    assert ask(f"{inbox.url}/", Host="evil.example:80")[0] == 421
    assert ask(f"{inbox.url}/", Host="localhost:80")[0] == 200


def test_a_messages_link_finds_its_runbook(inbox):
    code, page = ask(f"{inbox.url}/runbook")
    assert (code, '<h2 id="SiteDown">' in page) == (200, True)


def test_other_addresses_are_not_found(inbox):
    assert ask(f"{inbox.url}/x")[0] == 404
    assert ask(f"{inbox.url}/bot1:x/deleteMessage", b"{}")[0] == 404


def test_it_runs_by_itself_and_ends_when_told():
    with subprocess.Popen([sys.executable, "-m", "central.inbox", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        assert ask(url)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
