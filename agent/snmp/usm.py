"""The user-based security model of SNMPv3: keys from passwords, digests, privacy (RFC 3414, 3826, 7860).

Law: pure. A password is stretched once (a million bytes are hashed for it); what is done for a message is cheap, whatever engine it names,
so that who sends invented engines costs no more than who sends others. `cryptography` is imported only where something is enciphered.

AES with 192 and 256 bits where the hash is shorter than the key: stretched as net-snmp does (draft-blumenthal-aes-usm-04).
"""

import hashlib
import hmac
from typing import Any, NamedTuple

from agent.snmp.wire import Credentials

HASHES = {"md5": "md5", "sha": "sha1", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
DIGESTS = {"none": 0, "md5": 12, "sha": 12, "sha224": 16, "sha256": 24, "sha384": 32, "sha512": 48}  # bytes of it that are sent
KEYS = {"des": 16, "aes": 16, "aes192": 24, "aes256": 32}
STRETCHED = 1 << 20


class Unusable(OSError):  # noqa: N818  (it is read as a sentence)
    """These credentials can't be used here; str() says why."""


class User(NamedTuple):
    """Somebody's keys, not yet bound to an engine."""

    name: bytes
    auth: str
    privacy: str
    auth_key: bytes
    privacy_key: bytes

    def __repr__(self) -> str:
        return f"User(auth={self.auth!r}, privacy={self.privacy!r}, <secret>)"

    @property
    def level(self) -> int:
        """The flags of a message that is as safe as these keys allow: 1 authenticated, 2 private."""
        return (self.auth != "none") | (self.privacy != "none") << 1

    def digest(self, message: bytes, engine: bytes) -> bytes:
        name = HASHES[self.auth]
        return hmac.digest(localized(name, self.auth_key, engine), message, name)[: DIGESTS[self.auth]]


def user(credentials: Credentials) -> User:
    """Raises Unusable."""
    if credentials.privacy != "none":
        if credentials.auth == "none":
            raise Unusable("privacy needs authentication too (RFC 3414)")
        _ciphers()
    auth = HASHES.get(credentials.auth, "")
    return User(
        credentials.user.encode(),
        credentials.auth,
        credentials.privacy,
        stretched(auth, credentials.auth_password) if auth else b"",
        stretched(auth, credentials.privacy_password) if credentials.privacy != "none" else b"",
    )


def stretched(name: str, password: str) -> bytes:
    """RFC 3414 section A.2. Raises Unusable for one that is too short to be one (section 11.2)."""
    raw = password.encode()
    if len(raw) < 8:
        raise Unusable("an SNMPv3 password has at least eight characters")
    return hashlib.new(name, (raw * (STRETCHED // len(raw) + 1))[:STRETCHED], usedforsecurity=False).digest()


def localized(name: str, key: bytes, engine: bytes) -> bytes:
    """RFC 3414 section 2.6: whoever reads the keys of one device has none for another."""
    return hashlib.new(name, key + engine + key, usedforsecurity=False).digest()


# -- privacy ----------------------------------------------------------------------------------------------------------------------


def decipher(who: User, engine: bytes, boots: int, seconds: int, salt: bytes, data: bytes) -> bytes:
    """What `data` says. Raises ValueError for what can't be deciphered; a wrong key gives garbage."""
    if len(salt) != 8 or (who.privacy == "des" and len(data) % 8):
        raise ValueError("not enciphered as the user's privacy has it")
    done: bytes = _cipher(who, engine, boots, seconds, salt).decryptor().update(data)
    return done


def encipher(who: User, engine: bytes, boots: int, seconds: int, salt: bytes, data: bytes) -> bytes:
    """DES fills up to whole blocks (RFC 3414 section 8.1.1.2)."""
    padded = data + bytes(-len(data) % 8) if who.privacy == "des" else data
    done: bytes = _cipher(who, engine, boots, seconds, salt).encryptor().update(padded)
    return done


def _cipher(who: User, engine: bytes, boots: int, seconds: int, salt: bytes) -> Any:
    ciphers, algorithms, cfb, cbc, triple = _ciphers()
    name = HASHES[who.auth]
    key = localized(name, who.privacy_key, engine)
    while len(key) < KEYS[who.privacy]:
        key += hashlib.new(name, key, usedforsecurity=False).digest()
    key = key[: KEYS[who.privacy]]
    if who.privacy == "des":
        return ciphers.Cipher(triple.TripleDES(key[:8] * 3), cbc(bytes(a ^ b for a, b in zip(key[8:], salt, strict=True))))
    return ciphers.Cipher(algorithms.AES(key), cfb(boots.to_bytes(4, "big") + seconds.to_bytes(4, "big") + salt))


def _ciphers() -> tuple[Any, Any, Any, Any, Any]:
    """Of `cryptography`: its ciphers, algorithms, CFB, CBC, and where it keeps DES. Raises Unusable."""
    try:
        from cryptography.hazmat.primitives import ciphers
        from cryptography.hazmat.primitives.ciphers import algorithms, modes
    except ImportError:
        raise Unusable("SNMPv3 with privacy needs the package python3-cryptography (pip install ronda[snmpv3])") from None
    try:
        from cryptography.hazmat.decrepit.ciphers import algorithms as old
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
    except ImportError:  # Debian 12 has 38: there both are where they began
        return ciphers, algorithms, modes.CFB, modes.CBC, algorithms
    return ciphers, algorithms, CFB, modes.CBC, old
