"""The verbs that write the list of users of `zoo ui --users`."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from biozoo.errors import UsageError

from .options import Json
from .output import emit_json, note, say, verb

File = Annotated[
    Path, typer.Option("--file", metavar="FILE", help="The list of users; made if missing.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the user signs in with.")]

_verbs = typer.Typer(
    help="Who may sign in: the file for zoo ui --users.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@_verbs.command()
@verb
def add(
    name: Name,
    file: File,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Add a user, or give one a new password, which signs them out everywhere.

    The password is asked for twice on the terminal. A running server notices by itself.
    """
    from ..api.users import add_user

    password = _read_line() if password_stdin else _asked(name)
    new = add_user(file, name, password)
    say(f"{name} {'is added to' if new else 'has a new password in'} {file}.")


@_verbs.command()
@verb
def remove(name: Name, file: File) -> None:
    """Remove a user, who is out at once. What jobs they ran stays on the server's disk."""
    from ..api.users import remove_user

    remove_user(file, name)
    say(f"{name} is removed from {file}.")


@_verbs.command("list")
@verb
def list_users(file: File, as_json: Json = False) -> None:
    """List the names in a file."""
    from ..api.users import read_users

    names = sorted(read_users(file))
    if as_json:
        emit_json(names)
        return
    for name in names:
        say(name)
    if not names:
        note(f"There is nobody in {file}.")


def _asked(name: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            "The password is asked for on a terminal. In a script, give it with --password-stdin."
        )
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("The same again: ") != password:
        raise UsageError("The two passwords differ. Nothing was changed; try again.")
    return password


def _read_line() -> str:
    """The first line: what `echo` and password managers end with a line break."""
    return sys.stdin.readline().rstrip("\r\n")


def register(app: typer.Typer) -> None:
    """Add this module's verbs to the program."""
    app.add_typer(_verbs, name="user")
