"""The web page: how long until it is ready, how quickly it lists, shows and previews, and what a
job over it costs against the same run from the command line.

    python benchmarks/page.py [--runs 5] [--size 8192]

Also part of `make bench`. The server is a process of its own, asked over HTTP on this machine; what
needs a browser is left out where there is no Chromium (`BIOZOO_CHROMIUM` names one).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tifffile
from bench import Bench
from measure import compare, seconds

CHROMIUM = os.environ.get("BIOZOO_CHROMIUM") or shutil.which("chromium")
VIEW = ".zoo-main > .zoo-view"
TILED = {"tile": (512, 512), "compression": "zlib", "predictor": True}
INDEX = "http://127.0.0.1:9/index.json"  # nobody answers there


def main() -> int:
    """Measure; 1 if a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=8192, help="edge of the large image")
    parser.add_argument("--model", default="nuclei-fluo", help="built-in id")
    args = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIOZOO_HOME"] = f"{folder}/home"
        the_page(bench, Path(folder), args.model, args.runs, args.size)
    return 1 if bench.failed else 0


def the_page(bench: Bench, folder: Path, model: str, runs: int, size: int = 8192) -> None:
    """All of it; `folder` is for homes and images."""
    home = folder / "page-home"
    images = folder / "images"
    images.mkdir()
    started(bench, home, runs)
    many_models(bench, folder / "many-home", runs)
    with server(home, "--images", str(images)) as address, session(address) as client:
        large_image(bench, client, images, size, runs)
        previews(bench, client, model, images / "plain.ome.tif", runs)
        jobs(bench, client, model, folder, runs)


# ------------------------------------------------------------------------------------- the server


