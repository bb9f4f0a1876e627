"""Signing in: who a name and a password belong to, and which browser is whose since then."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from biozoo.closing import Closing

from .patience import Patience
from .users import UserFile, dummy_hash, fits

IDLE_SECONDS = 24 * 3600.0
"""So long after its last request a browser is signed out."""
LONGEST_SECONDS = 7 * 24 * 3600.0
"""So long after signing in it is in any case."""

_MOST_OF_ONE = 50  # browsers of one user
_PROVEN = 200  # passwords of programs that need not be hashed again
_AT_ONCE = 2  # checks; each takes 64 MB of memory


@dataclass
class _Login:
    """Since when a browser is a user's; `hashed` is of the password it came in with."""

    name: str
    hashed: str
    since: float
    used: float


class Logins(Closing):
    """The sign-ins of one server, in memory: whoever restarts it signs everybody out.

    Parameters
    ----------
    users
        Who may come in.
    clock
        Seconds that only grow.
    """

    def __init__(self, users: UserFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._users, self._clock = users, clock
        self._patience = Patience(clock)
        self._lock = threading.Lock()
        self._logins: OrderedDict[bytes, _Login] = OrderedDict()
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._dummy = ("", "")
        self._threads = ThreadPoolExecutor(_AT_ONCE, "biozoo-password")

    async def check(self, name: str, password: str, address: str) -> str | None:
        """The user whose name and password these are; None for a mistake, answered slower each
        time. An unknown name takes the same work as a wrong password.

        Parameters
        ----------
        address
            Where the attempt comes from.

        Raises
        ------
        TooManyAttemptsError
            After too many mistakes; nothing is checked then.
        """
        name = unicodedata.normalize("NFC", name)
        users = self._users.users
        hashed = users.get(name)
        proof = self._proof(name, password, hashed or "")
        with self._lock:
            if hashed and proof in self._proven:
                self._proven.move_to_end(proof)
                return name
        delay = self._patience.begin(name, address)
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._threads, self._fits, password, hashed)
        if not right:
            await asyncio.sleep(delay)
            return None
        self._patience.forgive(name, address)
        with self._lock:
            self._proven[proof] = None
            while len(self._proven) > _PROVEN:
                self._proven.popitem(last=False)
        return name

    def open(self, name: str) -> str:
        """Sign a browser in; the secret that it has to show from then on."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._prune(now)
            own = [key for key, login in self._logins.items() if login.name == name]
            for key in own[: 1 - _MOST_OF_ONE]:
                del self._logins[key]
            self._logins[_digest(secret)] = _Login(name, self._users.users[name], now, now)
        return secret

    def user(self, secret: str) -> str | None:
        """Whose browser shows this secret; None for nobody's, also where the user was removed or
        has another password since.
        """
        if not secret:
            return None
        key, now = _digest(secret), self._clock()
        with self._lock:
            login = self._logins.get(key)
            if login is None:
                return None
            if _is_over(login, now) or self._users.users.get(login.name) != login.hashed:
                del self._logins[key]
                return None
            login.used = now
            return login.name

    def forget(self, secret: str) -> None:
        """Sign a browser out."""
        with self._lock:
            self._logins.pop(_digest(secret), None)

    def close(self) -> None:
        """Check nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fits(self, password: str, hashed: str | None) -> bool:
        if hashed is not None:
            return fits(password, hashed)
        fits(password, self._nobody())
        return False

    def _nobody(self) -> str:
        """A hash that costs as much as those of the users."""
        like = next(iter(self._users.users.values()), "")
        if not like:
            return ""
        if self._dummy[0] != like:
            self._dummy = (like, dummy_hash(like))
        return self._dummy[1]

    def _proof(self, name: str, password: str, hashed: str) -> bytes:
        """What tells that a password was found right for a hash, without keeping it."""
        said = "\0".join((name, hashed, password)).encode(errors="surrogatepass")
        return hmac.digest(self._key, said, "sha256")

    def _prune(self, now: float) -> None:
        for key in [key for key, login in self._logins.items() if _is_over(login, now)]:
            del self._logins[key]


def _is_over(login: _Login, now: float) -> bool:
    return now - login.used > IDLE_SECONDS or now - login.since > LONGEST_SECONDS


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
