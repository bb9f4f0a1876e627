"""The Gradio page: its theme, and the one piece of HTML in which our own views live.

What a view does goes over the routes below /api (see docs/design/page.md): what is chosen stands in
the address, what was made on the server, so a reload or a second tab finds it again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .render import render

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from ..api.state import ServerState

SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Consolas", "DejaVu Sans Mono", "monospace")

#: Gradio's own frame around the page: no padding, no width of its own, no footer.
FRAME = """
.gradio-container, .gradio-container > .main, .gradio-container main.fillable,
.gradio-container .html-container, .gradio-container .block {
  max-width: none !important; padding: 0 !important; margin: 0 !important;
  border: 0 !important; background: none !important; overflow: visible !important;
}
.gradio-container .column { gap: 0 !important }
footer { display: none !important }
"""

START = """
const address = new URL("static/app/index.js", document.baseURI).href;
import(address).then((app) => app.start(element), (error) => {
  const words = element.querySelector("[data-waiting]");
  words.textContent = `The page could not be loaded (${error.message}). Load it again.`;
});
"""


def mount_page(app: FastAPI, state: ServerState) -> None:
    """Mount the page at "/" of an application that has all its other routes already."""
    # Gradio reads these from the environment only, the first one while it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(state.folder / "gradio")
    import gradio as gr

    theme = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
    )
    gr.mount_gradio_app(
        app,
        build_page(),
        path="/",
        server_name=state.settings.host,
        server_port=state.settings.port,
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=1,  # images go over our own routes
        theme=theme,
        css=FRAME,
        head='<meta name="color-scheme" content="light dark">',
    )


def build_page() -> gr.Blocks:
    """The page; its scripts and looks are below static/app."""
    import gradio as gr

    page = gr.Blocks(title="biozoo", fill_width=True, analytics_enabled=False)
    with page:
        gr.HTML(render("app"), js_on_load=START, apply_default_css=False, elem_id="biozoo")
    return page
