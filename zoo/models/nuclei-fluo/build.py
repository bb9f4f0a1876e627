"""Turn trained weights into the package that ships: ``zoo/biozoo/builtin/nuclei-fluo``.

    python zoo/models/nuclei-fluo/build.py build/nuclei-fluo/checkpoint.pt

Exports ONNX and proves that it agrees with torch at several shapes, makes the test tensors and the
cover from a simulated image, and writes ``rdf.yaml`` from bioimageio.spec objects. The numbers in
the description are those of ``evaluation.json`` beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

import numpy as np
import torch
from evaluate import HALO, find_objects, load_predictor
from model import CHANNEL_NAMES, INSTANCES, STEP, UNet, fuse_batch_norm

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "biozoo" / "builtin" / "nuclei-fluo"
OPSET = 18
VERSION = "0.1.0"
TEST_SHAPE = (160, 176)  # y x


def export(checkpoint: Path, target: Path) -> int:
    """Write the averaged weights as ONNX with free batch, y and x; return the parameter count.

    Raises
    ------
    RuntimeError
        If the exported graph computes something else than the network.
    """
    import onnxruntime

    model = UNet().eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    fuse_batch_norm(model)
    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model,
        (torch.rand(2, 1, 8 * STEP, 10 * STEP),),
        target,
        input_names=["raw"],
        output_names=["probability"],
        dynamic_shapes=({0: free, 2: free, 3: free},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    _tidy(target)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for shape in [(1, 1, 128, 128), (3, 1, 160, 128), (1, 1, 256, 400)]:
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = model(x).numpy()
        difference = np.abs(session.run(None, {"raw": x.numpy()})[0] - expected).max()
        if difference > 1e-4:
            raise RuntimeError(f"ONNX differs from torch by {difference} at shape {shape}")
    return sum(p.numel() for p in model.parameters())


def _tidy(path: Path) -> None:
    """Name the free axes, and drop what the exporter notes about the machine it ran on."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim  # b c y x
        for i, name in ((0, "batch"), (2, "y"), (3, "x")):
            dims[i].dim_param = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def make_tensors(folder: Path) -> None:
    """Write the test tensors (uint16 1 1 y x and float32 1 3 y x) and the cover."""
    from biozoo.samples import simulate_nuclei

    image = simulate_nuclei(TEST_SHAPE, seed=12, diameter=26, clustering=0.6).image
    np.save(folder / "test_input.npy", image[None, None])
    # bioimage.io test tensors are the network's own input and output: no halo added or cropped.
    maps = load_predictor(folder / "weights.onnx", halo=0)(image)
    np.save(folder / "test_output.npy", maps[None].astype(np.float32))
    _make_cover(folder, load_predictor(folder / "weights.onnx"))


def _make_cover(folder: Path, predict) -> None:
    """Write a simulated image, and over its lower right half the objects that the model finds."""
    from imageio.v3 import imwrite
    from skimage.color import hsv2rgb
    from skimage.segmentation import find_boundaries

    from biozoo.samples import simulate_nuclei

    image = simulate_nuclei((320, 320), seed=4, diameter=36, density=0.32, clustering=0.7).image
    labels = find_objects(predict(image), INSTANCES)
    low, high = np.percentile(image, [1, 99.7])
    grey = np.clip((image - low) / (high - low), 0, 1)[..., None].repeat(3, axis=2)  # y x rgb
    hue = (np.arange(labels.max() + 1) * 0.618) % 1  # golden ratio: neighbours differ
    colour = hsv2rgb(np.stack([hue, np.full_like(hue, 0.65), np.ones_like(hue)], -1))[labels]
    painted = np.where(labels[..., None] > 0, 0.35 * grey + 0.65 * colour * (0.3 + grey), grey)
    painted[find_boundaries(labels, mode="inner")] = colour[find_boundaries(labels, mode="inner")]
    y, x = np.indices(labels.shape)
    lower = (x + y) > labels.shape[1]
    cover = np.where(lower[..., None], painted, grey)
    cover[np.abs(x + y - labels.shape[1]) <= 1] = 1
    imwrite(folder / "cover.png", (np.clip(cover, 0, 1) * 255).astype(np.uint8))


