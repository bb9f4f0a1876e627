"""Code in Keras weights: Lambda layers, and layers that are not of Keras itself.

Keras writes the network as JSON beside its numbers: in `config.json` of a `.keras` zip, in the
attribute `model_config` of an HDF5 file. A Lambda layer holds marshalled Python bytecode there;
of any other layer only the name of its class stands there. The JSON is read and nothing of it is
made into objects: bytecode is never unmarshalled, which can crash the interpreter.

A file is looked at as what it is, not as what it is called: Keras decides by the name's ending, and
one file can be a zip and HDF5 at once.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Layer", "layers_of", "why_unseen"]

#: The largest description of a network that is read.
MAX_CONFIG_BYTES = 64 * 2**20

_HDF5 = b"\x89HDF\r\n\x1a\n"

#: Layers of Keras that execute what their description holds, or load code from elsewhere.
_CODE = frozenset({"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"})

#: Layers and models of Keras 2 and 3 by the name under which HDF5 files hold them: other than in
#: a .keras file, no module stands beside it. "..." before a name: with 1D, 2D and 3D after it.
_KNOWN = """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional
    CategoryEncoding CenterCrop Concatenate CuDNNGRU CuDNNLSTM CutMix Dense DenseFeatures
    Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten Functional GRU GRUCell
    GRUCellV2 GRUV2 GaussianDropout GaussianNoise GroupNormalization GroupQueryAttention
    GroupedQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup LSTM LSTMCell
    LSTMCellV2 LSTMV2 Layer LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D
    Masking MaxNumBoundingBoxes Maximum MelSpectrogram Minimum MixUp Model MultiHeadAttention
    Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform
    RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue RandomInvert
    RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape
    Resizing ReversibleEmbedding STFTSpectrogram Sequential SimpleRNN SimpleRNNCell
    SlicingOpLambda Softmax Solarization SpectralNormalization StackedRNNCells StringLookup Subtract
    SyncBatchNormalization TFOpLambda TensorFlowOpLayer TextVectorization ThresholdedReLU
    TimeDistributed UnitNormalization Wrapper
    ...AdaptiveAveragePooling ...AdaptiveMaxPooling ...AveragePooling ...AvgPool ...Conv
    ...Conv_Transpose ...ConvLSTM ...Convolution ...Convolution_Transpose ...Cropping
    ...DepthwiseConv ...GlobalAveragePooling ...GlobalAvgPool ...GlobalMaxPool ...GlobalMaxPooling
    ...MaxPool ...MaxPooling ...SeparableConv ...SeparableConvolution ...SpatialDropout
    ...UpSampling ...ZeroPadding ContrastLimitedAdaptiveHistogramEqualization
"""


def _names() -> Iterator[str]:
    for name in _KNOWN.split():
        if not name.startswith("..."):
            yield name
            continue
        head, _, tail = name[3:].partition("_")
        yield from (f"{head}{n}D{tail}" for n in (1, 2, 3))


_OF_KERAS = frozenset(_names())


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that is code.

    Attributes
    ----------
    name
        "layer 'lambda_1'", or the place in the description of the network.
    class_name
        "Lambda", or the class with the module or package it is registered under.
    sha256
        Of the whole description of the network: any change of it is a change.
    text
        What the file says of the layer, as JSON.
    """

    name: str
    class_name: str
    sha256: str
    text: str


def layers_of(path: Path) -> tuple[Layer, ...]:
    """The layers of a weights file that are code, in the file's order.

    Empty where there are none, and where the file cannot be looked into (`why_unseen`).
    """
    found = []
    for config in _configs(path):
        try:
            network = json.loads(config)
        except (ValueError, RecursionError):
            continue
        if isinstance(network, dict):
            network.pop("compile_config", None)  # losses and metrics are not loaded
        sha = hashlib.sha256(config).hexdigest()
        found += [
            Layer(name, kind, sha, json.dumps(part, indent=1))
            for name, kind, part in _code(network)
        ]
    return tuple(found)


