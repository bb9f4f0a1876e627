"""What happens on each event of the page. Every handler takes the session and returns updates.

Handlers are plain functions: Gradio runs them in threads, so a slow one blocks nobody.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr
from markupsafe import Markup

from biozoo.errors import BiozooError, NotFoundError
from biozoo.files import size_text
from biozoo_model_cards import ModelCard

from ..api.routes import package_picture, test_pictures
from ..api.runs import Run, RunRequest
from ..api.sample import sample_image
from .checking import Checked, examine
from .render import render, seconds_words
from .session import ChosenImage, Session

if TYPE_CHECKING:
    from biozoo import ModelPackage

    from ..api.state import ServerState

Updates = dict[Any, Any]

POLL_SECONDS = 0.2


class Handlers:
    """The handlers of one server's page; `connect` ties them to its components."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._active: dict[str, Run] = {}  # browser session -> its run
        self._subject: dict[str, object] = {}  # browser session -> what it went on to last

    def connect(self, page: gr.Blocks, session: gr.State, **parts: Any) -> None:
        """Tie the handlers to the components, each by the name it has in the layout."""
        self._session, self._parts = session, parts
        below = [session, *(c for name, c in parts.items() if name != "cards")]
        # Private: none of these is an endpoint for others, who have the routes below /api.
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        asks: dict[str, Any] = {"inputs": [session], "outputs": below, **quiet}

        parts["cards"].select(self.choose, **asks)
        page.load(self.first, **{**asks, "outputs": [*below, parts["cards"]]})
        started = parts["sample"].click(self.use_sample, **asks)
        started.then(self.run, **asks, concurrency_limit=8)
        parts["upload"].upload(self.use_upload, **{**asks, "inputs": [session, parts["upload"]]})
        parts["axes"].submit(self.use_axes, **{**asks, "inputs": [session, parts["axes"]]})
        for name in ("channel", "channels"):
            parts[name].input(self.use_channel, **{**asks, "inputs": [session, parts[name]]})
        parts["run"].click(self.run, **asks, concurrency_limit=8)
        parts["cancel"].click(self.cancel, **asks, queue=False)
        page.unload(self.leave)

    # -------------------------------------------------------------------------------- 1 browse

    def cards(self) -> str:
        """The list of models."""
        entries = self._state.catalog.entries()
        first = next((e.id for e in entries if e.runs), "")
        return render("cards", entries=entries, chosen=first)

    def nothing_chosen(self) -> str:
        """What stands in the place of a model before one is chosen."""
        return render("nothing", text="Choose a model.")

    def first(self, session: Session) -> Updates:
        """Open the page on the first model that runs here; models may have come or gone."""
        cards = {self._parts["cards"]: self.cards()}
        for entry in self._state.catalog.entries():
            if entry.runs:
                return {**cards, **self._open(entry.id)}
        return {**cards, self._session: session}

    def choose(self, session: Session, event: gr.EventData, request: gr.Request) -> Updates:
        """Open the model whose card was chosen."""
        self._go_on(request)
        return self._open(str(event.id))

    def _open(self, model_id: str) -> Updates:
        parts = self._parts
        cleared = self._without_image()
        try:
            package = self._state.catalog.package(model_id)
            shown = self._model_html(package)
        except BiozooError as exc:
            return {
                **cleared,
                self._session: Session(),
                parts["model"]: _sentence("no", exc.message),
                parts["steps"]: gr.update(visible=False),
            }
        return {
            **cleared,
            self._session: Session(model=model_id),
            parts["model"]: shown,
            parts["steps"]: gr.update(visible=self._state.catalog.verdict(package).ok),
            **self._own_images(package),
        }

    def _model_html(self, package: ModelPackage) -> str:
        card, entry = ModelCard.of(package), self._state.catalog.entry(package)

        def picture(path: str) -> str | None:
            if package_picture(package.root, path) is None:
                return None
            return f"api/models/{quote(package.id)}/picture?path={quote(path)}"

        def drawn(tensor: str, n: int) -> str:
            version = quote(package.version or "")
            where = f"api/models/{quote(package.id)}/test-picture"
            return f"{where}?tensor={quote(tensor)}&n={n}&v={version}"

        pictures = test_pictures(package)
        shown = card.to_html(image_url=picture, pictures=pictures, picture_url=drawn)
        return render(
            "model",
            card=card,
            entry=entry,
            chips=[c for c in (card.task, card.dimensions, entry.size, card.license) if c],
            takes="; ".join(t.summary for t in card.inputs),
            card_html=Markup(shown),
        )

    def _own_images(self, package: ModelPackage) -> Updates:
        """A place for one's own image, or why there is none."""
        parts, ids = self._parts, [tensor.id for tensor in package.summary.inputs]
        if len(ids) == 1:
            shown, hidden = gr.update(visible=True), gr.update(visible=False)
            return {parts["upload"]: shown, parts["alone"]: hidden}
        words = ["zoo", "run", package.id, *(f"{i}=IMAGE" for i in ids), "-o", "out/"]
        html = render("several", count=len(ids), names=", ".join(ids), command=shlex.join(words))
        return {
            parts["upload"]: gr.update(visible=False),
            parts["alone"]: gr.update(value=html, visible=True),
        }

    # --------------------------------------------------------------------------------- 2 check

    def use_sample(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Take the model's sample as the image."""
        subject = self._go_on(request)
        yield self._looking()
        try:
            package = self._state.catalog.package(session.model)
            sample = sample_image(package, self._state.samples)
        except BiozooError as exc:
            yield self._refuse(session, exc.message)
            return
        chosen = ChosenImage(sample.image, sample.name, sample.about, sample.command)
        checked = self._check(replace(session, image=chosen))
        yield checked if self._subject.get(_page(request)) is subject else self._nothing()

    def use_upload(
        self, session: Session, file: str | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Take an uploaded file as the image, untouched."""
        if not file:
            return
        subject = self._go_on(request)
        # Emptied at once, so that the next image can be dropped where this one was.
        yield {**self._looking(), self._parts["upload"]: gr.update(value=None)}
        path = Path(file)
        checked = self._check(replace(session, image=ChosenImage(path, path.name)))
        yield checked if self._subject.get(_page(request)) is subject else self._nothing()

    def use_axes(self, session: Session, text: str) -> Updates:
        """Take the axes that were typed."""
        if session.image is None:
            return {self._session: session}
        image = replace(session.image, axes=text.strip() or None, channel=None)
        return self._check(replace(session, image=image))

    def use_channel(self, session: Session, channel: int | str | list[int] | None) -> Updates:
        """Take the channel, or the channels, that were chosen."""
        if session.image is None:
            return {self._session: session}
        choice = tuple(channel) if isinstance(channel, list) else channel
        image = replace(session.image, channel=None if choice == () else choice)
        return self._check(replace(session, image=image))

    def _check(self, session: Session) -> Updates:
        """Look at the image and say whether and how it fits the model."""
        parts, chosen = self._parts, session.image
        if chosen is None:
            return self._refuse(session, "Choose an image first.")
        try:
            package = self._state.catalog.package(session.model)
            checked = examine(package, chosen, self._state)
        except BiozooError as exc:
            return self._refuse(session, chosen.own_words(exc.message))
        except Exception as exc:  # else the page would say for ever that it is looking
            logging.getLogger(__name__).exception("check of %s on %s", session.model, chosen.name)
            words = f"The check failed in a way nobody foresaw: {type(exc).__name__}: {exc}"
            return self._refuse(session, chosen.own_words(words))
        one = checked.wanted == 1
        choices: Updates = {
            parts["axes"]: gr.update(visible=checked.ask_axes, value=chosen.axes or ""),
            parts["channel"]: gr.update(
                visible=bool(checked.channels) and one,
                choices=list(checked.channels),
                value=chosen.channel if one else None,
            ),
            parts["channels"]: gr.update(
                visible=bool(checked.channels) and not one,
                choices=[c for c in checked.channels if c[1] != "gray"],
                value=list(chosen.channel) if isinstance(chosen.channel, tuple) else [],
                label=f"Which {checked.wanted} channels shall the model see?",
                info=_channel_order(package, chosen, checked),
            ),
        }
        return {
            **self._without_image(),
            **choices,
            self._session: replace(session, checked=checked.ok),
            parts["checked"]: checked.html,
            parts["run"]: gr.update(interactive=checked.ok, visible=True),
        }

    # ----------------------------------------------------------------------------------- 3 run

    def run(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Run the model; yields how far it is until it is done, has failed or was cancelled."""
        parts, chosen = self._parts, session.image
        if chosen is None or not session.checked:
            return  # the check has said why
        try:
            package = self._state.catalog.package(session.model)
        except BiozooError as exc:
            yield self._refuse(session, exc.message)
            return
        run = self._state.runs.start(
            RunRequest(
                package,
                chosen.image,
                chosen.name,
                axes=chosen.axes,
                channel=chosen.channel,
                sample=bool(chosen.about),
                sample_command=chosen.command,
            )
        )
        page = _page(request)
        self._active[page] = run
        try:
            yield {
                self._session: replace(session, run=run.id),
                parts["run"]: gr.update(visible=False),
                parts["cancel"]: gr.update(visible=True, interactive=True),
                parts["result"]: "",
                parts["progress"]: _progress(run),
            }
            while not run.wait(POLL_SECONDS) and self._active.get(page) is run:
                yield {parts["progress"]: _progress(run)}
            if self._active.get(page) is run:  # else the page has gone on to something else
                yield {
                    parts["run"]: gr.update(visible=True, interactive=True),
                    parts["cancel"]: gr.update(visible=False),
                    **self._finished(run, chosen),
                }
            else:
                yield self._nothing()
        finally:
            run.cancel()  # where the page was closed while it ran; nothing once it is done

    def _finished(self, run: Run, chosen: ChosenImage) -> Updates:
        parts = self._parts
        if run.outcome is not None:
            html = render(
                "result",
                run=run,
                outcome=run.outcome,
                sizes={d.file: size_text(d.size) for d in run.outcome.downloads},
            )
            return {parts["progress"]: "", parts["result"]: html}
        status = "note" if run.state == "cancelled" else "no"
        return {
            parts["progress"]: _sentence(status, chosen.own_words(run.error)),
            parts["result"]: "",
        }

    def cancel(self, session: Session) -> Updates:
        """Ask the run of this page to stop."""
        with contextlib.suppress(NotFoundError):  # it has ended, and its files are gone
            self._state.runs.get(session.run).cancel()
        return {self._parts["cancel"]: gr.update(interactive=False)}

    def leave(self, request: gr.Request) -> None:
        """Stop what the page has started: it was closed."""
        self._go_on(request)
        self._subject.pop(_page(request), None)

    def _go_on(self, request: gr.Request) -> object:
        """Stop what the page has started: it goes on to something else, which gets this token.

        A handler that finds another one in its place later has been overtaken.
        """
        subject = self._subject[_page(request)] = object()
        run = self._active.pop(_page(request), None)
        if run is not None:
            run.cancel()
        return subject

    def _nothing(self) -> Updates:
        """No change; without it Gradio repeats the last one when a handler ends."""
        return {self._parts["progress"]: gr.skip()}

    # ------------------------------------------------------------------------------- in common

    def _without_image(self) -> Updates:
        """Everything below the choice of an image, as it is before one is chosen."""
        parts = self._parts
        hidden = gr.update(visible=False)
        return {
            parts["checked"]: "",
            parts["axes"]: hidden,
            parts["channel"]: hidden,
            parts["channels"]: hidden,
            parts["run"]: gr.update(interactive=False, visible=True),
            parts["cancel"]: hidden,
            parts["progress"]: "",
            parts["result"]: "",
        }

    def _looking(self) -> Updates:
        """What stands there until the check is done; the first one takes seconds."""
        html = render("looking", text="Looking at the image...")
        return {**self._without_image(), self._parts["checked"]: html}

    def _refuse(self, session: Session, sentence: str) -> Updates:
        """No image, and the reason in its place."""
        return {
            **self._without_image(),
            self._session: replace(session, image=None, checked=False),
            self._parts["checked"]: _sentence("no", sentence),
        }


def _page(request: gr.Request) -> str:
    return str(request.session_hash)


def _channel_order(package: ModelPackage, chosen: ChosenImage, checked: Checked) -> str:
    """Which of the model's channels gets which of the image's, in the order of the choice."""
    names = ModelCard.of(package).inputs[0].channels
    names = names or tuple(f"channel {i + 1}" for i in range(checked.wanted))
    if isinstance(chosen.channel, tuple) and chosen.channel:
        titles = {value: title for title, value in checked.channels}
        pairs = zip(names, chosen.channel, strict=False)
        return "; ".join(f"the model's {name} gets {titles.get(i, i)}" for name, i in pairs)
    return f"In the order in which the model takes them: {', '.join(names)}."


def _sentence(status: str, text: str) -> str:
    return render("sentence", status=status, text=text)


def _progress(run: Run) -> str:
    """How far a run is, as a bar and in words."""
    progress = run.progress
    if run.stopping:
        words = "Stopping..."
    elif run.state == "waiting":
        words = "Waiting for another run to end..."
    elif progress is None:
        words = "Loading the model..."
    elif progress.done >= progress.total:
        words = "Writing the result..."
    else:
        left = run.seconds_left
        words = f"{progress.stage.capitalize()}: {progress.done} of {progress.total} tiles"
        if left is not None:
            words += f", about {seconds_words(left)} left"
    return render(
        "progress",
        words=words,
        total=progress.total if progress else 0,
        done=progress.done if progress else 0,
    )
