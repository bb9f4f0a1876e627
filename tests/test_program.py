"""What a run needs of a description is kept, and is never out of date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import biozoo
from biozoo.errors import InvalidPackageError
from biozoo_runners.program import from_plain, program_of, to_plain
from packages import SIGMOID, ZERO_MEAN, change_rdf, make_package, read_rdf, write_rdf


def test_it_comes_back_equal_from_its_file(tmp_path: Path) -> None:
    steps = [
        ZERO_MEAN,
        {"id": "clip", "kwargs": {"min": -3.0, "max": 3.0}},
        {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], "max_percentile": 99.8}},
        {"id": "scale_linear", "kwargs": {"axis": "channel", "gain": [2.0, 3.0], "offset": 1.0}},
    ]
    folder = make_package(tmp_path / "p", channels=2, halo=2, postprocessing=[SIGMOID])
    rdf = read_rdf(folder)
    rdf["inputs"][0]["preprocessing"] = steps
    write_rdf(folder, rdf)
    made = program_of(biozoo.open(folder))
    again = program_of(biozoo.open(folder))
    assert again is not made
    assert again == made
    assert from_plain(json.loads(json.dumps(to_plain(made)))) == made


def test_objects_are_kept_too() -> None:
    made = program_of(biozoo.open("nuclei-fluo"))
    assert made.instances is not None
    assert program_of(biozoo.open("nuclei-fluo")).instances == made.instances


def test_a_second_process_runs_without_the_specification(tmp_path: Path) -> None:
    make_package(tmp_path / "p", halo=1, preprocessing=[ZERO_MEAN])
    code = (
        "import sys, numpy as np, biozoo_runners\n"
        "with biozoo_runners.load('p') as model:\n"
        "    model(np.ones((40, 40), 'float32'), axes='yx')\n"
        "print('bioimageio.spec' in sys.modules)"
    )

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        return done.stdout.strip() or done.stderr

    assert [run(), run()] == ["True", "False"]


def test_a_changed_description_is_read_anew(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4))
    assert str(program_of(biozoo.open(folder)).geometry.inputs[0].axes[2].size) == "8 + n*4"
    rdf = read_rdf(folder)
    rdf["inputs"][0]["axes"][2]["size"] = {"min": 12, "step": 4}
    write_rdf(folder, rdf)
    assert str(program_of(biozoo.open(folder)).geometry.inputs[0].axes[2].size) == "12 + n*4"


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"is": "Path"}', b'["no", "program"]'])
def test_a_damaged_file_is_made_anew(tmp_path: Path, biozoo_home: Path, damage: bytes) -> None:
    folder = make_package(tmp_path / "p")
    made = program_of(biozoo.open(folder))
    (kept,) = biozoo_home.rglob("programs/*.json")
    kept.write_bytes(damage)
    assert program_of(biozoo.open(folder)) == made
    assert kept.read_bytes() != damage


def test_an_invalid_description_is_refused_each_time(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    change_rdf(folder, inputs=yaml.safe_load("[{id: raw, axes: [{type: nonsense}]}]"))
    for _ in range(2):
        with pytest.raises(InvalidPackageError, match=r"inputs"):
            program_of(biozoo.open(folder))
