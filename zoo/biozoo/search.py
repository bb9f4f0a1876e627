"""Finding models by words, tags, axes, weights format and task: built in, installed, indexed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .download import Progress
    from .settings import Settings
    from .summary import ModelSummary

__all__ = ["Found", "SearchResult", "search"]

#: What a match of a whole word counts by where it is; of a part of a word, half.
_WEIGHTS = {"id": 10.0, "name": 8.0, "tags": 6.0, "task": 5.0, "description": 2.0, "authors": 2.0}

#: Names people use for weights formats.
_FORMATS = {
    "torch": ("torchscript", "pytorch_state_dict"),
    "pytorch": ("torchscript", "pytorch_state_dict"),
    "keras": ("keras_hdf5", "keras_v3"),
    "tensorflow": ("tensorflow_saved_model_bundle", "tensorflow_js", "keras_hdf5", "keras_v3"),
}
_KNOWN_FORMATS = (
    "onnx",
    "torchscript",
    "pytorch_state_dict",
    "keras_hdf5",
    "keras_v3",
    "tensorflow_saved_model_bundle",
    "tensorflow_js",
)


@dataclass(frozen=True)
class Found:
    """One model that a search found.

    Attributes
    ----------
    summary
        What is known of it.
    version
        By which a zoo keeps it, or the collection's.
    origin
        Where it is: "built-in", "installed", or "collection" (not on this machine).
    installed
        Whether it can be run without a download.
    score
        The higher the better; 0 where no words were asked for.
    matched
        Where the words were found: "name", "tags", ...
    trust
        As `zoo list` has it; None where the description could not be had.
    note
        Why little is known of it, "" where its description is here.
    """

    summary: ModelSummary
    version: str | None
    origin: Literal["built-in", "installed", "collection"]
    installed: bool
    score: float = 0.0
    matched: tuple[str, ...] = ()
    trust: str | None = None
    note: str = ""

    @property
    def id(self) -> str:
        """The model's id."""
        return self.summary.id

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class SearchResult(list[Found]):
    """The models found, best first; `note` says what a reader should know of the index.

    The note tells that the index is old or could not be had, and of how many models only the id is
    known; "" where all is fresh.
    """

    def __init__(self, found: Iterable[Found] = (), note: str = "") -> None:
        super().__init__(found)
        self.note = note


def search(
    words: str = "",
    *,
    tags: Sequence[str] = (),
    axes: str | Sequence[str] | None = None,
    weights: str | None = None,
    task: str | None = None,
    settings: Settings | None = None,
    refresh: bool = False,
    progress: Progress | None = None,
) -> SearchResult:
    """Models that fit every wish, best first.

    Parameters
    ----------
    words
        All must be found in id, name, description, tags, task or authors; case, "-" and "_" do not
        matter. A word of up to three letters matches whole words, a longer one parts of words.
    tags
        All must be the model's, case and "-" aside.
    axes
        The model's first input has exactly these space axes, in any order: "yx" finds 2D models,
        "zyx" 3D ones. Other axes named ("bcyx") must be there too. See `biozoo.axes`.
    weights
        A weights format of the spec ("onnx", "torchscript", ...), or "torch", "keras",
        "tensorflow" for a family.
    task
        One of `biozoo.summary.TASKS`.
    refresh
        True: the index is asked for anew.
    progress
        Called with (what, done, total) while descriptions are fetched the first time.

    Returns
    -------
    SearchResult
        A list of `Found`. An index that cannot be had is told in its `note`, it is no error.

    Raises
    ------
    AxesError, UsageError
        For an unknown axis, weights format or task.
    """
    wanted_axes = _axes(axes)
    formats = _formats(weights)
    _check_task(task)
    asked = _words(words)
    candidates, note = _candidates(settings, refresh, progress)
    found = []
    for candidate in candidates:
        summary = candidate.summary
        if task and summary.task != task:
            continue
        if formats and not set(formats) & set(summary.weights):
            continue
        if wanted_axes and not _has_axes(summary, wanted_axes):
            continue
        own = {_plain(t) for t in summary.tags}
        if any(_plain(t) not in own for t in tags):
            continue
        if (matched := _score(summary, asked)) is not None:
            found.append((matched[0], candidate, matched[1]))
    here = {"built-in": 0, "installed": 1, "collection": 2}
    found.sort(key=lambda f: (-f[0], bool(f[1].note), here[f[1].origin], f[1].id))
    from dataclasses import replace

    return SearchResult((replace(c, score=s, matched=m) for s, c, m in found), note)


