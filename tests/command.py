"""The command line as its users have it, in this process."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import CliRunner, Result

__all__ = ["Zoo", "run_zoo"]

Zoo = Callable[..., Result]


def run_zoo(*arguments: object, code: int | None = 0, text: str = "") -> Result:
    """Run a verb, which must end with `code` (None: with any) and without a traceback.

    Parameters
    ----------
    text
        What is typed in.
    """
    from biozoo_ui.cli.app import app

    result = CliRunner().invoke(app, [str(a) for a in arguments], input=text)
    assert "Traceback" not in result.output
    assert code is None or result.exit_code == code, result.output + result.stderr
    return result