def describe(folder: Path, n_parameters: int, results: dict) -> None:
    """Write ``README.md`` and ``rdf.yaml``."""
    from bioimageio.spec import ValidationContext, save_bioimageio_yaml_only
    from bioimageio.spec.dataset import v0_3 as dataset
    from bioimageio.spec.model import v0_5 as spec

    (folder / "README.md").write_text(_readme(n_parameters, results), encoding="utf-8")
    file = lambda name: spec.FileDescr(source=name)  # noqa: E731
    with ValidationContext(root=folder):
        space = [
            spec.SpaceInputAxis(
                id=axis,
                type="space",
                size=spec.ParameterizedSize(min=2 * HALO + 2 * STEP, step=STEP),
                concatenable=True,
            )
            for axis in ("y", "x")
        ]
        scaled = [
            spec.SpaceOutputAxisWithHalo(
                id=axis,
                type="space",
                size=spec.SizeReference(tensor_id="raw", axis_id=axis),
                halo=HALO,
            )
            for axis in ("y", "x")
        ]
        batch = spec.BatchAxis(id="batch", type="batch")
        raw = spec.InputTensorDescr(
            id="raw",
            description="One channel of stained nuclei, bright on dark, any bit depth, 6 to 110 "
            "pixels across.",
            axes=[
                batch,
                spec.ChannelAxis(id="channel", type="channel", channel_names=["nuclei"]),
                *space,
            ],
            data=spec.IntervalOrRatioDataDescr(type="float32"),
            test_tensor=file("test_input.npy"),
            preprocessing=[
                spec.EnsureDtypeDescr(
                    id="ensure_dtype", kwargs=spec.EnsureDtypeKwargs(dtype="float32")
                ),
                spec.ScaleRangeDescr(
                    id="scale_range",
                    kwargs=spec.ScaleRangeKwargs(
                        axes=["channel", "y", "x"],
                        min_percentile=1.0,
                        max_percentile=99.8,
                        eps=1e-6,
                    ),
                ),
                spec.ClipDescr(id="clip", kwargs=spec.ClipKwargs(min=-1.0, max=3.0)),
                spec.EnsureDtypeDescr(
                    id="ensure_dtype", kwargs=spec.EnsureDtypeKwargs(dtype="float32")
                ),
            ],
        )
        probability = spec.OutputTensorDescr(
            id="probability",
            description="Probability of a nucleus; distance from its edge (0) to its middle (1); "
            "probability of two nuclei meeting.",
            axes=[
                batch,
                spec.ChannelAxis(id="channel", type="channel", channel_names=list(CHANNEL_NAMES)),
                *scaled,
            ],
            data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
            test_tensor=file("test_output.npy"),
        )
        training_data = dataset.DatasetDescr(
            name="BBBC038v1 fluorescence images with corrected masks",
            description="Fluorescence images of the 2018 Data Science Bowl (BBBC038v1) with the "
            "community's corrections of the masks.",
            authors=[dataset.Author(name="Broad Bioimage Benchmark Collection")],
            cite=[_cite_dataset(dataset)],
            license="CC0-1.0",
            source="https://bbbc.broadinstitute.org/BBBC038",
            format_version="0.3.0",
            type="dataset",
        )
        model = spec.ModelDescr(
            format_version="0.5.12",
            type="model",
            id="nuclei-fluo",
            name="Nuclei in fluorescence images (small 2D U-Net)",
            description="Finds each nucleus in 2D fluorescence images of stained nuclei, of any "
            "bit depth. Small enough for a laptop or a browser.",
            version=VERSION,
            authors=[spec.Author(name="biozoo contributors")],
            license="BSD-3-Clause",
            documentation=file("README.md"),
            covers=[file("cover.png")],
            tags=[
                "2d",
                "fluorescence-light-microscopy",
                "nuclei",
                "instance-segmentation",
                "semantic-segmentation",
                "cells",
                "dapi",
                "unet",
                "pytorch",
                "onnx",
            ],
            cite=[
                spec.CiteEntry(
                    text="Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for "
                    "Biomedical Image Segmentation. MICCAI 2015",
                    doi="10.1007/978-3-319-24574-4_28",
                ),
                _cite_dataset(spec),
                spec.CiteEntry(
                    text="Schmidt, Weigert, Broaddus, Myers: Cell Detection with Star-Convex "
                    "Polygons. MICCAI 2018 (the average precision reported here)",
                    doi="10.1007/978-3-030-00934-2_30",
                ),
            ],
            inputs=[raw],
            outputs=[probability],
            training_data=training_data,
            timestamp=spec.Datetime(datetime.datetime.fromisoformat(results["date"])),
            weights=spec.WeightsDescr(
                onnx=spec.OnnxWeightsDescr(
                    source="weights.onnx",
                    sha256=_sha256(folder / "weights.onnx"),
                    opset_version=OPSET,
                )
            ),
            config=spec.Config(
                bioimageio=spec.BioimageioConfig(
                    reproducibility_tolerance=[
                        spec.ReproducibilityTolerance(
                            relative_tolerance=1e-3, absolute_tolerance=1e-3
                        )
                    ],
                    architecture_type="2D U-Net",
                    modality="fluorescence microscopy",
                    target_structure=["nuclei"],
                    task="instance segmentation",
                    out_of_scope_use=OUT_OF_SCOPE,
                    bias_risks_limitations=spec.BiasRisksLimitations(
                        known_biases=KNOWN_BIASES,
                        risks=RISKS,
                        limitations=OUT_OF_SCOPE,
                        recommendations=RECOMMENDATIONS,
                    ),
                    model_parameter_count=n_parameters,
                    evaluations=[_evaluation(spec, results)],
                ),
                biozoo={"instances": INSTANCES},
            ),
        )
        save_bioimageio_yaml_only(model, folder / "rdf.yaml")


