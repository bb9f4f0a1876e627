"""The users of a server: a file of names and argon2 hashes, read anew whenever it changes.

    # who works with our microscope
    maria:$argon2id$v=19$m=65536,t=3,p=4$...

One user per line; what follows `#` at the start of a line is a comment. `zoo user` writes the file.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError, MissingDependencyError, MissingFileError, UsageError
from biozoo.files import writing

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST_PASSWORD = 8
_LONGEST = 1024  # characters of a password; hashing more would only cost time
_NAME = re.compile(r"[\w.@+-]{1,64}")


class UserFile:
    """Who may come in; a user who is removed from the file is out with the next request.

    Parameters
    ----------
    path
        One `name:$argon2id$...` line per user.

    Raises
    ------
    MissingFileError, UsageError
        At the start: there is no such file, nobody is in it, or a line is none of a user. Later
        a faulty line is left out (and logged), and without the file nobody comes in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = _state(path)
        self._users: Mapping[str, str] = read_users(path)
        if not self._users:
            raise UsageError(f"There is nobody in {path}. Add somebody: zoo user add NAME "
                             f"--file {path}")  # fmt: skip

    @property
    def users(self) -> Mapping[str, str]:
        """Name -> hash, as the file says now."""
        state = _state(self.path)
        with self._lock:
            if state != self._seen:
                users, faults = _read_what_can_be(self.path)
                for fault in faults:
                    logging.getLogger(__name__).warning("%s", fault)
                self._seen, self._users = state, users
            return self._users


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def _read_what_can_be(path: Path) -> tuple[dict[str, str], list[str]]:
    try:
        return _parse(path, _text(path))
    except BiozooError as exc:
        return {}, [exc.message]


def read_users(path: Path) -> dict[str, str]:
    """Name -> hash of every user in a file.

    Raises
    ------
    MissingFileError
        There is no such file, or it cannot be read.
    UsageError
        A line is not that of a user; the message names it.
    """
    users, faults = _parse(path, _text(path))
    if faults:
        raise UsageError(faults[0])
    return users


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f"Make it: zoo user add NAME --file {path}"
        raise MissingFileError(what="The list of users", path=path, hint=hint) from None
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise UsageError(f"The list of users {path} cannot be read: {why}.") from exc


def _parse(path: Path, text: str) -> tuple[dict[str, str], list[str]]:
    users: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, hashed = (part.strip() for part in line.partition(":"))
        name = unicodedata.normalize("NFC", name)
        if not colon or not _NAME.fullmatch(name):
            why = "it does not begin with a user's name and a colon"
        elif name in users:
            why = f"the user {name} is there twice"
        elif not _is_hash(hashed):
            why = f"what follows the name {name} is no argon2 hash ($argon2id$...)"
        else:
            users[name] = hashed
            continue
        faults.append(f"Line {number} of {path} is wrong: {why}. zoo user add writes such lines.")
    return users, faults


def _is_hash(text: str) -> bool:
    hasher()
    from argon2 import extract_parameters
    from argon2.exceptions import InvalidHashError

    try:
        extract_parameters(text)
    except (InvalidHashError, ValueError):
        return False
    return text.startswith("$argon2id$")


def hasher() -> PasswordHasher:
    """What makes and checks hashes, with argon2's recommended cost.

    Raises
    ------
    MissingDependencyError
        argon2-cffi is not installed.
    """
    try:
        from argon2 import PasswordHasher
    except ImportError as exc:
        raise MissingDependencyError(
            what="A list of users", library="argon2-cffi", install='pip install "biozoo[ui]"'
        ) from exc
    return PasswordHasher()


def dummy_hash(like: str) -> str:
    """A hash that no password fits and that costs as much to check as `like` does."""
    hasher()
    from argon2 import PasswordHasher, extract_parameters

    return PasswordHasher.from_parameters(extract_parameters(like)).hash(secrets.token_hex())


def fits(password: str, hashed: str) -> bool:
    """Whether this is the password of a hash; takes a tenth of a second, on purpose."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return len(password) <= _LONGEST and hasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


def add_user(path: Path, name: str, password: str) -> bool:
    """Write a user with a password into a file, made where it is missing; False: a new password.

    Raises
    ------
    UsageError
        For a name or password that cannot be, or a file that is no list of users.
    StorageError
        The file cannot be written.
    """
    name = unicodedata.normalize("NFC", name)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A user cannot be called '{name}'. Use up to 64 letters, digits, and . _ @ + -"
        )
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST:
        raise UsageError(
            f"The password has {len(password)} characters. Use {SHORTEST_PASSWORD} or more, "
            "for example a few words."
        )
    known = read_users(path) if path.exists() else {}
    line = f"{name}:{hasher().hash(password)}"
    lines = _text(path).splitlines() if path.exists() else []
    kept = [line if _name_in(one) == name else one for one in lines]
    _write(path, kept if name in known else [*kept, line])
    return name not in known


def remove_user(path: Path, name: str) -> None:
    """Take a user out of a file.

    Raises
    ------
    UsageError
        Nobody in the file has this name.
    MissingFileError, StorageError
        The file is not there, or cannot be written.
    """
    name = unicodedata.normalize("NFC", name)
    known = read_users(path)
    if name not in known:
        raise UsageError(f"Nobody in {path} is called '{name}'. There are: {', '.join(known)}.")
    _write(path, [line for line in _text(path).splitlines() if _name_in(line) != name])


def _name_in(line: str) -> str:
    if line.lstrip().startswith("#"):
        return ""
    return unicodedata.normalize("NFC", line.lstrip("\ufeff").partition(":")[0].strip())


def _write(path: Path, lines: list[str]) -> None:
    """Whole or not at all, for its owner alone from its first byte on."""
    path = path.resolve()  # a link stays one
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(number, "w", encoding="utf-8", newline="\n") as file:
                file.write("\n".join(lines) + "\n" if lines else "")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
