"""A small server of synthetic images for the tests of the viewer, and a bare page that shows it.

It follows the image routes that the viewer asks for; `POST /control` makes it slow or failing.
Run it by hand: `python tests/viewer_server.py 8123`, then open `/page?layers=cells,cells-labels`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastapi import FastAPI

TILE = 256
STATIC = Path(__file__).parents[1] / "ui" / "biozoo_ui" / "web" / "static"
AXES = ("time", "channel", "z", "y", "x")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>viewer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>html, body {{ height: 100%; margin: 0 }}
body {{ padding: 14px; box-sizing: border-box; background: {back}; display: grid; gap: 14px;
  grid-auto-columns: minmax(0, 1fr); grid-auto-flow: column }}</style></head>
<body>{places}<script type="module">
import {{ createViewer }} from "/static/viewer/index.js";
window.log = [];
window.viewers = {specs}.map((layers, i) => {{
  const options = {{ ...{options}, layers }};
  const viewer = createViewer(document.getElementById(`v${{i}}`), options);
  for (const event of ["view", "pointer", "ready", "error"])
    viewer.on(event, (detail) => window.log.push([i, event, detail]));
  return viewer;
}});
if (window.viewers.length > 1) window.viewers[0].link(window.viewers[1]);
</script></body></html>"""


@dataclass(frozen=True)
class Synthetic:
    """An image in memory, time channel z y x, or of any size where `huge` gives its side."""

    name: str
    data: np.ndarray
    kind: str = "image"
    rgb: bool = False
    colours: tuple[str, ...] = ("#ffffff",)
    contrast: tuple[float, float] | None = None
    pixel_size: dict[str, float] | None = None
    huge: int | None = None
    channels: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        shape = self.data.shape
        if self.huge:
            shape = (*shape[:3], self.huge, self.huge)
        return dict(zip(AXES, shape, strict=True))

    @property
    def levels(self) -> list[dict[str, int]]:
        y, x = self.sizes["y"], self.sizes["x"]
        found = [{"y": y, "x": x}]
        while max(y, x) > TILE:
            y, x = -(-y // 2), -(-x // 2)
            found.append({"y": y, "x": x})
        return found

    def describe(self, id: str) -> dict[str, Any]:
        dtype = self.data.dtype
        full = [0, 1] if dtype.kind == "f" else [0, int(np.iinfo(dtype).max)]
        names = self.channels or tuple(f"Channel {i + 1}" for i in range(self.sizes["channel"]))
        return {
            "id": id,
            "v": 1,
            "name": self.name,
            "kind": self.kind,
            "dims": list(AXES),
            "sizes": self.sizes,
            "axes_known": True,
            "dtype": str(dtype),
            "pixels": "uint32" if self.kind == "labels" else str(dtype),
            "pixel_size": self.pixel_size,
            "unit": "µm",
            "channels": [
                {
                    "name": name,
                    "color": self.colours[i % len(self.colours)],
                    "range": full,
                    "contrast": list(self.contrast or full),
                }
                for i, name in enumerate(names)
            ],
            "rgb": self.rgb,
            "tile": TILE,
            "levels": self.levels,
        }

    def tile(self, level: int, time: int, channel: int, z: int, row: int, column: int) -> bytes:
        size = self.levels[level]
        y0, x0 = row * TILE, column * TILE
        y1, x1 = min(size["y"], y0 + TILE), min(size["x"], x0 + TILE)
        if min(y0, x0) < 0 or y0 >= y1 or x0 >= x1:
            raise IndexError(f"no tile {row}, {column} of level {level}")
        if self.huge:
            plane = self.data[time, channel, z]
            y = np.arange(y0, y1) * 2**level
            x = np.arange(x0, x1) * 2**level
            part = plane[np.ix_(y % plane.shape[0], x % plane.shape[1])].astype(np.float32)
            # Large rings across the whole, so that every place looks its own.
            far = np.hypot(y[:, None] - self.huge / 2, x[None] - self.huge / 2)
            part = (part * (0.6 + 0.4 * np.cos(far / self.huge * 30))).astype(self.data.dtype)
        else:
            part = self.pyramid(time, channel, z)[level][y0:y1, x0:x1]
        kept = np.uint32 if self.kind == "labels" else self.data.dtype
        return np.ascontiguousarray(part.astype(kept)).tobytes()

    def pyramid(self, time: int, channel: int, z: int) -> list[np.ndarray]:
        return _pyramid(self.data[time, channel, z], self.kind == "labels", len(self.levels))


_pyramids: dict[int, list[np.ndarray]] = {}


def _pyramid(plane: np.ndarray, labels: bool, count: int) -> list[np.ndarray]:
    key = plane.__array_interface__["data"][0]
    if key not in _pyramids:
        found = [plane]
        for _ in range(count - 1):
            now = found[-1]
            if labels:
                found.append(now[::2, ::2])
                continue
            even = np.pad(now, [(0, side % 2) for side in now.shape], mode="edge")
            four = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
            found.append(four.mean((1, 3)).astype(plane.dtype))
        _pyramids[key] = found
    return _pyramids[key]


@cache
def images() -> dict[str, Synthetic]:
    """The images by id; "exact" holds 10000 t + 1000 z + 10 c + (y + x) % 7."""
    labels, distance = _cells(900, 1100)
    y, x = np.mgrid[:900, :1100]
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 60, (900, 1100))
    nuclei = np.clip(3600 * np.clip(distance, 0, 1) ** 0.7 + 180 + noise, 0, 65535)
    body = np.clip(1500 * np.clip(distance + 0.9, 0, 2) ** 2 + 120 + noise, 0, 65535)
    planes = [np.stack([nuclei * f, body * (1.3 - f)]) for f in (0.35, 0.6, 1.0, 0.7, 0.3)]
    cells = np.stack(planes, 1)[None].astype(np.uint16)  # 1 2 5 y x
    py, px = np.mgrid[:300, :600]
    exact = np.empty((2, 2, 5, 300, 600), np.uint16)
    for t, c, z in np.ndindex(2, 2, 5):
        exact[t, c, z] = 10000 * t + 1000 * z + 10 * c + (py + px) % 7
    squares = np.zeros((300, 600), np.uint32)
    squares[100:200, 128:256] = 7  # ends at the edge of a tile
    squares[20:60, 400:500] = 70000
    rings = 0.5 + 0.5 * np.sin(np.hypot(y - 450, x - 550) / 30)
    colour = np.stack([255 - 40 * (distance > 0), 255 - 120 * (distance > -0.3), 255 - 60 * rings])
    probability = np.clip(distance * 2 + 0.2, 0, 1).astype(np.float32)[None, None, None]
    small = {"y": 0.1, "x": 0.1, "z": 0.3}
    return {
        "cells": Synthetic(
            "cells.ome.tif", cells, colours=("#4f7cff", "#2fd47a"), contrast=(150, 4200),
            pixel_size=small, channels=("DAPI", "Membrane"),
        ),
        "cells-labels": Synthetic("Nuclei found", labels[None, None, None], kind="labels"),
        "cells-map": Synthetic("Probability", probability),
        "exact": Synthetic("exact.tif", exact, colours=("#ff0000", "#00ff00"), contrast=(0, 5000)),
        "squares": Synthetic("squares", squares[None, None, None], kind="labels"),
        "bytes": Synthetic("bytes.png", (exact[:1, :1, :1] % 7 * 30).astype(np.uint8)),
        "ramp": Synthetic("ramp.npy", np.tile(px / 600, (1, 1, 1, 1, 1)).astype(np.float32)),
        "colour": Synthetic(
            "tissue.png", colour[None, :, None].astype(np.uint8), rgb=True,
            channels=("red", "green", "blue"),
        ),
        "huge": Synthetic(
            "slide.ome.zarr", cells[:, :, 2:3], colours=("#4f7cff", "#2fd47a"),
            contrast=(150, 4200), pixel_size=small, huge=8192,
        ),
    }  # fmt: skip