@contextlib.contextmanager
def server(home: Path, *options: str) -> Iterator[str]:
    """`zoo ui` on a free port, offline; its address once it says that it is there."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("BIOZOO_", "GRADIO_"))}
    environ |= {"BIOZOO_HOME": str(home), "BIOZOO_OFFLINE": "1", "BIOZOO_INDEX_URL": INDEX}
    code = "import sys; from biozoo_ui.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ui", "--no-browser", "--port", "0", *options],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[^\s?/]+", line)
        if not found:
            raise SystemExit(f"zoo ui did not start: {line}")
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def session(address: str) -> Iterator[httpx.Client]:
    """Somebody with a cookie of their own."""
    with httpx.Client(base_url=address, timeout=300) as client:
        client.get("/api/me").raise_for_status()
        yield client


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


# ---------------------------------------------------------------------------------------- ready


def started(bench: Bench, home: Path, runs: int) -> None:
    """From the command to a page that answers, and to one that can be used."""
    answered, answers, usable = [], [], []
    with _chromium() as browser:
        for _ in range(runs):
            start = time.perf_counter()
            with server(home) as address:
                httpx.get(address).raise_for_status()
                answered.append(time.perf_counter() - start)
                answers.append(_median([seconds(lambda: httpx.get(address)) for _ in range(5)]))
                if browser is not None:
                    context = browser.new_context()
                    page = context.new_page()
                    page.goto(address)
                    page.wait_for_selector(VIEW, timeout=120_000)
                    usable.append(time.perf_counter() - start)
                    context.close()
    bench.tell("zoo ui: from the command to the first answered page", _median(answered), " s")
    if usable:
        bench.tell("zoo ui: from the command to a page that can be used", _median(usable), " s")
    bench.at_most("the page once it is there", _median(answers), 1.0, " s")


@contextlib.contextmanager
def _chromium() -> Iterator[Any]:
    """A browser, None where there is none."""
    if CHROMIUM is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        yield browser
        browser.close()


def many_models(bench: Bench, home: Path, runs: int) -> None:
    """The list of a collection of a thousand, whose index was fetched before."""
    _write_collection(home / "cache" / "collection", 1000)
    with server(home) as address, session(address) as client:
        first = seconds(lambda: client.get("/api/models").raise_for_status())
        models: list[Any] = []
        limit = time.perf_counter() + 60
        while len(models) < 1000 and time.perf_counter() < limit:
            models = client.get("/api/models").json()["models"]
        if len(models) < 1000:
            raise SystemExit(f"the list has {len(models)} models")
        later = [seconds(lambda: client.get("/api/models")) for _ in range(4 * runs)]
        tag = {"if-none-match": client.get("/api/models").headers.get("etag", "")}
        same = [seconds(lambda: client.get("/api/models", headers=tag)) for _ in range(runs)]
    bench.at_most("list of 1,000 models, first time", first, 1.0, " s")
    bench.at_most("list of 1,000 models, later", _median(later), 0.1, " s")
    bench.tell("list of 1,000 models, unchanged", 1000 * _median(same), " ms")


def _write_collection(folder: Path, count: int) -> None:
    from biozoo.summary import ModelSummary, TensorSummary

    items, summaries = [], {}
    for i in range(count):
        sha = hashlib.sha256(str(i).encode()).hexdigest()
        source = f"http://127.0.0.1:9/m{i}/rdf.yaml"
        version = {"version": "v0", "source": source, "sha256": sha}
        items.append({"id": f"bioimage-io/model-{i}", "type": "model", "versions": [version]})
        summary = ModelSummary(
            id=f"model-{i}",
            name=f"Model number {i}",
            description="Segments nuclei in fluorescence images. " * 5,
            tags=("nuclei", "fluorescence", f"tag-{i}"),
            license="MIT",
            weights=("onnx",),
            inputs=(TensorSummary("raw", ("batch", "channel", "y", "x"), 1),),
            task="segmentation",
        )
        summaries[sha] = {"summary": summary.to_dict(), "trust": "no code"}
    folder.mkdir(parents=True)
    key = hashlib.sha256(INDEX.encode()).hexdigest()[:16]
    index = {"fetched": datetime.now(UTC).isoformat(), "index": {"items": items}}
    (folder / f"{key}-index.json").write_text(json.dumps(index))
    (folder / f"{key}-summaries.json").write_text(json.dumps(summaries))


# --------------------------------------------------------------------------------- a large image


def large_image(bench: Bench, client: httpx.Client, folder: Path, size: int, runs: int) -> None:
    """From opening it by its path to both channels' overview, and single tiles at full zoom."""
    _write_images(folder, size)
    for name in ("plain", "pyramid", "compressed"):
        overview, zoomed = [], []
        for _ in range(runs):
            start = time.perf_counter()
            image = _opened(client, folder / f"{name}.ome.tif")
            _overview(client, image)
            overview.append(time.perf_counter() - start)
            rows = range(0, size // 256, max(1, size // 256 // 8))
            zoomed += [seconds(partial(_tile, client, image, 0, 0, row, row)) for row in rows]
            client.delete(f"/api/images/{image['id']}")
        what = f"{size} x {size} x 2, {name}"
        bench.at_most(f"{what}: from opening to the overview", _median(overview), 0.5, " s")
        detail = f"slowest {1000 * max(zoomed):.0f} ms"
        bench.tell(f"{what}: a tile at full zoom", 1000 * _median(zoomed), " ms", detail)


def _write_images(folder: Path, size: int) -> None:
    """Blobs and noise of 16 bits, as a camera sees them: noise decides how they compress."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    image = np.stack(
        [
            (1500 * (np.sin(x / 40 + c) * np.cos(y / 55 - c) > 0.3)).astype(np.uint16)
            + rng.poisson(120, (size, size)).astype(np.uint16)
            for c in range(2)
        ]
    )
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": metadata}
    tifffile.imwrite(folder / "plain.ome.tif", image, ome=True, **options)
    tifffile.imwrite(folder / "compressed.ome.tif", image, ome=True, **options, **TILED)
    with tifffile.TiffWriter(folder / "pyramid.ome.tif", ome=True) as tif:
        levels = [image]
        while levels[-1].shape[-1] > 256:
            four = levels[-1].astype(np.uint32).reshape(2, *(n for s in levels[-1].shape[1:]
                                                              for n in (s // 2, 2)))  # fmt: skip
            levels.append(((four.sum((2, 4)) + 2) >> 2).astype(np.uint16))
        tif.write(levels[0], subifds=len(levels) - 1, **options, **TILED)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, photometric="minisblack", **TILED)


def _opened(client: httpx.Client, path: Path) -> dict[str, Any]:
    answer = client.post("/api/images/paths", json={"path": str(path)})
    answer.raise_for_status()
    return dict(answer.json())


def _tile(
    client: httpx.Client, image: dict[str, Any], level: int, channel: int, row: int, column: int
) -> bytes:
    where = f"{level}/0/{channel}/0/{row}/{column}"
    answer = client.get(f"/api/images/{image['id']}/tiles/{where}", params={"v": image["v"]})
    answer.raise_for_status()
    return answer.content


def _overview(client: httpx.Client, image: dict[str, Any]) -> None:
    """The coarsest level of every channel, asked for at once."""
    last, channels = len(image["levels"]) - 1, range(len(image["channels"]))
    with ThreadPoolExecutor(len(channels)) as pool:
        list(pool.map(lambda channel: _tile(client, image, last, channel, 0, 0), channels))


# -------------------------------------------------------------------------- previews and jobs


def previews(bench: Bench, client: httpx.Client, model: str, path: Path, runs: int) -> None:
    """From the click to the pixels of the objects: a screenful of the large image."""
    image = _opened(client, path)

    def click(at: int) -> None:
        view = {"y": [at, at + 800], "x": [at, at + 1200], "z": 0, "time": 0}
        asked = {"model": model, "image": image["id"], "channel": 0, "view": view}
        answer = client.post("/api/previews", json=asked)
        answer.raise_for_status()
        found = [one["image"] for one in answer.json()["layers"] if one["kind"] == "labels"]
        for labels in found:
            size = labels["levels"][0]
            tiles = [
                (r, c) for r in range(-(-size["y"] // 256)) for c in range(-(-size["x"] // 256))
            ]
            for row, column in tiles:
                _tile(client, labels, 0, 0, row, column)

    bench.tell("preview of 1200 x 800 pixels, the model's first", seconds(lambda: click(0)), " s")
    later = [seconds(lambda n=n: click(100 * n)) for n in range(1, runs + 1)]
    bench.at_most("preview of 1200 x 800 pixels, later", _median(later), 2.0, " s")


def jobs(bench: Bench, client: httpx.Client, model: str, folder: Path, runs: int) -> None:
    """The same image through a job of the server, and as `zoo run` does it; both models loaded."""
    import biozoo
    import biozoo_runners
    from biozoo.samples import simulate

    path = folder / "images" / "run.ome.tif"
    biozoo_runners.write_image(path, simulate("nuclei", (2048, 2048)).to_xarray()[0])
    image = _opened(client, path)

    def job() -> None:
        made = client.post("/api/jobs", json={"model": model, "image": image["id"]})
        made.raise_for_status()
        state = ""
        with client.stream("GET", f"/api/jobs/{made.json()['id']}/events") as events:
            for line in events.iter_lines():
                if line.startswith("data: "):
                    state = json.loads(line[6:])["state"]
        if state != "done":
            raise SystemExit(f"the job is {state}")

    with biozoo_runners.load(biozoo.open(model), device="cpu") as runner:

        def plain() -> None:
            batch = biozoo_runners.run_batch(runner, [path], folder / "out")
            if batch.failed:
                raise SystemExit(str(batch))

        cost = compare(job, plain, runs=runs)
    bench.at_most(
        "a job over the page / zoo run of the same image, 2048 x 2048, models loaded",
        cost.ratio, 1.1, " x", f"{cost.a:.2f} s / {cost.b:.2f} s",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
