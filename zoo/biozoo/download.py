"""Getting files from the network: https only, sizes limited, redirects checked.

Plain http is taken from this machine (loopback) only, and an address elsewhere may not redirect or
point to this machine. This machine is never asked through a proxy.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from .errors import CollectionError, UsageError
from .files import CHUNK, check_space, writing

if TYPE_CHECKING:
    import httpx

    from .settings import Settings

__all__ = ["Client", "Progress", "beside", "file_name", "is_loopback"]

#: Called with (what, bytes done, bytes in all or None). What it raises stops the work, and nothing
#: half-done is left: raise `Cancelled` to stop on request.
Progress = Callable[[str, int, int | None], None]

MAX_REDIRECTS = 5


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def check_url(url: str, *, via: str | None = None) -> None:
    """Refuse an address that is not https, or that leads from elsewhere to this machine.

    Raises
    ------
    UsageError
        Where the user gave the address (`via` is None).
    CollectionError
        Where another address led to it.
    """
    try:
        parts = urlsplit(url)
        here = is_loopback(url)
        allowed = parts.scheme == "https" and bool(parts.hostname) and not here
        if here and parts.scheme in ("http", "https"):
            allowed = not via or is_loopback(via)
    except ValueError:  # "https://[host"
        allowed = False
    if allowed:
        return
    if via is None:
        raise UsageError(
            f"Address {url} is not taken: expected https://. Download the file and give its path."
        )
    raise CollectionError(
        url=via,
        why=f"it leads to {url}, and only https addresses are followed",
        hint="Download the package with a browser and give its path, if you trust it.",
    )


def beside(url: str, relative: str) -> str:
    """Address of a file next to the one at `url`, its query kept.

    >>> beside("https://host/m/files/rdf.yaml?version=v0", "weights.onnx")
    'https://host/m/files/weights.onnx?version=v0'
    """
    parts = urlsplit(url)
    path = quote(relative)
    if parts.netloc == "zenodo.org" and parts.path.endswith("/content"):
        folder = parts.path.removesuffix("/content").rpartition("/")[0]
        path = f"{folder}/{path}/content"
    else:
        path = f"{parts.path.rpartition('/')[0]}/{path}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def file_name(url: str) -> str:
    """The file's name in an address."""
    path = urlsplit(url).path.removesuffix("/content").rstrip("/")
    return path.rpartition("/")[2] or "file"


class Client:
    """A connection pool for one piece of work; a context manager, safe to use from threads."""

    def __init__(
        self, settings: Settings, *, timeout: float = 30.0, progress: Progress | None = None
    ) -> None:
        self.settings, self.timeout, self.progress = settings, timeout, progress
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def get(self, url: str, *, max_bytes: int, via: str | None = None) -> bytes:
        """The content of a small file.

        Raises
        ------
        CollectionError
            Where it cannot be had whole.
        """
        with self._stream(url, via) as response:
            chunks, size = [], 0
            for chunk in response.iter_bytes(CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(url, max_bytes)
                chunks.append(chunk)
        return b"".join(chunks)

    def size(self, url: str, *, via: str | None = None) -> int | None:
        """Bytes of a file as the server tells them, None where it does not; downloads nothing."""
        try:
            with self._stream(url, via, "HEAD") as response:
                length = response.headers.get("content-length", "")
                return int(length) if length.isdigit() else None
        except CollectionError:
            return None

    def download(
        self, url: str, target: Path, *, max_bytes: int, via: str | None = None
    ) -> tuple[int, str]:
        """Stream a file to a new path; its size in bytes and its sha256.

        Raises
        ------
        CollectionError, StorageError
        """
        digest, size = hashlib.sha256(), 0
        with self._stream(url, via) as response, writing(target.parent):
            length = response.headers.get("content-length", "")
            packed = "content-encoding" in response.headers  # the length is of what is packed
            total = int(length) if length.isdigit() and not packed else None
            if total is not None:
                if total > max_bytes:
                    raise _too_large(url, max_bytes)
                check_space(target.parent, total)
            with target.open("xb") as out:
                for chunk in response.iter_bytes(CHUNK):
                    size += len(chunk)
                    if size > max_bytes:
                        raise _too_large(url, max_bytes)
                    out.write(chunk)
                    digest.update(chunk)
                    if self.progress is not None:
                        self.progress(file_name(url), size, total)
        return size, digest.hexdigest()

    @contextlib.contextmanager
    def _stream(self, url: str, via: str | None, method: str = "GET") -> Iterator[httpx.Response]:
        """The open response of an address, redirects followed; a failure is a CollectionError."""
        if self.settings.offline:
            raise CollectionError(
                url=url, why="the network is switched off", hint="Unset BIOZOO_OFFLINE to use it."
            )
        check_url(url, via=via)
        import httpx

        client = self._connected()
        place = url
        headers = {"accept-encoding": "identity"} if method == "HEAD" else None
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with client.stream(method, place, headers=headers) as response:
                    if response.has_redirect_location:
                        place = urljoin(place, response.headers["location"])
                        check_url(place, via=url)
                        continue
                    if response.status_code != 200:
                        raise CollectionError(
                            url=url,
                            why=f"the server answered {response.status_code}",
                            status=response.status_code,
                        )
                    yield response
                    return
            raise CollectionError(url=url, why=f"it redirects more than {MAX_REDIRECTS} times")
        except httpx.TimeoutException as exc:
            raise CollectionError(
                url=url, why=f"no answer within {self.timeout:g} seconds"
            ) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise CollectionError(url=url, why=str(exc) or type(exc).__name__) from exc

    def _connected(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    timeout=self.timeout,
                    headers={"user-agent": "biozoo"},
                    mounts={"all://localhost": None, "all://127.0.0.1": None},
                )
            return self._client


def _too_large(url: str, limit: int) -> CollectionError:
    return CollectionError(
        url=url,
        why=f"it is larger than the {limit / 2**30:.3g} GB allowed",
        hint="Raise BIOZOO_MAX_GB if you expect that.",
    )
