"""How to run a model: on the command line, in Python, and what its server answers over HTTP.

Every line is meant to be typed as it stands, so a test runs them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from biozoo.rdf import is_rdf_name

from .clean import mapping, one_line

if TYPE_CHECKING:
    from biozoo import ModelPackage

    from .words import TensorWords

__all__ = ["Usage", "usage"]

_SERVER = "http://127.0.0.1:7860"


@dataclass(frozen=True)
class Usage:
    """Three ways to run it.

    Attributes
    ----------
    handle
        What names the model in a command: an id, an address, `./file.zip`.
    where
        What has to be true for that name, in a sentence; empty where nothing has to.
    shell, python, http
        Lines to type.
    http_note
        What the server does and does not.
    """

    handle: str
    where: str
    shell: str
    python: str
    http: str
    http_note: str


def usage(package: ModelPackage, inputs: tuple[TensorWords, ...], *, here: bool) -> Usage:
    """How to run this package.

    Parameters
    ----------
    inputs
        Its input tensors.
    here
        Whether its weights are on this machine: of a bare description they are not.
    """
    handle, where = _handle(package, here=here)
    needed = [t for t in inputs if not t.optional] or list(inputs)
    typed = shlex.quote(handle)
    several = len(inputs) > 1
    files = {t.id: "image.tif" if not several else f"{_file(t.id)}.tif" for t in needed}
    given = " ".join(
        shlex.quote(f"{i}={f}") if several else shlex.quote(f) for i, f in files.items()
    )
    shell = [f"zoo check {typed} {given}", f"zoo run {typed} {given} -o out/"]
    if package.trust in ("untrusted code", "trusted code"):
        shell.insert(0, f"zoo trust {typed}  # it runs its author's code: look at it first")
    shell.append(f"zoo test {typed}")
    image = json.dumps(files if several else next(iter(files.values()), "image.tif"))
    outputs = list(package.summary.outputs)
    main = one_line(outputs[0].id, 100) if outputs else "output"
    python = [
        "import biozoo",
        "import biozoo_runners",
        "",
        f"package = biozoo.open({json.dumps(handle)})",
        "with biozoo_runners.load(package) as model:",
        f"    result = model({image})",
        f"print(result[{json.dumps(main)}])",
    ]
    if _makes_objects(package):
        python.append('print(int(result["labels"].max()), "objects")')
    python.append("print(result.report)")
    added = package.origin in ("built-in", "installed")
    return Usage(
        handle=handle,
        where=where,
        shell="\n".join(shell),
        python="\n".join(python),
        http="\n".join(_http(package.id, [] if added else [f"zoo add {typed}"], several=several)),
        http_note="A model with several inputs is run with zoo run or in Python; over HTTP the "
        "server only tells about it."
        if several
        else "The upload answers with the image's id, to be written for IMAGE, the next line with "
        "the job's, to be written for JOB; that one's answer has the addresses of the result. The "
        "session that -b and -c keep is whose images and jobs they are.",
    )


def _http(model: str, before: Sequence[str], *, several: bool) -> list[str]:
    """Lines for the server: the model's facts, its card, and a run where it takes one image."""
    about = f"{_SERVER}/api/models/{quote(model, safe='')}"
    lines = [*before, "zoo ui --no-browser  # then, in another terminal:"]
    if several:
        return [*lines, f"curl {about}", f"curl -o card.html {about}/card.html"]
    curl = "curl -b session -c session"
    asked = json.dumps({"model": model, "image": "IMAGE"})
    return [
        *lines,
        f"{curl} --data-binary @image.tif '{_SERVER}/api/images/uploads?name=image.tif'",
        f"{curl} --json {shlex.quote(asked)} {_SERVER}/api/jobs",
        f"{curl} {_SERVER}/api/jobs/JOB",
        f"curl -o card.html {about}/card.html",
    ]


def _handle(package: ModelPackage, *, here: bool) -> tuple[str, str]:
    """What a reader types for the model, and the condition. A card travels: no path of this
    machine is part of it.
    """
    if package.origin in ("built-in", "installed"):
        from biozoo.consent import typed

        where = "" if package.origin == "built-in" else "where it is installed (zoo add)"
        return typed(package), where
    if package.origin in ("collection", "url"):
        return package.source, ""
    if not here:
        return package.id, "its weights were not at hand; this names it as its description does"
    name = package.source.replace("\\", "/").rstrip("/")
    if package.origin == "folder":
        name = package.root.name
        if not is_rdf_name(package.rdf.name):
            name = f"{name}/{package.rdf.name}"
    name = one_line(Path(name).name if package.origin == "zip" else name)
    return f"./{name}", f"in the folder that holds {name}"


def _file(tensor: str) -> str:
    """A file name after a tensor id."""
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in tensor)
    return plain.strip("-") or "image"


def _makes_objects(package: ModelPackage) -> bool:
    ours = mapping(mapping(package.raw.get("config")).get("biozoo"))
    return bool(mapping(ours.get("instances")))
