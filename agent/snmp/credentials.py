"""The file of SNMP credentials: a small YAML of its own, apart from configs and profiles, that strangers on the box can't read.

    {version: "3", user: ronda, auth: sha256, auth_password: …, privacy: aes, privacy_password: …}
    {version: 2c, community: …}

Law: no message holds anything of what the file says but the names of its keys.
"""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from agent.secret import check_private
from agent.snmp.wire import Credentials
from agent.structure import ConfigError, Text
from agent.structure import load as load_yaml


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """The fields of agent/snmp/wire.py's Credentials."""

    version: Literal["1", "2c", "3"] = "2c"
    community: Text = ""
    user: Text = ""
    auth: Literal["none", "md5", "sha", "sha224", "sha256", "sha384", "sha512"] = "none"
    auth_password: Text = ""
    privacy: Literal["none", "des", "aes", "aes192", "aes256"] = "none"
    privacy_password: Text = ""
    context: Text = ""

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.version != "3":
            if not self.community:
                yield "community", "is needed in versions 1 and 2c (write the word that the device has as its community)"
            return
        if not self.user:
            yield "user", "is needed in version 3 (write the user that the device has for us)"
        if len(self.user.encode()) > 32:
            yield "user", "has at most 32 bytes (RFC 3414): no device can have a longer one"
        for what in ("auth", "privacy"):
            if getattr(self, what) != "none" and len(getattr(self, f"{what}_password")) < 8:
                yield (
                    f"{what}_password",
                    f"has at least eight characters (RFC 3414): set a longer one on the device, and here; without it write {what}: none",
                )
        if self.privacy != "none" and self.auth == "none":
            yield "auth", "is needed where there is privacy (RFC 3414): write auth and auth_password, too"


def load(path: Path) -> Credentials:
    """Raises SecretError: can't be read, or others can; ConfigError: isn't right."""
    check_private(path)
    try:
        return Credentials(**dataclasses.asdict(load_yaml(path, Schema)))
    except ConfigError as e:
        raise ConfigError([p._replace(message=_without_values(p.message)) for p in e.problems]) from None


def _without_values(message: str) -> str:
    """A password may stand where another word should; YAML takes one that begins with * for a reference, and names it."""
    if message.startswith("is not YAML"):
        return re.sub(r"'.*'", "…", message, flags=re.DOTALL) + " (write passwords in 'quotes')"
    return re.sub(r'^".*"', "what stands here", message, flags=re.DOTALL)
