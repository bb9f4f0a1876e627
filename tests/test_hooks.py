"""Hooks are told everything, get frozen facts, and cannot break a training."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from biozoo import plugins
from biozoo.errors import NotFoundError, UsageError
from biozoo_trainers.hooks import Hook, Hooks, Start, Step, hook_named

START = Start("m", 10, 5, 0, 4, 1, "AP50", "cpu", {"y": 8, "x": 8}, 2)
STEP = Step(1, 10, 1, 0.5, {"bce": 0.5}, 1e-3, 0.1)


class Listening(Hook):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_step(self, step: Step) -> None:
        self.heard.append(step)


def test_a_hook_hears_what_it_listens_to_and_a_function_everything() -> None:
    hook, heard = Listening(), []
    hooks = Hooks([hook, lambda event, info: heard.append((event, info))])
    hooks.tell(START)
    hooks.tell(STEP)
    assert hook.heard == [STEP]
    assert heard == [("start", START), ("step", STEP)]
    assert hooks.notes == []


def test_a_failing_hook_is_noted_once_and_left_out() -> None:
    calls = []

    def careless(event: str, info: Any) -> None:
        calls.append(event)
        raise KeyError("loss")

    hook = Listening()
    hooks = Hooks([careless, hook])
    for event in (START, STEP, STEP):
        hooks.tell(event)
    assert calls == ["start"]
    assert hook.heard == [STEP, STEP]
    assert hooks.notes == [
        "hook 'careless' failed at start and was not called again: KeyError: 'loss'"
    ]


def test_a_hook_that_wants_to_end_the_program_does_not() -> None:
    def leaving(event: str, info: Any) -> None:
        raise SystemExit(3)

    hooks = Hooks([leaving])
    hooks.tell(START)
    assert hooks.notes == ["hook 'leaving' failed at start and was not called again: SystemExit: 3"]


def test_facts_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        STEP.loss = 0.0  # type: ignore[misc]


class _Point:
    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value, self._loaded = name, f"{name}:it", value

    def load(self) -> Any:
        return self._loaded


def test_named_hooks_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(event: str, info: Any) -> None: ...

    class Broken(Hook):
        def __init__(self) -> None:
            raise RuntimeError("no licence")

    points = [_Point("log", Listening), _Point("f", plain), _Point("n", 3), _Point("b", Broken)]
    monkeypatch.setattr(plugins, "_points", lambda group: points)
    assert isinstance(hook_named("log"), Listening)
    assert hook_named("f") is plain
    with pytest.raises(UsageError, match="neither a biozoo_trainers"):
        hook_named("n")
    with pytest.raises(UsageError, match="cannot be made: RuntimeError: no licence"):
        hook_named("b")
    with pytest.raises(NotFoundError, match="Did you mean log"):
        Hooks(["lgo"])
