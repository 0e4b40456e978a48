"""The web.config.file: TLS, client certificates, passwords, headers and a rate limit, in the Prometheus exporter-toolkit's schema.

Law: what this server can't do is refused with a sentence, never taken in silence: a listener that is less guarded than its file
says is worse than none. The file, certificate and key are read again when they change; a broken new one changes nothing and is
shown. Passwords and hashes never stand in a message. Schema: github.com/prometheus/exporter-toolkit, docs/web-configuration.md.
"""

import dataclasses
import ipaddress
import logging
import re
import ssl
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from agent.secret import SecretError, check_private
from agent.structure import ConfigError, Duration, Problem, Scalar, Text, load

log = logging.getLogger("ronda.web")

HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
MAX_COST = 14  # of bcrypt: about a second a try here; beyond it a login would time out
MAX_USERS = 100
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
_CIPHERS = {
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def _one_of(options: Iterable[str]) -> Any:
    known = list(options)

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"is not one of {', '.join(known)}")
        return text

    return parse


def _header_value(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]{0,1000}[\x21-\x7e])?", text):
        raise ValueError
    return text


Version = Annotated[str, Scalar("a TLS version", _one_of(_VERSIONS))]
Cipher = Annotated[str, Scalar("a cipher suite", _one_of(_CIPHERS))]
Curve = Annotated[str, Scalar("a curve", _one_of(_CURVES))]
HeaderName = Annotated[str, Scalar("a header", _one_of(HEADERS))]
HeaderValue = Annotated[str, Scalar("a header's value", _header_value, "printable ASCII on one line")]
AuthType = Literal["NoClientCert", "RequestClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TlsConfig:
    cert_file: Text = ""
    key_file: Text = ""
    client_auth_type: AuthType = "NoClientCert"
    client_ca_file: Text = ""
    client_allowed_sans: list[Text] = dataclasses.field(default_factory=list)
    min_version: Version = "TLS12"  # 1.0 and 1.1 are gone: RFC 8996
    max_version: Version = "TLS13"
    cipher_suites: list[Cipher] = dataclasses.field(default_factory=list)
    curve_preferences: list[Curve] = dataclasses.field(default_factory=list)
    prefer_server_cipher_suites: bool = True

    def problems(self) -> Iterable[tuple[str, str]]:
        for name in ("cert_file", "key_file"):
            if not getattr(self, name):
                yield name, "is missing: TLS needs a certificate and its key"
        yield from self._client_problems()
        if _VERSIONS[self.min_version] > _VERSIONS[self.max_version]:
            yield "max_version", "is older than min_version"
        if len(self.curve_preferences) > 1:
            yield "curve_preferences", "Ronda can hold to one curve only; name one, or leave the key out for all safe ones"

    def _client_problems(self) -> Iterable[tuple[str, str]]:
        kind = self.client_auth_type
        verifies = kind in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
        if kind in ("RequestClientCert", "RequireAnyClientCert"):
            better = "RequireAndVerifyClientCert" if kind == "RequireAnyClientCert" else "VerifyClientCertIfGiven"
            yield "client_auth_type", f"{kind} would take certificates that nobody vouches for; use {better} with client_ca_file"
        elif verifies and not self.client_ca_file:
            yield "client_ca_file", f"is missing: {kind} needs the CA to verify with"
        elif not verifies and (self.client_ca_file or self.client_allowed_sans):
            yield "client_auth_type", "is NoClientCert, so client_ca_file and client_allowed_sans would do nothing"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpConfig:
    http2: bool = True  # taken and of no effect: this server speaks HTTP/1.1 to everybody
    headers: dict[HeaderName, HeaderValue] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RateConfig:
    """At most `burst` requests at once, then one every `interval`."""

    interval: Duration
    burst: int = 1

    def problems(self) -> Iterable[tuple[str, str]]:
        if not 1 <= self.burst <= 100_000:
            yield "burst", "must be between 1 and 100000"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebFile:
    tls_server_config: TlsConfig | None = None
    http_server_config: HttpConfig = dataclasses.field(default_factory=HttpConfig)
    basic_auth_users: dict[str, str] = dataclasses.field(default_factory=dict)
    rate_limit: RateConfig | None = None

    def problems(self) -> Iterable[tuple[str, str]]:
        if len(self.basic_auth_users) > MAX_USERS:
            yield "basic_auth_users", f"has more than {MAX_USERS} users"
        for user, hashed in self.basic_auth_users.items():
            if not user or ":" in user or not user.isprintable():
                yield "basic_auth_users", "has a user with an empty name, or one that basic auth can't carry (RFC 7617: no colon)"
            elif not _BCRYPT.fullmatch(hashed):
                yield f"basic_auth_users.{user[:40]}", "is not a bcrypt hash; make one with: htpasswd -nBC 10 '' | tr -d ':'"
            elif int(hashed[4:6]) > MAX_COST:
                yield f"basic_auth_users.{user[:40]}", f"has bcrypt cost {int(hashed[4:6])}; at most {MAX_COST}, or a login takes too long"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A file in force. `warnings` are for people."""

    file: WebFile = dataclasses.field(default_factory=WebFile)
    tls: ssl.SSLContext | None = None
    warnings: tuple[str, ...] = ()

    def admits(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a client with this verified certificate (empty: it gave none) is one of client_allowed_sans."""
        wanted = self.file.tls_server_config.client_allowed_sans if self.file.tls_server_config else []
        if not wanted or not certificate:
            return True
        held = {_same_ip(str(value)) for _, value in certificate.get("subjectAltName", ())}
        return any(_same_ip(san) in held for san in wanted)


def _same_ip(text: str) -> str:
    """Addresses have many spellings; one for each."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def load_web(path: Path) -> Loaded:
    """Reads the file and all that it names. Raises ConfigError."""
    return _built(path, load(path, WebFile))


def _built(path: Path, file: WebFile) -> Loaded:
    warnings = []
    found = _stat(path)
    if file.basic_auth_users and found and found[3] & stat.S_IROTH:
        warnings.append(f"{path.name} holds password hashes and can be read by everybody on this box; chmod o-r {path}")
    tls = file.tls_server_config
    return Loaded(file, _context(path, tls) if tls else None, tuple(warnings))


def _context(path: Path, tls: TlsConfig) -> ssl.SSLContext:
    _check_files(path, tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    if tls.cipher_suites:
        context.set_ciphers(":".join(_CIPHERS[c] for c in tls.cipher_suites))
    if tls.curve_preferences:
        context.set_ecdh_curve(_CURVES[tls.curve_preferences[0]])
    _load_chain(context, path, tls)
    if tls.client_ca_file:
        _load_ca(context, path, tls)
    return context


def _check_files(path: Path, tls: TlsConfig) -> None:
    for field in ("cert_file", "key_file", "client_ca_file"):
        name = getattr(tls, field)
        if not name:
            continue
        try:
            with (path.parent / name).open("rb") as f:
                f.read(1)
            if field == "key_file":
                check_private(path.parent / name)
        except SecretError as e:
            raise _problem(path, field, str(e)) from None
        except OSError as e:
            raise _problem(path, field, f"{name} can't be read: {e.strerror}") from None


class _EncryptedError(ValueError):
    """The key wants a passphrase."""


def _no_passphrase() -> str:
    raise _EncryptedError  # without this OpenSSL would ask on the terminal, and wait for ever


def _load_chain(context: ssl.SSLContext, path: Path, tls: TlsConfig) -> None:
    try:
        context.load_cert_chain(path.parent / tls.cert_file, path.parent / tls.key_file, _no_passphrase)
    except _EncryptedError:
        raise _problem(path, "key_file", f"{tls.key_file} is encrypted; Ronda has no way to ask for its passphrase") from None
    except (ssl.SSLError, OSError) as e:
        said = getattr(e, "reason", None) or "they are not a certificate and its key in PEM"
        if said == "KEY_VALUES_MISMATCH":
            said = f"the key is not that of the certificate {tls.cert_file}"
        raise _problem(path, "cert_file", f"{tls.cert_file} and {tls.key_file} can't be used: {said}") from None


def _load_ca(context: ssl.SSLContext, path: Path, tls: TlsConfig) -> None:
    try:
        context.load_verify_locations(path.parent / tls.client_ca_file)
    except (ssl.SSLError, OSError) as e:
        raise _problem(path, "client_ca_file", f"{tls.client_ca_file} can't be used: {getattr(e, 'reason', None) or e}") from None
    context.verify_mode = ssl.CERT_REQUIRED if tls.client_auth_type == "RequireAndVerifyClientCert" else ssl.CERT_OPTIONAL


def _problem(path: Path, field: str, message: str) -> ConfigError:
    return ConfigError([Problem(path.name, _line(path, field), f"tls_server_config.{field}", message)])


def _line(path: Path, key: str) -> int:
    """The line that `key` stands on: each key of this schema has a name of its own."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError):
        return 0
    return next((i for i, line in enumerate(lines, 1) if re.search(rf"\b{key}\b", line.split("#")[0])), 0)


Stat = tuple[int, int, int, int] | None


class WebConfig:
    """The file in force: `current()` looks whether it changed (a stat a file), and reads it again if so.

    `problem` says what is wrong with the newest state of the files; empty: it is in force.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.problem = ""
        self._loaded = Loaded()
        self._seen: dict[Path, Stat] = {}

    def load(self) -> None:
        """The first reading. Raises ConfigError."""
        if self.path:
            self._loaded = self._read(self.path)

    def current(self) -> Loaded:
        """What holds now."""
        if self.path and any(_stat(path) != seen for path, seen in self._seen.items()):
            try:
                self._loaded = self._read(self.path)
                self.problem = ""
                log.info("%s was read again", self.path.name)
            except ConfigError as e:
                self.problem = f"{e}".replace("\n", "; ")
                log.error("the old web config stays in force: %s", self.problem)
        return self._loaded

    def _read(self, path: Path) -> Loaded:
        """Notes the state of each file before reading it: a change in the middle is seen the next time, a broken file is read once."""
        self._seen = {**self._seen, path: _stat(path)}
        file = load(path, WebFile)
        tls = file.tls_server_config
        names = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        self._seen = {p: _stat(p) for p in (path, *(path.parent / name for name in names if name))} | {path: self._seen[path]}
        return _built(path, file)

    def problems(self) -> list[str]:
        return [*([self.problem] if self.problem else []), *self._loaded.warnings]


def _stat(path: Path) -> Stat:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_mtime_ns, s.st_size, s.st_ino, s.st_mode