def _candidates(
    settings: Settings | None, refresh: bool, progress: Progress | None
) -> tuple[list[Found], str]:
    """Every model known here, each id once: built in before installed before indexed."""
    from .collection import Collection
    from .errors import CollectionError
    from .package import builtin_packages
    from .settings import Settings
    from .store import Zoo

    settings = settings or Settings.from_env()
    found: dict[str, Found] = {}
    for package in reversed(Zoo(settings).packages()):  # the newest version of each first
        if package.id not in found:
            found[package.id] = Found(
                package.summary, package.version, "installed", True, trust=package.trust
            )
    for package in builtin_packages():
        found[package.id] = Found(
            package.summary, package.version, "built-in", True, trust="built-in"
        )
    collection = Collection(settings, progress=progress)
    try:
        collection.index(refresh=refresh)
    except CollectionError as exc:
        return list(found.values()), f"Without the public collection: {exc.message}"
    for entry in collection.latest():
        if entry.id not in found:
            found[entry.id] = Found(
                entry.summary,
                entry.version,
                "collection",
                False,
                trust=entry.trust,
                note=entry.note,
            )
    return list(found.values()), collection.note


# ---------------------------------------------------------------------------------------- wishes


def _axes(axes: str | Sequence[str] | None) -> frozenset[str]:
    if not axes:
        return frozenset()
    from .axes import SPACE, parse_axes
    from .errors import AxesError

    wanted = frozenset(parse_axes(axes))
    if not wanted & set(SPACE):
        raise AxesError(
            f"Axes '{axes}' name no space axis. Expected those of an image plane or volume: "
            "use yx for 2D models, zyx for 3D ones."
        )
    return wanted


def _has_axes(summary: ModelSummary, wanted: frozenset[str]) -> bool:
    from .axes import SPACE

    if not summary.inputs:
        return False
    own = set(summary.inputs[0].axes)
    return own & set(SPACE) == wanted & set(SPACE) and wanted <= own


def _formats(weights: str | None) -> tuple[str, ...]:
    if not weights:
        return ()
    name = weights.lower().replace("-", "_")
    if name in _FORMATS:
        return _FORMATS[name]
    if name in _KNOWN_FORMATS:
        return (name,)
    from .errors import NotFoundError

    known = (*_KNOWN_FORMATS, *_FORMATS)
    raise NotFoundError(
        kind="weights format", got=weights, known=known, hint=f"Known are {', '.join(known)}."
    )


def _check_task(task: str | None) -> None:
    from .summary import TASKS

    if task and task not in TASKS:
        from .errors import NotFoundError

        raise NotFoundError(
            kind="task", got=task, known=TASKS, hint=f"Known are {', '.join(TASKS)}."
        )


# ----------------------------------------------------------------------------------------- words


def _plain(text: str) -> str:
    return " ".join(re.split(r"[-_\s]+", text.lower())).strip()


def _words(words: str) -> list[str]:
    return _plain(words).split()


def _score(summary: ModelSummary, words: list[str]) -> tuple[float, tuple[str, ...]] | None:
    """How well the words fit and where they were found; None where one was found nowhere."""
    texts = {
        "id": _plain(" ".join((summary.id, *summary.aliases))),
        "name": _plain(summary.name),
        "tags": _plain(" | ".join(summary.tags)),
        "task": summary.task,
        "description": _plain(summary.description),
        "authors": _plain(" | ".join(summary.authors)),
    }
    total, places = 0.0, []
    for word in words:
        whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        best = 0.0
        for place, text in texts.items():
            if whole.search(text):
                value = _WEIGHTS[place]
            elif len(word) > 3 and word in text:
                value = _WEIGHTS[place] / 2
            else:
                continue
            best += value
            places.append(place)
        if not best:
            return None
        total += best
    if words and " ".join(words) == _plain(summary.id):
        total += 100.0
    return total, tuple(dict.fromkeys(places))
