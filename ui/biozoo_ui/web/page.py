"""The page's layout, and which handler answers which event. What they do is in `handlers`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .handlers import Handlers
from .render import render
from .session import Session

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from ..api.state import ServerState

STATIC = Path(__file__).parent / "static"
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Consolas", "DejaVu Sans Mono", "monospace")


def mount_page(app: FastAPI, state: ServerState) -> None:
    """Mount the page at "/" of an application that has all its other routes already."""
    # Gradio reads these from the environment only, the first one while it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(state.uploads)
    import gradio as gr

    theme = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        # Dark enough below white letters.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_border_color="*primary_700",
        button_primary_text_color="white",
    )
    gr.mount_gradio_app(
        app,
        build_page(state),
        path="/",
        server_name=state.settings.host,
        server_port=state.settings.port,
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=state.settings.max_upload,
        theme=theme,
        css_paths=[STATIC / "page.css"],
        head='<meta name="color-scheme" content="light dark">',
    )


def build_page(state: ServerState) -> gr.Blocks:
    """The page of one server."""
    import gradio as gr

    handlers = Handlers(state)

    page = gr.Blocks(title="biozoo", fill_width=True, analytics_enabled=False)
    with page:
        session = gr.State(Session())
        gr.HTML(render("header"), apply_default_css=False)
        with gr.Row(elem_id="columns"):
            with gr.Column(elem_id="browse", min_width=280):
                cards = gr.HTML(
                    handlers.cards(), js_on_load=_script("cards"), apply_default_css=False
                )
            with gr.Column(elem_id="work", min_width=280):
                model = gr.HTML(handlers.nothing_chosen(), apply_default_css=False)
                with gr.Column(elem_id="steps", visible=False) as steps:
                    gr.HTML(
                        render("step", number=2, title="Check an image"), apply_default_css=False
                    )
                    with gr.Row(elem_id="pick"):
                        with gr.Column(elem_id="pick-sample"):
                            sample = gr.Button(
                                "Try on the sample", variant="primary", elem_id="sample"
                            )
                            gr.HTML(render("hint"), apply_default_css=False)
                        alone = gr.HTML(visible=False, apply_default_css=False)
                        upload = gr.File(
                            label="Your own image: TIFF, PNG, any bit depth",
                            elem_id="upload",
                            height=96,
                        )
                    checked = gr.HTML(apply_default_css=False, elem_id="checked")
                    with gr.Row(elem_id="choices"):
                        axes = gr.Textbox(
                            label="Axes of the image, slowest first",
                            info="One letter per dimension: t time, c channel, z, y, x. "
                            "For example zyx for a stack of planes, tyx for a film.",
                            max_lines=1,
                            submit_btn="Use",
                            visible=False,
                            elem_id="axes",
                        )
                        channel = gr.Radio(
                            label="Which channel shall the model see?",
                            visible=False,
                            elem_id="channel",
                        )
                        channels = gr.CheckboxGroup(visible=False, elem_id="channels")
                    gr.HTML(render("step", number=3, title="Run"), apply_default_css=False)
                    with gr.Row(elem_id="go"):
                        run = gr.Button("Run", variant="primary", interactive=False, elem_id="run")
                        cancel = gr.Button("Cancel", visible=False, elem_id="cancel")
                    progress = gr.HTML(
                        js_on_load=_script("progress"), apply_default_css=False, elem_id="progress"
                    )
                    result = gr.HTML(
                        js_on_load=_script("viewer"), apply_default_css=False, elem_id="result"
                    )

        handlers.connect(
            page=page,
            session=session,
            cards=cards,
            model=model,
            steps=steps,
            sample=sample,
            upload=upload,
            alone=alone,
            checked=checked,
            axes=axes,
            channel=channel,
            channels=channels,
            run=run,
            cancel=cancel,
            progress=progress,
            result=result,
        )
    return page


def _script(name: str) -> str:
    """JavaScript that `gr.HTML` runs once when it is there."""
    return (STATIC / f"{name}.js").read_text(encoding="utf-8")
