"""What `zoo pack` reads and decides before any network runs: facts, steps, axes, options, cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from biozoo.errors import IncompleteError, UsageError
from biozoo_converters.networks.sources import kind_of_source
from biozoo_converters.packing.cover import draw_cover, picture
from biozoo_converters.packing.describe import framed, tolerances
from biozoo_converters.packing.licences import check_licence
from biozoo_converters.packing.metadata import author, citation
from biozoo_converters.packing.pack_file import PackFile, fold, schema
from biozoo_converters.packing.pack_init import init_text
from biozoo_converters.packing.pack_options import Options, merge, parse_kwargs
from biozoo_converters.packing.plan import checked
from biozoo_converters.packing.processing_text import check_steps, with_axes
from biozoo_converters.packing.samples import candidates
from biozoo_converters.packing.tags import tags_for

DOCS = Path(__file__).parents[1] / "docs"


# ------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize(
    ("text", "offer"),
    [
        ("Apache 2.0", "Apache-2.0"),
        ("BSD", "BSD-3-Clause"),
        ("GPL v3", "GPL-3.0-only or GPL-3.0-or-later"),
        ("GNU GPLv3 or later", "GPL-3.0-or-later or GPL-3.0-only"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("MIT License", "MIT"),
        ("LGPL v2.1", "LGPL-2.1-only"),
    ],
)
def test_a_licence_that_is_no_spdx_id_names_the_closest(text: str, offer: str) -> None:
    licence = check_licence(text)
    assert not licence.id
    assert f"Did you mean {offer}" in licence.fault


def test_a_licence_that_is_nothing_gets_no_wild_guess() -> None:
    assert "Did you mean" not in check_licence("proprietary").fault


def test_licences_that_are_ids() -> None:
    assert check_licence("mit").id == "MIT"
    deprecated = check_licence("GPL-3.0")
    assert deprecated.id == "GPL-3.0"
    assert "deprecated" in deprecated.note
    assert "GPL-3.0-only" in deprecated.note


def test_authors_as_people_write_them() -> None:
    assert author("Ada Lovelace") == {"name": "Ada Lovelace"}
    assert author("Ada <ada@example.org>") == {"name": "Ada", "email": "ada@example.org"}
    full = author("Ada; Institute, London; 0000-0002-1825-0097; github:ada-l; ada@example.org")
    assert full == {
        "name": "Ada",
        "affiliation": "Institute, London",
        "email": "ada@example.org",
        "github_user": "ada-l",
        "orcid": "0000-0002-1825-0097",
    }
    with pytest.raises(ValueError, match="checksum"):
        author("Ada; 0000-0002-1825-0098")


def test_citations_get_the_doi_or_address_that_the_specification_wants() -> None:
    assert citation("10.1038/s41592-019-0612-7")["doi"] == "10.1038/s41592-019-0612-7"
    made = citation("Caicedo et al. 2019, https://doi.org/10.1038/s41592-019-0612-7.")
    assert made == {"text": "Caicedo et al. 2019", "doi": "10.1038/s41592-019-0612-7"}
    assert citation("Ours, see https://example.org/p")["url"] == "https://example.org/p"
    plain = citation("Müller & Co")
    assert plain["text"] == "Müller & Co"
    assert "q=M%C3%BCller%20%26%20Co" in plain["url"]


def test_all_kinds_of_faults_come_together(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError) as told:
        checked(
            {
                "source": "net.py:Net",
                "name": "a/b",
                "license": "nope",
                "authors": ["/"],
                "weights": "missing.pt",
                "colour": "red",
                "inputs": [{"sample": "missing.tif", "preprocessing": ["blur"], "axis": "yx"}],
                "outputs": [{"id": "a b", "postprocessing": ["sigmoid:x=1"]}],
            },
            tmp_path,
        )
    faults = told.value.faults
    assert set(faults) >= {"name", "description", "license", "cite", "weights", "colour"}
    assert "did you mean axes" in faults["inputs.0.axis"]
    assert any("sigmoid" in fault for fault in faults.values())


def test_a_short_name_is_made_long_enough_and_that_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((8, 8)))
    plan = checked(
        {
            "source": "net.py:Net", "name": "N", "description": "D", "authors": ["A"],
            "license": "MIT", "cite": ["C"], "inputs": [{"sample": "x.npy"}],
        },
        tmp_path,
    )  # fmt: skip
    assert plan.metadata.fields["name"] == "N model"
    assert any("5 characters" in note for note in plan.metadata.notes)


# ------------------------------------------------------------------------------------------- steps


def test_steps_short_and_as_in_the_specification() -> None:
    steps, faults = check_steps(
        [
            "scale_range:min_percentile=1,max_percentile=99.8,eps=1e-6",
            {"id": "zero_mean_unit_variance", "kwargs": {"axes": "yx"}},
            {"clip": {"min": 0, "max": 1}},
            "fixed_zero_mean_unit_variance:mean=[1,2],std=[3,4]",
        ],
        "preprocessing",
    )
    assert faults == {}
    first, second, third, fourth = (with_axes(s, ("batch", "channel", "y", "x")) for s in steps)
    assert first["kwargs"] == {
        "min_percentile": 1, "max_percentile": 99.8, "eps": 1e-6, "axes": ["channel", "y", "x"],
    }  # fmt: skip
    assert second["kwargs"]["axes"] == ["y", "x"]
    assert third == {"id": "clip", "kwargs": {"min": 0, "max": 1}}
    assert fourth["kwargs"]["axis"] == "channel"


def test_wrong_steps_say_what_there_is() -> None:
    _, faults = check_steps(
        ["sigmod", "scale_range:low=1", "scale_mean_variance:reference_tensor=raw", "binarize"],
        "preprocessing",
    )
    assert "Did you mean sigmoid" in faults[0]
    assert "low" in faults[1]
    assert "postprocessing only" in faults[2]
    assert "threshold" in faults[3]


def test_the_casts_are_written_out_and_keep_every_value() -> None:
    assert framed([], ("batch", "y", "x"), "float32") == [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    ]
    ids = [s["id"] for s in framed([{"id": "sigmoid", "kwargs": {}}], ("y", "x"), "float32")]
    assert ids == ["ensure_dtype", "sigmoid", "ensure_dtype"]


def test_tolerances_stay_within_what_the_specification_allows() -> None:
    [one] = tolerances({"a": 1.0, "b": 2.0}, relative=1e-3, absolute=None, per_million=100)
    assert one["absolute_tolerance"] == 1e-3
    small, negative = tolerances(
        {"a": 0.01, "b": -3.0}, relative=1e-3, absolute=None, per_million=100
    )
    assert small["absolute_tolerance"] <= 0.01 * 0.01
    assert negative["absolute_tolerance"] == 0
    assert negative["output_ids"] == ["b"]


# ----------------------------------------------------------------------------------- axes, sources


def test_axes_that_a_network_may_have() -> None:
    assert next(candidates(("y", "x"))) == ("batch", "channel", "y", "x")
    assert next(candidates(("y", "x", "channel"))) == ("batch", "channel", "y", "x")
    assert next(candidates(("batch", "y", "x", "channel"))) == ("batch", "y", "x", "channel")
    assert next(candidates(("z", "y", "x"))) == ("batch", "channel", "z", "y", "x")


def test_what_a_source_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for source in ("net.py:Net", "monai.networks.nets:UNet", "w.onnx", "w.pt"):
        assert kind_of_source(source, tmp_path) == "network"
    for source in ("folder", "m.zip", "https://a.b/m.zip", "affable-shark", "nuclei-fluo"):
        assert kind_of_source(source, tmp_path) == "package"


def test_tags_are_told_by_axes_and_words() -> None:
    raw = {
        "name": "Nuclei in fluorescence images",
        "description": "Segments nuclei.",
        "inputs": [{"axes": [{"id": "z"}, {"id": "y"}, {"id": "x"}]}],
    }
    tags = tags_for(raw, source="net.py:UNet", torch=True, instances=False, given=["mine"])
    assert tags[0] == "mine"
    assert {"3d", "pytorch", "unet", "nuclei", "semantic-segmentation"} < set(tags)
    tags = tags_for(raw, source="net.py:A", torch=False, instances=True, given=["denoising"])
    assert "semantic-segmentation" not in tags


# ----------------------------------------------------------------------------------------- options


def test_arguments_of_the_network() -> None:
    typed = ["width=12", "channels=[8, 16] norm={a: 1},lr=1e-3", "act=relu x=null"]
    assert parse_kwargs(typed) == {
        "width": 12, "channels": [8, 16], "norm": {"a": 1}, "lr": 1e-3, "act": "relu", "x": None,
    }  # fmt: skip
    assert parse_kwargs(["strides=(2,2)", "norm=None", "flag=True"]) == {
        "strides": [2, 2], "norm": None, "flag": True,
    }  # fmt: skip
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_kwargs(["12"])


def test_options_win_over_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "pack.yaml").write_text(
        "source: net.py:Net\nname: From file\nsample: a.npy\naxes: zyx\npreprocessing: sigmoid\n"
    )
    values, root = merge(
        "there/pack.yaml",
        Options(sample=["b.npy"], postprocessing=["softmax"], kwargs=["a=1"]),
        {"name": "From option", "license": None},
        folder=tmp_path,
    )
    assert root == folder
    file, faults = fold(values, root)
    assert faults == {}
    assert file is not None
    assert (file.name, file.source, file.kwargs) == ("From option", "net.py:Net", {"a": 1})
    assert file.inputs[0].sample == tmp_path / "b.npy"
    assert (file.inputs[0].axes, file.inputs[0].preprocessing) == ("zyx", ["sigmoid"])
    assert file.outputs[0].postprocessing == ["softmax"]


def test_several_inputs_by_their_ids(tmp_path: Path) -> None:
    values, _ = merge(
        "net.py:Net",
        Options(sample=["a=a.npy", "b=b.npy"], axes=["b=zyx"], preprocessing=["b=sigmoid"]),
        {},
        folder=tmp_path,
    )
    assert [i["id"] for i in values["inputs"]] == ["a", "b"]
    assert values["inputs"][1]["axes"] == "zyx"
    assert values["inputs"][1]["preprocessing"] == ["sigmoid"]


@pytest.mark.parametrize("known", [{}, {"source": "n.py:N", "inputs": [{"sample": "x.npy"}]}])
def test_init_writes_a_file_whose_every_line_can_be_used(known: dict[str, Any]) -> None:
    text = init_text(known, name="pack.yaml", folder=Path("/nowhere"))
    as_it_is = yaml.safe_load(text)
    assert as_it_is["source"] == known.get("source", "net.py:Net")
    full = "\n".join(line.removeprefix("# ") for line in text.splitlines())
    values = {k: v for k, v in yaml.safe_load(full).items() if v is not None}
    _, faults = fold(values, Path("/nowhere"))
    assert faults == {}


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    """`python -m biozoo_converters.packing.pack_file > docs/pack.schema.json` writes it."""
    assert (DOCS / "pack.schema.json").read_text() == schema()


def test_every_field_is_in_the_docs() -> None:
    text = (DOCS / "packing.md").read_text()
    assert [name for name in PackFile.model_fields if f"`{name}`" not in text] == []


# ------------------------------------------------------------------------------------------- cover


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 1, 40, 60), ("batch", "channel", "y", "x")),
        ((1, 3, 8, 40, 30), ("batch", "channel", "z", "y", "x")),
        ((50, 50), ("y", "x")),
        ((1, 10), ("batch", "channel")),
        ((1, 9, 300, 20), ("batch", "channel", "y", "x")),
    ],
)
def test_a_cover_of_any_tensor(shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(0)
    image = rng.random((1, 1, 64, 64)).astype(np.float32)
    made = rng.random(shape).astype(np.float32)
    file = draw_cover(image, ("batch", "channel", "y", "x"), made, axes)
    assert file == draw_cover(image, ("batch", "channel", "y", "x"), made, axes)
    cover = Image.open(BytesIO(file))
    assert cover.width == 2 * cover.height


def test_labels_are_shown_in_colours_and_grey_values_are_not() -> None:
    labels = np.zeros((1, 1, 40, 40), np.int32)
    labels[..., :15, :15], labels[..., 20:, 20:] = 1, 2
    coloured = picture(labels, ("batch", "channel", "y", "x"))
    assert (coloured[0, 0] != coloured[-1, -1]).any()
    assert np.ptp(coloured[0, 0].astype(int)) > 20
    grey = picture(np.random.default_rng(0).integers(0, 4000, (40, 40)), ("y", "x"))
    assert (grey[..., 0] == grey[..., 2]).all()
