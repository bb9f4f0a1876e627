"""Small CZI, LIF and ND2 files for tests, written here.

The pixels of a CZI are written by Zeiss's own library. Nothing that can be installed writes LIF or
ND2: what they consist of is put together here, as far as the readers ask for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray


def write_czi(
    path: Path,
    blocks: Sequence[tuple[NDArray[Any], Mapping[str, int], tuple[int, int], int]],
    *,
    names: Sequence[str] = (),
    colors: Sequence[str] = (),
    scenes: Sequence[str] = (),
    scale: tuple[float, float, float] | None = (0.5, 0.1, 0.1),
) -> Path:
    """A CZI of `blocks`: pixels (y, x) or (y, x, 3 as blue, green, red), plane, place and scene.

    `scale`: micrometres of z, y and x.
    """
    from pylibCZIrw import czi

    z, y, x = (v * 1e-6 for v in scale or (0, 0, 0))
    with czi.create_czi(str(path), exist_ok=True) as file:
        for pixels, plane, (top, left), scene in blocks:
            data = np.ascontiguousarray(pixels)
            file.write(data=data, plane=dict(plane), location=(left, top), scene=scene)
        file.write_metadata(
            document_name="made",
            channel_names=dict(enumerate(names)),
            scale_x=x,
            scale_y=y,
            scale_z=z,
        )
    if scenes or colors:
        _extend_czi(path, scenes, colors)
    return path


def _extend_czi(path: Path, scenes: Sequence[str], colors: Sequence[str]) -> None:
    """Append a metadata segment that also names scenes and colours, as ZEN's do."""
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as file:
        tree = ElementTree.fromstring(file.raw_metadata)
    image = tree.find("./Metadata/Information/Image/Dimensions")
    metadata = tree.find("./Metadata")
    assert image is not None
    assert metadata is not None
    if scenes:
        listed = ElementTree.SubElement(ElementTree.SubElement(image, "S"), "Scenes")
        for number, name in enumerate(scenes):
            ElementTree.SubElement(listed, "Scene", Index=str(number), Name=name)
    shown = ElementTree.SubElement(ElementTree.SubElement(metadata, "DisplaySetting"), "Channels")
    for color in colors:
        channel = ElementTree.SubElement(shown, "Channel")
        ElementTree.SubElement(channel, "Color").text = "#FF" + color.lstrip("#").upper()
    xml = ElementTree.tostring(tree, encoding="utf-8")
    body = struct.pack("<ii", len(xml), 0) + bytes(248) + xml
    body += bytes(-len(body) % 32)
    with path.open("r+b") as stream:
        place = stream.seek(0, 2)
        place += -place % 32
        stream.seek(place)
        stream.write(struct.pack("<16sqq", b"ZISRAWMETADATA", len(body), len(body)) + body)
        stream.seek(32 + 60)  # where the file header says where the metadata lie
        stream.write(struct.pack("<q", place))


def write_lif(
    path: Path,
    images: Mapping[str, NDArray[Any]],
    *,
    luts: Sequence[str] = ("Gray",),
    scale: tuple[float, float, float] = (0.5, 0.1, 0.1),
) -> Path:
    """A LIF of images (time, channel, z, y, x); `scale`: micrometres of z, y and x."""
    elements, blocks = [], []
    for number, (name, pixels) in enumerate(images.items()):
        size, step = pixels.itemsize, pixels.strides
        channels = "".join(
            f'<ChannelDescription DataType="{int(pixels.dtype.kind == "f")}" ChannelTag="0" '
            f'Resolution="{8 * size}" NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" '
            f'LUTName="{luts[c % len(luts)]}" IsLUTInverted="0" BytesInc="{c * step[1]}" '
            'BitInc="0"/>'
            for c in range(pixels.shape[1])
        )
        lengths = {1: scale[2], 2: scale[1], 3: scale[0], 4: 2.0}
        dims = "".join(
            f'<DimensionDescription DimID="{number}" NumberOfElements="{pixels.shape[axis]}" '
            f'Origin="0" Length="{(pixels.shape[axis] - 1) * lengths[number] * unit}" '
            f'Unit="{"m" if number < 4 else "s"}" BitInc="0" BytesInc="{step[axis]}"/>'
            for number, axis, unit in ((1, 4, 1e-6), (2, 3, 1e-6), (3, 2, 1e-6), (4, 0, 1.0))
        )
        elements.append(
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription>'
            f"<Channels>{channels}</Channels><Dimensions>{dims}</Dimensions></ImageDescription>"
            f'</Image></Data><Memory Size="{pixels.nbytes}" MemoryBlockID="MemBlock_{number}"/>'
            "<Children/></Element>"
        )
        label = f"MemBlock_{number}"
        head = struct.pack("<BQBI", 0x2A, pixels.nbytes, 0x2A, len(label))
        head += label.encode("utf-16-le")
        blocks.append(struct.pack("<II", 0x70, len(head)) + head + pixels.tobytes())
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="made" UniqueID="made"><Data/><Memory '
        f'Size="0" MemoryBlockID="MemBlock_x"/><Children>{"".join(elements)}</Children></Element>'
        "</LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    start = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(text) // 2)
    path.write_bytes(start + text + b"".join(blocks))
    return path


