"""The file of SNMP credentials: strict, private, and silent about what it holds."""

from pathlib import Path

import pytest

from agent.secret import SecretError
from agent.snmp.credentials import load
from agent.snmp.wire import Credentials
from agent.structure import ConfigError


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "snmp.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_community(tmp_path: Path) -> None:
    assert load(written(tmp_path, "community: rahasia\n")) == Credentials("2c", "rahasia")


def test_a_user_with_keys(tmp_path: Path) -> None:
    text = "version: 3\nuser: ronda\nauth: sha256\nauth_password: '*bintang*'\nprivacy: aes\nprivacy_password: 12345678\ncontext: kantor\n"
    found = load(written(tmp_path, text))
    assert found == Credentials("3", "", "ronda", "sha256", "*bintang*", "aes", "12345678", "kantor")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2c\n", "snmp.yaml:1: community: is needed in versions 1 and 2c"),
        ("version: 3\n", "user: is needed in version 3"),
        (f"version: 3\nuser: {'rahasia' * 5}\n", "snmp.yaml:2: user: has at most 32 bytes"),
        ("version: 3\nuser: a\nauth: sha\nauth_password: rahasia\n", "snmp.yaml:4: auth_password: has at least eight characters"),
        ("version: 3\nuser: a\nprivacy: aes\nprivacy_password: rahasia-sekali\n", "auth: is needed where there is privacy"),
        ("comunity: rahasia\n", "snmp.yaml:1: comunity: unknown key (did you mean community?)"),
        ("version: 4\ncommunity: rahasia\n", "snmp.yaml:1: version: what stands here is not one of 1, 2c, 3"),
        ("version: 3\nuser: a\nauth: rahasia\n", "snmp.yaml:3: auth: what stands here is not one of none, md5"),
        ('version: 3\nuser: a\nauth: "rah\\"asia"\n', "snmp.yaml:3: auth: what stands here is not one of none, md5"),
        ("community: *rahasia\n", "snmp.yaml:1: is not YAML: found undefined alias (write passwords in 'quotes')"),
        ('community: "rahasia\\x01"\n', "snmp.yaml:1: community: what stands here is not a text"),
        ("community: [rahasia]\n", "must be a single value"),
        ("rahasia\n", "must be a mapping"),
    ],
)
def test_what_is_wrong_is_told_without_what_is_secret(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        load(written(tmp_path, text))
    assert said in str(e.value)
    assert "asia" not in str(e.value).replace("asi (", "")


def test_a_file_that_strangers_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="chmod 640"):
        load(written(tmp_path, "community: rahasia\n", 0o644))


def test_credentials_show_no_secret() -> None:
    assert "rahasia" not in repr(Credentials("3", "rahasia", "a", "sha", "rahasia", "aes", "rahasia"))
