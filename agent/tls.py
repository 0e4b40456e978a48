"""TLS as a client: trust from config, a handshake on a socket, and what the certificates say, also when they are wrong.

Law: one context per distinct config, made when first needed (its CA store costs a megabyte). A site in order costs one handshake; only
when verification fails a second one, which verifies nothing, may fetch the chain: OpenSSL forgets the chain that it refused. What we
can't do (no CA certificates, a key that is not ours to read) is an OSError; what the peer does wrong is a Failure, tls or certificate.
"""

import asyncio
import dataclasses
import errno
import functools
import re
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from agent import sockets
from agent.collector import Failure
from agent.secret import SecretError, check_private
from agent.structure import Host, Scalar
from agent.wire.x509 import Certificate, X509Error, parse

CA_DIR = "etc/ssl/certs"  # of Debian's ca-certificates: certificates by the hash of their subject; looked up as needed, so it loads nothing
BORN = 1_704_067_200.0  # 2024-01-01: a clock before Ronda's own years is wrong for sure
WHY = ("expired", "not_yet_valid", "name", "self_signed", "untrusted", "revoked", "other")

# X509_V_ERR_* of OpenSSL's x509_vfy.h, the same in 1.1.1 and 3.x. 19 is a chain whose root we don't know: to its owner that is "untrusted".
_WHY_BY_CODE = {
    9: "not_yet_valid", 10: "expired", 18: "self_signed",
    2: "untrusted", 19: "untrusted", 20: "untrusted", 21: "untrusted", 24: "untrusted", 27: "untrusted", 33: "untrusted",
    23: "revoked", 62: "name", 64: "name",
}  # fmt: skip
_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
_WORDS = {  # OpenSSL's reasons, in words that say what to look at
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "HTTP_REQUEST": "it does not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "it speaks only a TLS older than we take",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it has no TLS version in common with us",
    "NO_PROTOCOLS_AVAILABLE": "it has no TLS version in common with us",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the handshake: no cipher in common, or it wants a client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate (tls.cert_file)",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know this name (tls.server_name)",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our client certificate",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection in the midst of it",
}


def _file(text: str) -> str:
    if not text.startswith("/") or len(text) > 500 or re.search(r"[\x00-\x1f]", text):
        raise ValueError
    return text


File = Annotated[str, Scalar("the path of a file", _file, "from the root: /etc/ronda/…")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientTls:
    """`tls:` of whatever connects. Files are read again when they change; no path means the box's own CA certificates."""

    verify: bool = True
    ca_file: File | None = None  # trust these instead of the box's CAs; a self-signed certificate itself will do
    server_name: Host | None = None  # expect this name instead of the URL's
    cert_file: File | None = None
    key_file: File | None = None  # empty: the key is in cert_file
    min_version: Literal["TLS1.2", "TLS1.3"] = "TLS1.2"

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.key_file and not self.cert_file:
            yield "key_file", "needs a cert_file"
        for field, load in (("ca_file", _load_ca), ("cert_file", _load_own)):
            try:
                load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self)
            except OSError as e:
                yield field, str(e)


@dataclasses.dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake showed. `chain` runs from the leaf up: as verified (with the root) when `verified`, else as the peer sent it.

    why: one of WHY, "" when nothing is wrong or nothing was verified; unreadable: certificates in the chain that were not to be parsed
    """

    version: str
    cipher: str
    verified: bool
    chain: tuple[Certificate, ...]
    why: str = ""
    unreadable: int = 0

    @property
    def earliest(self) -> float | None:
        return min((c.not_after for c in self.chain), default=None)


class Distrusted(Failure):
    """A Failure("certificate"), with the word of WHY; raised by `handshake` when the peer's certificate is refused."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__("certificate", text)
        self.why = why


# -- trust ------------------------------------------------------------------------------------------------------------------------


def client_context(config: ClientTls, root: Path, *, verify: bool = True) -> ssl.SSLContext:
    """The context for `config`, shared. `root` is where etc/ssl/certs is. Raises OSError when we can't verify or show what is asked."""
    files = tuple(_stamp(f) for f in (config.ca_file, config.cert_file, config.key_file) if f)
    return _context(config, root, verify and config.verify, files)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError as e:
        raise SecretError(f"{path} can't be read: {e.strerror}") from None
    return found.st_mtime_ns, found.st_ino


