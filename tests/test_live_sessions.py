"""The live sessions of a server: how many, how large, for how long, and what each holds."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr

from biozoo import ModelPackage, Zoo
from biozoo.errors import NotFoundError
from biozoo_trainers.live import Features, Head, LiveResult
from biozoo_ui.jobs import Choices, JobImage
from biozoo_ui.jobs.region import View
from biozoo_ui.live import LiveSession, LiveSessions, Painted
from biozoo_ui.live import session as session_module
from http_jobs import settings_of
from packages import make_package

LEFT, RIGHT = View((0, 256), (0, 256)), View((0, 256), (144, 400))
BYTES = 256 * 256 * 4  # of the features of one place


class Fake:
    """A model whose only feature is brightness; every pixel is one object."""

    classes = ("background", "object")
    parent = Head(np.ones((1, 1), np.float32), np.zeros(1, np.float32))

    def __init__(self, package: ModelPackage) -> None:
        self.package, self.closed = package, False
        self.fitted: list[int] = []

    def features(self, image: Any, *, region: Mapping[str, Any], **_: Any) -> Features:
        sizes = {a: region[a][1] - region[a][0] for a in ("y", "x")}
        values = xr.DataArray(np.ones((1, *sizes.values()), np.float32), dims=("channel", "y", "x"))
        return Features(values, dict(region), sizes, image.name, 0.0)

    def refit(self, painted: list[tuple[Features, Any]]) -> Head:
        self.fitted.append(len(painted))
        return Head(self.parent.weight, self.parent.bias, pixels={1: 1})

    def result(self, features: Features, head: Head) -> LiveResult:
        return LiveResult({"labels": features.values[0].astype(np.int32)}, {})

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(settings_of(home))
    zoo.add(make_package(home / "tiny", validate=False))
    return zoo.get("tiny")


@pytest.fixture
def image(tmp_path: Path) -> JobImage:
    tifffile.imwrite(tmp_path / "cells.tif", np.zeros((300, 400), np.uint16))
    return JobImage(tmp_path / "cells.tif", "cells.tif", id="i")


@pytest.fixture
def made() -> list[Fake]:
    return []


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(made: list[Fake], clock: Clock) -> Iterator[LiveSessions]:
    def open_model(package: ModelPackage) -> Any:
        made.append(Fake(package))
        return made[-1]

    with LiveSessions(open_model, most_bytes=3 * BYTES, clock=clock) as sessions:
        yield sessions


def begun(
    sessions: LiveSessions, package: ModelPackage, image: JobImage, owner: str
) -> LiveSession:
    return sessions.open(package, image, LEFT, Choices(), owner=owner).answer.result(30)


def painted(annotation: str, owner: str, region: Mapping[str, Any]) -> Painted:
    return Painted(np.ones([region[a][1] - region[a][0] for a in ("y", "x")], np.uint8), 1)


def test_one_that_is_not_used_for_long_ends(
    sessions: LiveSessions, package: ModelPackage, image: JobImage, made: list[Fake], clock: Clock
) -> None:
    """As that of a tab that was closed: it says nothing when it goes."""
    left, used = (begun(sessions, package, image, owner).id for owner in ("left", "used"))
    clock.now = 1000
    sessions.get(used, "used")
    clock.now = 2000
    sessions.prune()
    assert [one.closed for one in made] == [True, False]
    with pytest.raises(NotFoundError, match="ends when it is not used"):
        sessions.get(left, "left")


def test_together_they_hold_so_much_and_no_more(
    sessions: LiveSessions, package: ModelPackage, image: JobImage, made: list[Fake]
) -> None:
    for owner in "abcd":
        begun(sessions, package, image, owner)
    assert [one.closed for one in made] == [True, False, False, False]


def test_one_alone_lets_the_oldest_places_go(
    sessions: LiveSessions,
    package: ModelPackage,
    image: JobImage,
    made: list[Fake],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = begun(sessions, package, image, "me")
    live.refit("a", painted)
    assert live.nbytes == BYTES  # what is seen is not counted twice
    sessions.show(live.id, RIGHT, owner="me").answer.result(30)
    live.refit("a", painted)
    assert (live.nbytes, made[0].fitted) == (2 * BYTES, [1, 2])
    monkeypatch.setattr(session_module, "MOST_BYTES", BYTES)
    live.refit("a", painted)
    assert live.nbytes == BYTES
    live.refit("a", painted)
    assert made[0].fitted == [1, 2, 2, 1]


def test_what_has_ended_is_not_there_any_more(
    sessions: LiveSessions, package: ModelPackage, image: JobImage
) -> None:
    """Also to who had it in hand, so that a page begins anew instead of showing an error."""
    live = begun(sessions, package, image, "me")
    sessions.remove(live.id, "me")
    with pytest.raises(NotFoundError, match="Start it again"):
        live.refit("a", painted)


def test_of_what_has_ended_nothing_is_held(
    sessions: LiveSessions, package: ModelPackage, image: JobImage
) -> None:
    live = begun(sessions, package, image, "me")
    session_id, gone = live.id, weakref.ref(live)
    sessions.remove(session_id, "me")
    del live
    for _ in range(3000):  # the thread that made it lets go a moment after its answer
        gc.collect()
        if gone() is None:
            break
    assert gone() is None


def test_a_refit_is_described_where_it_was_made(
    sessions: LiveSessions, package: ModelPackage, image: JobImage
) -> None:
    """Another tab may have moved on meanwhile."""
    pytest.importorskip("fastapi")
    from biozoo_ui.api.live.answers import describe_live
    from biozoo_ui.api.live.shelf import LiveShelf

    live = begun(sessions, package, image, "me")
    refit = live.refit("a", painted)
    pictures = LiveShelf().put(live, refit)
    sessions.show(live.id, RIGHT, owner="me").answer.result(30)
    told = describe_live(live, refit, pictures)
    assert told.region["x"] == (0, 256)
    assert told.layers[0].at == {"y": 0, "x": 0}