def why_unseen(path: Path) -> str:
    """Why a weights file cannot be looked into, "" where it can."""
    try:
        with path.open("rb") as file:
            hdf5 = file.read(len(_HDF5)) == _HDF5
    except OSError as exc:
        return f"it cannot be read ({exc.strerror})"
    if hdf5 and _h5py() is None:
        return "whether it holds code of its author can be seen with h5py only, which is missing"
    for config in _configs(path):
        try:
            json.loads(config)
        except (ValueError, RecursionError):
            return "its description of the network is not readable"
    return ""


def _configs(path: Path) -> Iterator[bytes]:
    """The descriptions of a network that a file holds, none where it cannot be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open("config.json") as member:
                content = member.read(MAX_CONFIG_BYTES + 1)
                if len(content) <= MAX_CONFIG_BYTES:
                    yield content
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        pass  # no network in it that Keras could load
    h5py = _h5py() if _maybe_hdf5(path) else None
    if h5py is None:
        return
    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except (OSError, KeyError, ValueError, RuntimeError, TypeError):
        return
    if isinstance(config, bytes | str):
        content = config.encode("utf-8", "surrogateescape") if isinstance(config, str) else config
        if len(content) <= MAX_CONFIG_BYTES:
            yield content


def _maybe_hdf5(path: Path) -> bool:
    """Whether the signature of HDF5 stands where it may: at 0, 512, 1024, 2048, ..."""
    try:
        with path.open("rb") as file:
            size, at = path.stat().st_size, 0
            while at + len(_HDF5) <= size:
                file.seek(at)
                if file.read(len(_HDF5)) == _HDF5:
                    return True
                at = at * 2 or 512
    except OSError:
        pass
    return False


def _h5py() -> Any:
    """The module, or None. No framework: it reads HDF5 files and nothing else."""
    try:
        import h5py
    except ImportError:
        return None
    return h5py


def _code(network: Any) -> Iterator[tuple[str, str, Any]]:
    """Place, class and description of each part of a network that is code."""
    stack: list[tuple[str, Any, bool]] = [("the network", network, True)]
    while stack:
        place, value, is_layer = stack.pop()
        if isinstance(value, list):
            stack += [(place, v, is_layer) for v in reversed(value)]
            continue
        if not isinstance(value, dict):
            continue
        name = value.get("class_name")
        if isinstance(name, str):
            place = _place(place, value, is_layer or "inbound_nodes" in value)
            if kind := _kind(name, value, is_layer):
                yield place, kind, value
                continue  # what is in it belongs to it
        # Layers stand in lists "layers", and one within another as "layer", "cell", ...
        inner = [
            (place, v, k in ("layers", "layer", "cell", "cells", "forward_layer", "backward_layer"))
            for k, v in value.items()
            if isinstance(v, dict | list)
        ]
        if isinstance(name, str) and isinstance(value.get("config"), list):  # Sequential, Keras 2
            inner = [(place, v, layer or v is value["config"]) for place, v, layer in inner]
        stack += reversed(inner)


def _kind(name: str, value: Mapping[str, Any], is_layer: bool) -> str:
    """What to call a part that is code, "" for what is of Keras."""
    if name in _CODE or name == "__lambda__":
        return name
    registered = value.get("registered_name")
    config = value.get("config")
    for given in (name, registered, config):  # "Package>Name": of a package of somebody
        if isinstance(given, str) and ">" in given:
            return given
    if "module" not in value:
        return name if is_layer and name not in _OF_KERAS else ""
    module = value["module"]
    if module is None:
        return str(registered or name)
    root = str(module).partition(".")[0]
    return "" if root in ("keras", "builtins") else f"{module}.{name}"


def _place(place: str, value: Mapping[str, Any], is_layer: bool) -> str:
    config = value.get("config")
    name = config.get("name") if isinstance(config, Mapping) else None
    return f"layer '{name}'" if is_layer and isinstance(name, str) else place