OUT_OF_SCOPE = (
    "Not for stained tissue (H&E), phase contrast or other images where nuclei are dark or "
    "unstained, not for 3D stacks as volumes, not for whole cells, and not for diagnosis."
)
KNOWN_BIASES = (
    "Trained on 139 images of one benchmark, mostly cultured cells and few tissues, all with 8 bit "
    "and without a known pixel size. Mitotic and fragmented nuclei are rare in it."
)
RISKS = (
    "Dim nuclei beside much brighter ones are missed first; nuclei on top of each other are cut "
    "or merged; crowded tissue is harder than cultured cells."
)
RECOMMENDATIONS = (
    "Look at the result on some of your own images, correct a few, measure the average precision "
    "on them, and retrain if it is too low."
)
METRICS = {
    "ap50_mean": ("AP50", "TP / (TP + FP + FN) at IoU 0.5, mean over images"),
    "ap50_pooled": ("AP50 pooled", "the same with the counts of all images added up"),
    "ap50_90_mean": ("AP50:90", "mean of AP at IoU 0.5, 0.55 ... 0.9, mean over images"),
}
FACTORS = {
    "1.0": ("original", "held-out images as they are"),
    "0.5": ("half size", "the same images scaled to half"),
    "2.0": ("double size", "the same images scaled to double"),
}


def _cite_dataset(module):
    return module.CiteEntry(
        text="Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data "
        "Science Bowl. Nature Methods 16 (2019). Image set BBBC038v1, Broad Bioimage Benchmark "
        "Collection",
        doi="10.1038/s41592-019-0612-7",
    )


def _evaluation(module, results: dict):
    test = results["test"]
    return module.Evaluation(
        dataset_id="bbbc038v1-fluorescence-held-out",
        dataset_source="https://bbbc.broadinstitute.org/BBBC038",
        dataset_role="test",
        sample_count=test["1.0"]["images"],
        evaluation_factors=[FACTORS[k][0] for k in test],
        evaluation_factors_long=[FACTORS[k][1] for k in test],
        metrics=[short for short, _ in METRICS.values()],
        metrics_long=[long for _, long in METRICS.values()],
        results=[[scores[m] for scores in test.values()] for m in METRICS],
        results_summary="Comparable with the StarDist paper's average precision, on another "
        "split of the same image set.",
    )


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _readme(n_parameters: int, results: dict) -> str:
    test, noise = results["test"], results["empty"]
    rows = "\n".join(
        f"| {FACTORS[k][0]} | {s['ap50_mean']:.3f} | {s['ap50_pooled']:.3f} | "
        f"{s['ap50_90_mean']:.3f} |"
        for k, s in test.items()
    )
    template = (HERE / "package_readme.md").read_text(encoding="utf-8")
    return template.format(
        parameters=f"{n_parameters:,}",
        rows=rows,
        images=test["1.0"]["images"],
        nuclei=f"{test['1.0']['nuclei']:,}",
        found=noise["found"],
        empty=noise["images"],
        halo=HALO,
        out_of_scope=OUT_OF_SCOPE,
        biases=KNOWN_BIASES,
        risks=RISKS,
        recommendations=RECOMMENDATIONS,
    )


def main() -> None:
    """Build the package."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    n_parameters = export(args.checkpoint, args.out / "weights.onnx")
    make_tensors(args.out)
    describe(args.out, n_parameters, json.loads((HERE / "evaluation.json").read_text()))
    total = 0
    for path in sorted(args.out.iterdir()):
        total += path.stat().st_size
        print(f"{path.stat().st_size:>9,}  {path.name}")
    print(f"{total:>9,}  in all, {n_parameters:,} parameters")


if __name__ == "__main__":
    sys.exit(main())
