"""`serve`: the pages on an address of this machine, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from biozoo import Settings

    from ..api.settings import ServerSettings


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = True,
    token: str | None = None,
    users: Path | None = None,
    image_folders: Sequence[Path] = (),
    max_upload: int = 8 * 10**9,
    keep_hours: float = 24.0,
    settings: Settings | None = None,
) -> None:
    """Serve the pages and print their address; returns after Ctrl-C.

    Parameters
    ----------
    host
        Address to listen on. Off loopback a `token` or `users` are demanded.
    port
        0 takes any free one.
    open_browser
        Open the page in the user's browser once it is there.
    token
        What a visitor must know; beside users, a program.
    users
        The list of those who may sign in.
    image_folders
        Within these folders images of this machine may be opened by their path.
    max_upload
        Largest file that is taken, bytes.
    keep_hours
        After so many hours without a look at it an uploaded image is removed.
    settings
        The zoo; by default that of the environment.

    Raises
    ------
    UsageError
        Where the address is taken or not this machine's, token and users are missing, or a line
        of the list of users is wrong.
    MissingFileError
        Where there is no such list.
    MissingDependencyError
        Where Gradio is not installed.
    """
    from biozoo import Settings as ZooSettings

    from ..api.settings import ServerSettings
    from ..api.users import UserFile

    asked = ServerSettings(
        zoo=settings or ZooSettings.from_env(),
        host=host,
        port=port,
        token=token,
        users=users,
        image_folders=tuple(image_folders),
        max_upload=max_upload,
        keep_hours=keep_hours,
    )
    if users is not None:
        UserFile(users)  # what is wrong in it is said at once, too
    # Bound before the slow imports: a taken port is said at once.
    listening = _bind(asked)
    with contextlib.closing(listening):
        print("Starting the page...", file=sys.stderr, flush=True)
        try:
            import uvicorn

            from ..api.app import create_app

            app = create_app(asked)
        except ImportError as exc:
            raise MissingDependencyError(
                what="The web page",
                library=exc.name or "gradio",
                install='pip install "biozoo[ui]"',
            ) from exc

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # An open page keeps its connection for ever; else Ctrl-C would wait for it.
                for connection in list(self.server_state.connections):
                    connection.transport.close()
                await super().shutdown(sockets)

        server = Server(
            uvicorn.Config(
                app,
                log_level="warning",
                ws="none",
                access_log=False,
                timeout_graceful_shutdown=5,  # for what does not notice that it is closed
            )
        )
        address = _address(listening, asked)
        threading.Thread(
            target=_announce,
            args=(server, address, open_browser, app.state.server.catalog.listing),
            daemon=True,
        ).start()
        # uvicorn ends on Ctrl-C by itself and raises it again when all is closed.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


def _bind(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, OverflowError) as exc:
        listening.close()
        why = getattr(exc, "strerror", None) or exc
        raise UsageError(
            f"Cannot listen on {settings.host}:{settings.port}: {why}. Another program, perhaps "
            "another biozoo, uses it already, or it is not this machine's. Choose another, for "
            f"example --port {settings.port + 1 if settings.port < 65535 else 7861}."
        ) from exc
    return listening


def _address(listening: socket.socket, settings: ServerSettings) -> str:
    host = settings.host
    if host in ("0.0.0.0", "::"):  # every address of this machine: others know it by its name
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    query = f"/?token={settings.token}" if settings.token and not settings.users else ""
    return f"http://{host}:{listening.getsockname()[1]}{query}"


def _announce(
    server: object, address: str, open_browser: bool, first_list: Callable[[], object]
) -> None:
    """Print the address once the server answers, open it, and prepare what is asked for first."""
    import time

    while not getattr(server, "started", False):
        if getattr(server, "should_exit", False):
            return
        time.sleep(0.05)
    print(f"biozoo is at {address}  (Ctrl-C stops it)", flush=True)
    if open_browser and _has_display():
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)
    with contextlib.suppress(BiozooError, OSError):  # whoever asks for the list is told
        first_list()
    _warm_up()


def _has_display() -> bool:
    """Whether a browser would have a window; without one it would take the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _warm_up() -> None:
    """Import in the background what the first check needs; it would wait seconds for it."""
    from importlib import import_module

    for module in ("bioimageio.spec.model.v0_5", "xarray", "tifffile", "biozoo_runners.check"):
        with contextlib.suppress(ImportError):
            import_module(module)
