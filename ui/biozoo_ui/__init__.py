"""How people and programs reach biozoo: `cli` (the command `zoo`), `api` (FastAPI), `web` (Gradio).

Importing this package imports no web framework: the command line starts without them.
"""