@functools.lru_cache(maxsize=32)
def _context(config: ClientTls, root: Path, verify: bool, _files: tuple[tuple[int, int], ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[config.min_version]
    context.set_alpn_protocols(["http/1.1"])
    _load_own(context, config)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca_file:
        _load_ca(context, config)
    else:
        _load_box(context, root / CA_DIR)
    return context


def _load_box(context: ssl.SSLContext, directory: Path) -> None:
    if not directory.is_dir() or not any(re.fullmatch(r"[0-9a-f]{8}\.\d+", f.name) for f in directory.iterdir()):
        raise FileNotFoundError(f"no CA certificates in {directory}: install ca-certificates, or give tls.ca_file")
    context.load_verify_locations(capath=str(directory))


def _load_ca(context: ssl.SSLContext, config: ClientTls) -> None:
    if not config.ca_file:
        return
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # who names a certificate trusts it, though it be no root
    try:
        context.load_verify_locations(cafile=config.ca_file)
    except ssl.SSLError:
        raise OSError(f"{config.ca_file} holds no certificate (PEM)") from None
    except OSError as e:
        raise OSError(f"{config.ca_file} can't be read: {e.strerror}") from None


def _load_own(context: ssl.SSLContext, config: ClientTls) -> None:
    """Loads the client certificate. A key that has a passphrase is refused rather than asked for on the terminal."""
    if not config.cert_file:
        return
    check_private(config.key_file or config.cert_file)
    try:
        context.load_cert_chain(config.cert_file, config.key_file, password=lambda: b"")
    except ssl.SSLError as e:
        raise OSError(f"{config.cert_file} and its key can't be used: {e.reason or 'no PEM, or a key with a passphrase'}") from None
    except OSError as e:
        raise OSError(f"{config.cert_file} or its key can't be read: {e.strerror}") from None


# -- the handshake ----------------------------------------------------------------------------------------------------------------


async def handshake(sock: socket.socket, context: ssl.SSLContext, server_name: str, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """TLS over a connected, non-blocking socket, which it takes over and closes on failure. The caller sets the deadline.

    `session`: of an earlier connection with this context, to be resumed if the peer likes; whom we talk to was verified then.
    Raises Distrusted (certificate), Failure: tls, reset, timeout, ….
    """
    what = f"TLS with {server_name}"
    try:
        tls = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False, session=session)
    except (OSError, ValueError) as e:
        sock.close()
        raise failure_from(e, what) if isinstance(e, OSError) else Failure("tls", f"{what}: {e}") from None
    try:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await sockets.readable(tls)
            except ssl.SSLWantWriteError:
                await writable(tls)
            else:
                return tls
    except ssl.SSLCertVerificationError as e:
        tls.close()
        raise Distrusted(_WHY_BY_CODE.get(e.verify_code, "other"), f"{what}: {e.verify_message}") from None
    except OSError as e:
        tls.close()
        raise failure_from(e, what) from None
    except BaseException:
        tls.close()
        raise


def failure_from(error: OSError, what: str = "") -> Failure:
    """As agent.sockets.failure_from, and TLS's own errors as `tls`, in words where we have some."""
    prefix = f"{what}: " if what else ""
    if isinstance(error, ssl.SSLError):
        closed = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))  # the second in Debian 12's Python, without a reason
        reason = "UNEXPECTED_EOF_WHILE_READING" if closed else error.reason or ""
        return Failure("tls", prefix + _WORDS.get(reason, reason.replace("_", " ").lower() or "TLS failed"))
    if error.errno == errno.ENOTCONN:  # it was reset before we got to say a word
        return Failure("reset", f"{prefix}the connection was reset")
    return sockets.failure_from(error, what)


async def writable(sock: socket.socket) -> None:
    """Returns when there is room to send. The caller sets the deadline."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(sock)


# -- the facts --------------------------------------------------------------------------------------------------------------------


def facts(tls: ssl.SSLSocket, why: str = "") -> TlsFacts:
    """What the finished handshake showed; `why` says why an earlier one that verified was refused."""
    verified = tls.context.verify_mode == ssl.CERT_REQUIRED
    chain, unreadable = _read_chain(_chain(tls, verified))
    cipher = tls.cipher()
    return TlsFacts(tls.version() or "", cipher[0] if cipher else "", verified, chain, why, unreadable)


def _chain(tls: ssl.SSLSocket, verified: bool) -> Sequence[bytes]:
    """DER, leaf first. Public since Python 3.13; before, the same call of the object underneath, which gives objects instead of bytes."""
    name = "get_verified_chain" if verified else "get_unverified_chain"
    if hasattr(tls, name):
        return list(getattr(tls, name)())
    inner: Any = tls._sslobj  # type: ignore[attr-defined]
    return [c.public_bytes(2) for c in getattr(inner, name)() or ()]  # 2: _ssl.ENCODING_DER


@functools.lru_cache(maxsize=64)
def _parsed(der: bytes) -> Certificate | None:
    """Parsing costs 0.1 ms a certificate, and a site shows the same ones for months."""
    try:
        return parse(der)
    except X509Error:
        return None


def _read_chain(chain: Sequence[bytes]) -> tuple[tuple[Certificate, ...], int]:
    found = [_parsed(der) for der in chain]
    return tuple(c for c in found if c), found.count(None)


def explain(failure: Distrusted, found: TlsFacts | None, now: float) -> str:
    """The refusal with the facts a person needs: which certificate, from when until when, and whether our own clock may be to blame."""
    text = failure.detail
    if found and found.chain:
        shown = _culprit(found.chain, failure.why, now)
        names = ", ".join(shown.names[:3]) or shown.subject.short
        text += f"; that of {names}, issued by {shown.issuer.short}, holds from {_day(shown.not_before)} to {_day(shown.not_after)}"
    if failure.why in ("expired", "not_yet_valid"):
        text += f"; this box's clock says {_day(now)}"
        if now < BORN:
            text += ", which is wrong: set the clock, the certificate may be in order"
    return text


def _culprit(chain: Sequence[Certificate], why: str, now: float) -> Certificate:
    wrong = {"expired": lambda c: c.not_after < now, "not_yet_valid": lambda c: c.not_before > now}.get(why, lambda _: True)
    return next(filter(wrong, chain), chain[0])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
