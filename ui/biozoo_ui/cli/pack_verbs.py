"""The verb that makes a package from a network and its author's facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json
from .output import emit_json, note, say, verb
from .progress import progress_bar

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="net.py:Net (a class or function of a Python file), monai.networks.nets:UNet (of an "
        "installed library), a TorchScript or ONNX file, a pack.yaml, or an existing package "
        "(folder, .zip, id, https URL), which gets what it lacks.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option("-o", "--out", metavar="OUT.zip|FOLDER", help="Where the package goes."),
]
Kwargs = Annotated[
    list[str] | None,
    typer.Option(
        "--kwargs",
        metavar="NAME=VALUE",
        help="An argument of the class or function; the value is read as YAML: channels=[8,16]. "
        "May be repeated, or several in one, separated by blanks.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Trained weights: .pt, .pth, .ckpt or .safetensors."),
]
SampleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sample",
        metavar="[ID=]FILE",
        help="A typical input: an image or .npy. For several inputs one each, with their ids.",
    ),
]
SampleAxes = Annotated[
    list[str] | None,
    typer.Option(
        "--axes",
        metavar="[ID=]AXES",
        help="The sample's axes, slowest first, where its file does not say: letters of b (batch), "
        "t (time), c (channel), z, y, x.",
    ),
]
InputAxes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-axes",
        metavar="[ID=]AXES",
        help="The network's axes, where they are not the sample's with b and c in front.",
    ),
]
OutputAxes = Annotated[
    list[str] | None,
    typer.Option(
        "--output-axes", metavar="[ID=]AXES", help="An output's axes, where they cannot be told."
    ),
]
OutputIds = Annotated[
    list[str] | None,
    typer.Option("--output-id", metavar="ID", help="What an output is called, in their order."),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--outputs",
        metavar="0,1|NAME",
        help="Which outputs are kept of a network that returns more.",
    ),
]
Before = Annotated[
    list[str] | None,
    typer.Option(
        "--preprocessing",
        metavar="[ID=]STEP",
        help="A step of the specification, in order: zero_mean_unit_variance, "
        "scale_range:min_percentile=1,max_percentile=99.8, or YAML.",
    ),
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--postprocessing", metavar="[ID=]STEP", help="The same for outputs: sigmoid, softmax, ..."
    ),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channels", metavar="[ID=]A,B", help="A name for each channel of an input or output."
    ),
]
Halo = Annotated[
    str | None,
    typer.Option(metavar="16|y=16,x=16", help="Context per side in pixels; default: measured."),
]
Fixed = Annotated[
    str | None,
    typer.Option(metavar="y,x", help="Axes whose size the network takes only as in the sample."),
]
SampleSize = Annotated[
    str | None,
    typer.Option(
        "--sample-size",
        metavar="y=224,x=224",
        help="How much of the sample is used: for a network that takes one size only.",
    ),
]
Authors = Annotated[
    list[str] | None,
    typer.Option(
        "--author",
        metavar="AUTHOR",
        help="'Name', 'Name <email>' or 'Name; affiliation; orcid; github:user'; once for each.",
    ),
]
Cites = Annotated[
    list[str] | None,
    typer.Option(
        "--cite",
        metavar="TEXT",
        help="What to cite: a text with its DOI or address, or a DOI alone; once for each.",
    ),
]
TagsOption = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="Added to those found out.")
]
Covers = Annotated[
    list[str] | None,
    typer.Option("--cover", metavar="FILE", help="Instead of input beside output."),
]
Also = Annotated[
    str | None,
    typer.Option(
        metavar="torchscript,pytorch_state_dict", help="Further weights formats beside ONNX."
    ),
]
Variants = Annotated[
    str | None,
    typer.Option(
        metavar="float16,int8", help="Smaller variants, kept only where they are faster and agree."
    ),
]


@verb
def pack(
    source: Source = None,
    out: Out = None,
    kwargs: Kwargs = None,
    weights: Weights = None,
    strict: Annotated[
        bool,
        typer.Option("--strict/--not-strict", help="Must weights and network have the same keys?"),
    ] = True,
    sample: SampleOption = None,
    axes: SampleAxes = None,
    input_axes: InputAxes = None,
    preprocessing: Before = None,
    postprocessing: After = None,
    channels: Channels = None,
    outputs: Outputs = None,
    output_id: OutputIds = None,
    output_axes: OutputAxes = None,
    halo: Halo = None,
    fixed: Fixed = None,
    sample_size: SampleSize = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the model is called.")
    ] = None,
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it does, in a sentence or two.")
    ] = None,
    author: Authors = None,
    maintainer: Annotated[
        list[str] | None,
        typer.Option("--maintainer", metavar="USER", help="GitHub name of who answers for it."),
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="SPDX", help="An SPDX id: MIT, BSD-3-Clause, CC-BY-4.0.")
    ] = None,
    cite: Cites = None,
    documentation: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Markdown; default: a text with what was measured."),
    ] = None,
    id: Annotated[str | None, typer.Option(metavar="ID", help="Default: from the name.")] = None,
    version: Annotated[str | None, typer.Option(metavar="0.1.0", help="Of the model.")] = None,
    tag: TagsOption = None,
    cover: Covers = None,
    training_data: Annotated[
        str | None,
        typer.Option("--training-data", metavar="ID", help="A data set of bioimage.io, by its id."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="ID", help="The model that this one was made from.")
    ] = None,
    git_repo: Annotated[
        str | None, typer.Option("--git-repo", metavar="URL", help="Where it is developed.")
    ] = None,
    also: Also = None,
    variants: Variants = None,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing/--no-timing",
            help="Measure the speed. Without, the same input gives the same bytes everywhere.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be in it; write nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace OUT even if it is no package; an earlier package always is."
        ),
    ] = False,
    init: Annotated[
        bool,
        typer.Option(
            "--init",
            help="Write a pack.yaml to fill in (to -o FILE, or pack.yaml), with what you gave so "
            "far.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """A trained network becomes a package: measured, converted, proven.

    A file of your own (net.py) runs as your program does. Facts that only you know are asked for
    all at once; everything else is found out by running the network on the sample.
    """
    from biozoo_converters.packing.build import pack as pack_model
    from biozoo_converters.packing.pack_options import Options, merge

    options = Options(
        sample=sample or [],
        axes=axes or [],
        input_axes=input_axes or [],
        preprocessing=preprocessing or [],
        postprocessing=postprocessing or [],
        channels=channels or [],
        output_id=output_id or [],
        output_axes=output_axes or [],
        outputs=outputs or [],
        kwargs=kwargs or [],
        halo=halo,
        fixed=fixed,
        sample_size=sample_size,
    )
    facts: dict[str, Any] = {
        "weights": weights,
        "name": name,
        "description": description,
        "authors": author,
        "maintainers": maintainer,
        "license": license,
        "cite": cite,
        "documentation": documentation,
        "id": id,
        "version": version,
        "tags": tag,
        "covers": cover,
        "training_data": training_data,
        "parent": parent,
        "git_repo": git_repo,
        "also": also,
        "variants": variants,
        "strict": None if strict else False,
        "timing": None if timing else False,
    }
    values, root = merge(source, options, facts, folder=Path.cwd())
    if init:
        from biozoo_converters.packing.pack_init import write_init

        target = Path(out or "pack.yaml")
        write_init(values, target, overwrite=force)
        if as_json:
            emit_json({"written": target})
        else:
            say(str(target))
        note(f"Fill in what is missing, then: zoo pack {target} -o OUT.zip")
        return
    with progress_bar("packing") as draw:
        report = pack_model(
            values,
            None if out is None else Path(out),
            root=root,
            dry_run=dry_run,
            overwrite=force,
            progress=draw,
        )
    if as_json:
        emit_json(report.to_dict())
    else:
        say(str(report))


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("pack")(pack)
