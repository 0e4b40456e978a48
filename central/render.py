"""One inventory → the whole centre's files; written so that nothing half-done and nothing stale is ever read.

Law: the same input gives the same bytes. Only files that an earlier rendering wrote are replaced or removed; a manifest in the
directory knows them. No difference shown to people holds a secret.
"""

import difflib
import hashlib
import importlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from central.inventory import Inventory
from central.target import Target

PARTS = ("agents", "prometheus", "alertmanager", "dashboards")  # each has files(inventory, target)
MANIFEST = ".ronda-rendered"
MANIFEST_HEAD = "# Files that `ronda central render` wrote here, and may replace or remove; each with the SHA-256 of what it wrote."


class RenderError(Exception):
    """A directory that can't be rendered into; str() says why and what to do."""


def render(inventory: Inventory, target: Target) -> dict[str, str]:
    """Every file by its path below the output directory. Raises agent.secret.SecretError where a channel's secret is needed and missing."""
    found: dict[str, str] = {}
    for part in PARTS:
        made: dict[str, str] = importlib.import_module(f"central.{part}").files(inventory, target)
        found |= made
    return dict(sorted(found.items()))


# -- writing ----------------------------------------------------------------------------------------------------------------------


def write(files: Mapping[str, str], out: Path) -> list[str]:
    """Writes all files, each at once or not at all, and removes those of an earlier rendering that are no more.

    Returns the paths that changed. Raises RenderError before anything is touched; OSError where the disk refuses.
    """
    ours = manifest(out)
    _refuse_foreign(files, ours, out)
    changed = [path for path, text in files.items() if _differs(out / path, text)]
    gone = [path for path in ours if path not in files]
    # both the old and the new are ours while we write: a rendering that was interrupted is mended by the next one
    _write_manifest(out, {**ours, **{path: _digest(text) for path, text in files.items()}})
    for path in changed:
        _replace(out / path, files[path])
    for path in gone:
        _remove(out, path)
    _write_manifest(out, {path: _digest(text) for path, text in files.items()})
    return [*changed, *gone]


def manifest(out: Path) -> dict[str, str]:
    """The files of the last rendering with their digests; empty where there was none. Raises RenderError for a strange manifest."""
    if out.exists() and not out.is_dir():
        raise RenderError(f"{out} is no directory")
    try:
        lines = (out / MANIFEST).read_text().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise RenderError(f"{out / MANIFEST} can't be read ({e}); render into another directory") from None
    found = {}
    for line in lines:
        if line.startswith("#") or not line:
            continue
        digest, _, path = line.partition("  ")
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not _inside(path):
            raise RenderError(f"{out / MANIFEST} is not a manifest of ours; render into another directory")
        found[path] = digest
    return found


def _inside(path: str) -> bool:
    """Whether a path stays below the directory it belongs to: a manifest is no licence to remove what lies elsewhere."""
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")


def _refuse_foreign(files: Mapping[str, str], ours: Mapping[str, str], out: Path) -> None:
    """What is already there with the same text harms nobody: it is ours, whatever became of the manifest."""
    foreign = [path for path in files if path not in ours and _exists(out / path) and _differs(out / path, files[path])]
    linked = [path for path in files for parent in _parents(out, path) if parent.is_symlink() or (parent.exists() and not parent.is_dir())]
    if linked:
        raise RenderError(f"{out / linked[0]}: a directory on its way is a link or a file; render into another directory")
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise RenderError(
            f"{out} holds files that `ronda central render` did not write, under names that it needs: {', '.join(foreign[:3])}{more}.\n"
            "Nothing was changed. Move them away, or render into another directory."
        )


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _parents(out: Path, path: str) -> Iterator[Path]:
    parts = path.split("/")[:-1]
    for i in range(len(parts)):
        yield out.joinpath(*parts[: i + 1])


def _differs(path: Path, text: str) -> bool:
    return path.is_symlink() or _read(path) != text


def _read(path: Path) -> str | None:
    """The text of a file; None where there is none that is text."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_manifest(out: Path, digests: Mapping[str, str]) -> None:
    _replace(out / MANIFEST, "\n".join([MANIFEST_HEAD, *(f"{digest}  {path}" for path, digest in sorted(digests.items()))]) + "\n")


def _replace(path: Path, text: str) -> None:
    """The old text or the new one, whatever happens. An admin's choice of mode stays; files with secrets are nobody else's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode(path, text)
    new = path.with_name(f".{path.name[:200]}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w", newline="") as f:
        f.write(text)
        f.flush()
        os.fchmod(f.fileno(), mode)
        os.fsync(f.fileno())
    new.replace(path)