def _cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Round cells: labels, and how deep within a cell a pixel lies: 1 middle, below 0 outside."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    labels = np.zeros((height, width), np.uint32)
    depth = np.full((height, width), -9, np.float32)
    for label in range(1, 161):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        a, b, turn = rng.uniform(18, 34), rng.uniform(14, 26), rng.uniform(0, np.pi)
        u = (y - cy) * np.cos(turn) + (x - cx) * np.sin(turn)
        v = (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
        inside = 1 - np.hypot(u / a, v / b)
        mine = (inside > depth) & (inside > 0)
        labels[mine] = label
        depth = np.maximum(depth, inside)
    return labels, depth


@dataclass
class Control:
    """How the server behaves: `status` other than 200 for every tile, seconds of `delay`."""

    status: int = 200
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)


def create_app() -> FastAPI:
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from fastapi.staticfiles import StaticFiles

    app = FastAPI()
    app.state.control = Control()

    async def page(request: Request) -> HTMLResponse:
        """`layers`: ids joined by "," (after ":" the kind); "|" between viewers."""
        query = dict(request.query_params)
        dark = query.get("theme") == "dark"
        specs = [
            [
                {"url": f"/api/images/{id}"} | ({"kind": kind} if kind else {})
                for id, _, kind in (one.partition(":") for one in each.split(",") if one)
            ]
            for each in query.get("layers", "cells").split("|")
        ]
        options: dict[str, Any] = {"theme": query.get("theme", "auto")}
        if "panel" in query:
            options["panel"] = query["panel"] == "true"
        return HTMLResponse(
            PAGE.format(
                back="#0b1018" if dark else "#f5f7f9",
                places="".join(f'<div id="v{i}"></div>' for i in range(len(specs))),
                specs=json.dumps(specs),
                options=json.dumps(options),
            )
        )

    async def describe(id: str) -> Response:
        if id not in images():
            return JSONResponse({"error": f"There is no image {id}. Open it again."}, 404)
        return JSONResponse(images()[id].describe(id))

    async def tile(
        request: Request, id: str, level: int, time: int, channel: int, z: int, row: int,
        column: int,
    ) -> Response:  # fmt: skip
        control: Control = app.state.control
        control.asked.append(request.url.path)
        await asyncio.sleep(control.delay)
        if control.status != 200:
            return JSONResponse({"error": "The disk of the server is full."}, control.status)
        try:
            content = images()[id].tile(level, time, channel, z, row, column)
        except (KeyError, IndexError):
            return JSONResponse({"error": "There is no such tile."}, 404)
        headers = {"cache-control": "private, max-age=3600, immutable"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content, 1)
            headers["content-encoding"] = "gzip"
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def control(request: Request) -> JSONResponse:
        found: Control = app.state.control
        for name, value in (await request.json()).items():
            setattr(found, name, value)
        return JSONResponse({"asked": found.asked})

    # Annotations are words here, and these are known inside this function only.
    for function in (page, tile, control):
        function.__annotations__["request"] = Request
    app.add_api_route("/page", page, response_model=None)
    app.add_api_route("/api/images/{id}", describe, response_model=None)
    address = "/api/images/{id}/tiles/{level}/{time}/{channel}/{z}/{row}/{column}"
    app.add_api_route(address, tile, response_model=None)
    app.add_api_route("/control", control, methods=["POST"], response_model=None)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
