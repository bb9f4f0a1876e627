"""The same run as a job's, for a terminal and for Python: each runs as it is printed, in a folder
that holds the image, and writes what the job wrote below `out/`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from .model import Job, JobImage

OUT = "out"


def shell_command(job: Job) -> str:
    """The run on the command line, and before it how to get a sample.

    Empty where it has no options for what was chosen: a region, inputs that were each described in
    another way, or a channel whose name would be read as several or as a number.
    """
    images = list(job.images.values())
    chosen, first = job.choices, images[0]
    told = {(i.axes, i.scene, _pairs(i.pixel_size)) for i in images}
    if len(told) > 1 or chosen.region or first.pixel_size == {}:
        return ""
    words = ["zoo", "run", job.model, *_files(job), "-o", f"{OUT}/"]
    words += ["--axes", first.axes] if first.axes else []
    words += ["--scene", str(first.scene)] if first.scene is not None else []
    words += ["--pixel-size", _pairs(first.pixel_size)] if first.pixel_size else []
    if chosen.channel is not None:
        channel = _channel(chosen.channel)
        if channel is None:
            return ""
        words += ["--channel", channel]
    words += ["--scale", _scale(chosen.scale)] if chosen.scale is not None else []
    words += ["--tile", _pairs(chosen.tile)] if chosen.tile else []
    words += ["--min-size", str(chosen.min_size)] if chosen.min_size is not None else []
    if chosen.fill_holes is not None:
        words.append("--fill-holes" if chosen.fill_holes else "--keep-holes")
    return "\n".join([*_samples(job), shlex.join(words)])


def python_code(job: Job) -> str:
    """The run as a program."""
    return "\n".join(_lines(job)) + "\n"


def _lines(job: Job) -> Iterator[str]:
    from biozoo_runners.batch import stem

    samples = [c.split() for c in _samples(job)]  # zoo sample NAME -o FILE
    yield "from biozoo_runners import load, open_image, write_image"
    if samples:
        yield "from biozoo.samples import simulate"
    yield ""
    for _, _, name, _, file in samples:
        yield f"write_image({file!r}, simulate({name!r}).to_xarray()[0])"
    several = "" not in job.images
    if several:
        yield "image = {"
        for tensor, image in job.images.items():
            yield f"    {tensor!r}: {_opened(image, job.choices.region)},"
        yield "}"
    else:
        yield f"image = {_opened(job.image, job.choices.region)}"
    chosen = job.choices.to_dict()
    chosen.pop("region", None)
    arguments = "".join(f", {name}={value!r}" for name, value in chosen.items())
    yield f"with load({job.model!r}) as model:"
    yield f"    result = model(image{arguments})"
    yield "for name, data in result.items():"
    file = f"{OUT}/{stem(job.image.path)}"
    yield f'    write_image({file!r} + f".{{name}}.ome.tif", data)'
    yield "print(result.report)"


def _opened(image: JobImage, region: Mapping[str, tuple[int, int]] | None) -> str:
    told: dict[str, Any] = {
        "axes": image.axes,
        "scene": image.scene,
        "pixel_size": None if image.pixel_size is None else dict(image.pixel_size),
    }
    said = "".join(f", {name}={value!r}" for name, value in told.items() if value is not None)
    code = f"open_image({image.path.name!r}{said})"
    if region:
        cut = ", ".join(f"{axis!r}: slice({a}, {b})" for axis, (a, b) in region.items())
        code += f".read({{{cut}}})"
    return code


def _samples(job: Job) -> list[str]:
    return list(dict.fromkeys(i.command for i in job.images.values() if i.command))


def _files(job: Job) -> Iterator[str]:
    for tensor, image in job.images.items():
        name = image.path.name
        if tensor:
            yield f"{tensor}={name}"
        else:  # a name may begin like an option
            yield f"./{name}" if name.startswith("-") else name


def _pairs(values: Mapping[str, float] | None) -> str:
    return ",".join(f"{axis}={value:.12g}" for axis, value in (values or {}).items())


def _scale(scale: float | str | Mapping[str, float]) -> str:
    return _pairs(scale) if isinstance(scale, Mapping) else str(scale)


def _channel(channel: Any) -> str | None:
    """As the command line reads it, None where it would read something else."""
    if isinstance(channel, Mapping):
        return None
    names = channel if isinstance(channel, list | tuple) else [channel]
    for name in names:
        if isinstance(name, str) and (name.isdigit() or "," in name or name != name.strip()):
            return None
    return ",".join(map(str, names))