def _mode(path: Path, text: str) -> int:
    secret = bool(secrets_in(text))
    try:
        known = stat.S_IMODE(path.lstat().st_mode) if not path.is_symlink() else 0o644
    except OSError:
        known = 0o644
    return known & 0o640 if secret else known


def _remove(out: Path, path: str) -> None:
    """Removes a file of ours, and the directories that it leaves empty."""
    (out / path).unlink(missing_ok=True)
    for parent in reversed(list(_parents(out, path))):
        try:
            parent.rmdir()
        except OSError:  # not empty
            return


# -- the difference ---------------------------------------------------------------------------------------------------------------


def diff(files: Mapping[str, str], out: Path) -> str:
    """What `write` would change: a summary for people, then a unified diff with secrets masked. Empty: nothing."""
    old = {path: text for path in manifest(out) if (text := _read(out / path)) is not None}
    old |= {path: text for path in files if path not in old and (text := _read(out / path)) is not None}
    paths = [p for p in sorted({*old, *files}) if old.get(p) != files.get(p)]
    if not paths:
        return ""
    masked = secrets_in(*old.values(), *files.values())
    return "\n".join(
        [summary(old, files), "", *(line for path in paths for line in _unified(path, old.get(path), files.get(path), masked))]
    )


def summary(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """`3 files change, 2 are new, 1 goes; 1 new site: dukcapil`."""
    changed = [p for p in new if p in old and old[p] != new[p]]
    added, gone = [p for p in new if p not in old], [p for p in old if p not in new]
    files = [
        f"{len(paths)} file{'' if len(paths) == 1 else 's'} {one if len(paths) == 1 else many}"
        for paths, one, many in ((changed, "changes", "change"), (added, "is new", "are new"), (gone, "goes", "go"))
        if paths
    ]
    sites = [_sites(verb, paths) for verb, paths in (("new", added), ("changed", changed), ("removed", gone))]
    return "; ".join([", ".join(files), *filter(None, sites)])


def _sites(verb: str, paths: Iterable[str]) -> str:
    slugs = [m[1] for path in paths if (m := re.fullmatch(r"agents/(.+)\.yaml", path))]
    more = f" and {len(slugs) - 10} more" if len(slugs) > 10 else ""
    return f"{len(slugs)} {verb} site{'' if len(slugs) == 1 else 's'}: {', '.join(slugs[:10])}{more}" if slugs else ""


def _unified(path: str, old: str | None, new: str | None, masked: Iterable[str]) -> Iterator[str]:
    names = f"old/{path}" if old is not None else "/dev/null", f"new/{path}" if new is not None else "/dev/null"
    before, after = ([] if text is None else text.splitlines() for text in (old, new))
    for line in difflib.unified_diff(before, after, *names, lineterm=""):
        yield mask(line, masked)


SECRET_KEY = re.compile(r"(password|token|secret|credentials|api_key|routing_key|service_key)$")


def secrets_in(*texts: str) -> frozenset[str]:
    """Values under keys that hold secrets, in YAML: `bot_token`, `password`, … (never `…_file`)."""
    found: set[str] = set()
    for text in texts:
        for line in text.splitlines():
            m = re.fullmatch(r"\s*(?:-\s+)?['\"]?([a-z_]+)['\"]?:\s+(\S.*)", line)
            if m and SECRET_KEY.search(m[1]):
                found.add(_scalar(m[2]))
    return frozenset(found - {""})


def _scalar(text: str) -> str:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str) else text


def mask(line: str, secrets: Iterable[str]) -> str:
    """The line without any of the secrets, however they are quoted, and without what a secret key holds."""
    line = re.sub(rf"(['\"]?[a-z_]*{SECRET_KEY.pattern[:-1]}['\"]?:\s+)\S.*", r"\1<secret>", line)
    for secret in sorted(secrets, key=len, reverse=True):
        line = line.replace(secret, "<secret>")
    return re.sub(r"(?<=://)[^/@\s]*@", "<secret>@", line)
