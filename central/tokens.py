"""Who a site is: `site: sha256-of-its-token`, a line each, in one file; read again when it changes. `ronda central token` adds one.

Law: the file holds no token, only hashes, and a token is shown once; a broken new file changes nothing and is said. A site may have two
lines, while its token is being changed.
"""

import argparse
import hashlib
import logging
import os
import re
import secrets
import sys
import time
from pathlib import Path

log = logging.getLogger("ronda.gateway")

ON_THE_BOX = "/etc/ronda/token"
MAX_BYTES = 1 << 20
_LINE = re.compile(r'([a-z0-9-]{1,40})\s*:\s*"?([0-9a-f]{64})"?')


class TokensError(Exception):
    """The file can't be used; str() says where and why."""


def parse(text: str, name: str) -> dict[str, str]:
    """hash → site. Raises TokensError with all that is wrong."""
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        match = _LINE.fullmatch(said)
        if match and found.setdefault(match[2], match[1]) != match[1]:
            problems.append(f"{name}:{number}: {match[1]} has the same token as {found[match[2]]}")
        elif said and not match:
            problems.append(f"{name}:{number}: not `site: sha256` (64 hexadecimal digits of its token, without line break)")
    if problems:
        raise TokensError("\n".join(problems))
    return found


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def issue(path: Path, site: str, day: str) -> tuple[str, int]:
    """A new token for the site, its hash added to the file; and how many the site had already. Raises TokensError, OSError."""
    if not re.fullmatch(r"[a-z0-9-]{1,40}", site):
        raise TokensError(f'"{site}" is not the name of a site (as in the inventory: a-z, 0-9, -)')
    text = path.read_text() if path.exists() else ""
    had = [*parse(text, str(path)).values()].count(site)
    token = secrets.token_hex(32)
    line = f"{site}: {hashed(token)}  # {day}\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "w") as f:  # whoever reads hashes of random numbers has learnt nothing
        f.write(line if not text or text.endswith("\n") else f"\n{line}")
        f.flush()
        os.fsync(f.fileno())
    return token, had


def token_command(args: argparse.Namespace) -> int:
    """`ronda central token SITE`: the token alone to standard output, what to do with it beside it."""
    try:
        token, had = issue(args.tokens, args.site, time.strftime("%Y-%m-%d"))
    except (TokensError, UnicodeDecodeError) as e:
        print(f"ronda central token: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        print(f"ronda central token: {args.tokens}: {e.strerror}", file=sys.stderr)
        return 2
    print(token)
    print(
        f"Simpan di kotak {args.site} sebagai {ON_THE_BOX} (chmod 640, grup ronda); token ini tidak ditampilkan lagi.\n"
        f"Keep it on {args.site}'s box as {ON_THE_BOX} (chmod 640, group ronda); it is not shown again. Its hash is in {args.tokens}.",
        file=sys.stderr,
    )
    if had:
        print(
            f"Token {args.site} yang lama masih berlaku: hapus barisnya setelah kotak memakai yang baru.\n"
            f"Its older ones ({had}) still hold: take their lines out once the box has the new one.",
            file=sys.stderr,
        )
    return 0


class Tokens:
    """Raises TokensError at the beginning; afterwards the old file stays in force, and `problem` says why."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._seen = self._stat()
        self._sites = self._read()

    def site(self, authorization: str) -> str:
        """The site whose bearer token this is; empty: nobody's."""
        self._renew()
        scheme, _, token = authorization.partition(" ")
        return self._sites.get(hashed(token.strip()), "") if scheme.lower() == "bearer" and token.strip() else ""

    def _renew(self) -> None:
        now = self._stat()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._sites, self.problem = self._read(), ""
            log.info("%s was read again: %d tokens", self.path, len(self._sites))
        except TokensError as e:
            self.problem = str(e)
            log.error("the old tokens stay in force: %s", e)

    def _read(self) -> dict[str, str]:
        try:
            with self.path.open("rb") as f:
                return parse(f.read(MAX_BYTES).decode(), str(self.path))
        except OSError as e:
            raise TokensError(f"{self.path} can't be read: {e.strerror}") from None
        except UnicodeDecodeError:
            raise TokensError(f"{self.path} is not UTF-8 text") from None

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