def write_nd2(
    path: Path,
    pixels: NDArray[Any],
    *,
    names: Sequence[str] = ("",),
    colors: Sequence[str] = ("#ffffff",),
    scale: tuple[float, float] | None = (0.5, 0.1),
    taken: int | None = None,
) -> Path:
    """An ND2 (version 3) of (time, position, z, y, x, channel).

    `scale`: micrometres of z and of y and x; `taken`: how many pictures were made before a stop.
    """
    times, positions, depth, tall, wide, channels = pixels.shape
    bits = 8 * pixels.itemsize
    attributes = {
        "uiWidth": wide, "uiHeight": tall, "uiWidthBytes": wide * channels * pixels.itemsize,
        "uiComp": channels, "uiBpcInMemory": bits, "uiBpcSignificant": bits,
        "uiSequenceCount": times * positions * depth, "eCompression": 2,
    }  # fmt: skip
    planes = {
        f"a{i}": {
            "uiCompCount": 1,
            "uiSampleIndex": i,
            "uiColor": int.from_bytes(bytes.fromhex(colors[i].lstrip("#")), "little"),
            "sDescription": names[i],
            "pFluorescentProbe": {"m_ExcitationSpectrum": {"uiCount": 0}},
        }
        for i in range(channels)
    }
    metadata = {
        "bCalibrated": scale is not None,
        "dCalibration": scale[1] if scale else -1.0,
        "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes},
    }
    loops: list[dict[str, Any]] = []
    if times > 1:
        values = {"uiCount": times, "dStart": 0.0, "dPeriod": 2000.0, "dDuration": 2000.0 * times}
        loops.append({"eType": 1, "uLoopPars": values})
    if positions > 1:
        points = {
            f"i{i:010}": {"dPosX": 1.0 * i, "dPosY": 0.0, "pPosName": f"well {i + 1}"}
            for i in range(positions)
        }
        loops.append({"eType": 2, "uLoopPars": {"uiCount": positions, "Points": points}})
    if depth > 1:
        step = scale[0] if scale else 0.0
        loops.append({"eType": 4, "uLoopPars": {"uiCount": depth, "dZStep": step}})
    nested: dict[str, Any] = {}
    for loop in reversed(loops):
        nested = {**loop, **({"ppNextLevelEx": {"i0000000000": nested}} if nested else {})}
    chunks = {
        "ImageAttributesLV!": _lite({"SLxImageAttributes": attributes}),
        "ImageMetadataSeqLV|0!": _lite({"SLxPictureMetadata": metadata}),
    }
    if nested:
        chunks["ImageMetadataLV!"] = _lite({"SLxExperiment": nested})
    frames = pixels.reshape(-1, tall, wide, channels)
    for number, frame in enumerate(frames[:taken]):
        chunks[f"ImageDataSeq|{number}!"] = bytes(8) + frame.tobytes()
    out = bytearray(_chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0")))
    index = bytearray()
    for name, content in chunks.items():
        index += name.encode() + struct.pack("<QQ", len(out), len(content))
        out += _chunk(name.encode().ljust(4096 - 24, b"\0"), content)
    place = len(out)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", place)
    out += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", bytes(index) + end)
    path.write_bytes(bytes(out))
    return path


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<IIQ", 0x0ABECEDA, len(name), len(content)) + name + content


def _lite(values: Mapping[str, Any]) -> bytes:
    """Nikon's binary form of nested names and values."""
    return b"".join(_lite_items(values))


def _lite_items(values: Mapping[str, Any]) -> Iterator[bytes]:
    for name, value in values.items():
        label = (name + "\0").encode("utf-16-le")

        def head(kind: int, label: bytes = label) -> bytes:
            return struct.pack("<BB", kind, len(label) // 2) + label

        if isinstance(value, Mapping):
            inner = _lite(value)
            size = 2 + len(label) + 12 + len(inner)
            yield head(11) + struct.pack("<IQ", len(value), size) + inner + bytes(8 * len(value))
        elif isinstance(value, bool):
            yield head(1) + struct.pack("<B", value)
        elif isinstance(value, int):
            yield head(3) + struct.pack("<I", value)
        elif isinstance(value, float):
            yield head(6) + struct.pack("<d", value)
        else:
            yield head(8) + (str(value) + "\0").encode("utf-16-le")
