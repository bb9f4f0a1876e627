"""What the page says before a run: does it fit, what is to be chosen, what will be done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo import Zoo
from http_jobs import BASE, app_of, settings_of, uploaded
from packages import make_package

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api.asked import page_words

NOISE = np.random.default_rng(0).integers(0, 900, (3, 64, 80)).astype(np.uint16)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(settings_of(home))
    zoo.add(make_package(home / "tiny"))
    zoo.add(make_package(home / "pair", id="pair", channels=2, channel_names=["DNA", "actin"]))
    zoo.add(make_package(home / "two", id="two", inputs=2))
    zoo.add(make_package(home / "deep", id="deep", axes="bczyx", size=8))
    zoo.add(make_package(home / "sized", id="sized", pixel_size={"y": 0.5, "x": 0.5}))
    with TestClient(app_of(home), base_url=BASE) as client:
        client.get("/api/health")
        yield client


def check(client: TestClient, model: str, image: Any, **choices: Any) -> dict[str, Any]:
    answer = client.post("/api/checks", json={"model": model, "image": image} | choices)
    assert answer.status_code == 200, answer.text
    assert "--" not in answer.text  # of options of the command line
    assert "/uploads/" not in answer.text  # of the server's folders
    told: dict[str, Any] = answer.json()
    return told


def test_an_image_that_fits_is_ready(client: TestClient) -> None:
    told = check(client, "tiny", uploaded(client, NOISE[0])["id"])
    assert (told["ok"], told["verdict"]["status"]) == (True, "yes")
    assert told["facts"] == "80 x 64 pixels, 16 bit"
    assert (told["channels"], told["loops"], told["ask_axes"]) == (None, None, False)
    assert told["tiles"] == 1
    topics = {item["topic"] for item in told["items"]}
    assert {"Weights", "Trust", "Axes", "Memory"} <= topics
    assert {item["status"] for item in told["items"]} <= {"yes", "note"}


def test_of_several_channels_one_is_to_be_chosen(client: TestClient) -> None:
    image = uploaded(client, NOISE, axes="cyx")["id"]
    told = check(client, "tiny", image)
    assert (told["ok"], told["verdict"]["status"]) == (False, "note")
    assert told["verdict"]["text"] == (
        "The model takes one channel, this image has 3: choose below."
    )
    assert told["channels"]["wanted"] == 1
    assert told["channels"]["chosen"] is None
    assert [c["value"] for c in told["channels"]["image"]] == [0, 1, 2]
    assert not [item for item in told["items"] if item["topic"] == "Channels"]
    chosen = check(client, "tiny", image, channel=1)
    assert (chosen["ok"], chosen["channels"]["chosen"]) == (True, [1])


def test_a_colour_image_offers_gray_first(client: TestClient, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.moveaxis(NOISE, 0, -1).astype(np.uint8)).save(tmp_path / "a.png")
    answer = client.post(
        "/api/images/uploads?name=a.png", content=(tmp_path / "a.png").read_bytes()
    )
    image = answer.json()["id"]
    offered = check(client, "tiny", image)["channels"]["image"]
    assert [c["value"] for c in offered] == ["gray", 0, 1, 2]
    told = check(client, "tiny", image, channel="gray")
    assert (told["ok"], told["channels"]["chosen"]) == (True, ["gray"])
    assert told["facts"] == "80 x 64 pixels, colour, 8 bit"


def test_several_channels_are_chosen_in_the_models_order(client: TestClient) -> None:
    image = uploaded(client, NOISE, axes="cyx")["id"]
    told = check(client, "pair", image)
    assert (told["channels"]["wanted"], told["channels"]["model"]) == (2, ["DNA", "actin"])
    assert "takes 2 channels" in told["verdict"]["text"]
    assert not check(client, "pair", image, channel=[1])["ok"]
    chosen = check(client, "pair", image, channel=[2, 0])
    assert (chosen["ok"], chosen["channels"]["chosen"]) == (True, [2, 0])


def test_too_few_channels_is_a_no_and_nothing_to_choose(client: TestClient) -> None:
    told = check(client, "pair", uploaded(client, NOISE[0])["id"])
    assert (told["ok"], told["channels"], told["verdict"]["status"]) == (False, None, "no")
    [why] = [item["what"] for item in told["items"] if item["status"] == "no"]
    assert "takes 2 channels (DNA, actin), 'cells.tif' has no channel axis" in why


def test_a_stack_is_run_plane_by_plane_and_a_series_too(client: TestClient) -> None:
    assert check(client, "tiny", uploaded(client, NOISE, axes="zyx")["id"])["loops"] == (
        "each of 3 planes by itself"
    )
    both = uploaded(client, np.stack([NOISE, NOISE]), axes="tzyx")["id"]
    told = check(client, "tiny", both)
    assert told["loops"] == "each of 3 planes of each of 2 time points by itself"
    assert told["facts"] == "2 time points, 3 planes of 80 x 64 pixels, 16 bit"
    assert told["tiles"] == 6


def test_a_volume_model_on_a_plane_says_what_is_missing(client: TestClient) -> None:
    told = check(client, "deep", uploaded(client, NOISE[0])["id"])
    assert not told["ok"]
    assert "'z' is missing" in " ".join(item["what"] for item in told["items"])


def test_axes_that_nobody_named_are_asked_for(client: TestClient) -> None:
    told = check(client, "tiny", uploaded(client, NOISE)["id"])
    assert (told["ok"], told["ask_axes"], told["items"]) == (False, True, [])
    assert told["verdict"]["status"] == "note"
    assert "does not say which axes they are" in told["verdict"]["text"]


def test_scales_are_offered_and_a_wrong_one_is_a_no(client: TestClient) -> None:
    image = uploaded(client, NOISE[0], pixel_size={"y": 0.25, "x": 0.25})["id"]
    scale = check(client, "tiny", image)["scale"]
    assert [c["value"] for c in scale["choices"]] == [None, 0.5, 0.71, 1.41, 2.0]
    assert "does not say which pixel size" in scale["about"]
    sized = check(client, "sized", image, scale="auto")["scale"]
    assert sized["choices"][1] == {"value": "auto", "label": "by pixel size (0.5 times)"}
    assert sized["about"] == "A pixel of this image is 0.25 µm; the model was made for 0.5 µm."
    assert sized["chosen"] == "auto"
    assert check(client, "tiny", image, scale=0.5)["ok"]
    wrong = check(client, "tiny", image, scale=1000)
    assert not wrong["ok"]
    assert (wrong["items"][0]["topic"], wrong["tiles"]) == ("Scale", None)
    assert "Scale 1000 is not usable" in wrong["items"][0]["what"]
    without = check(client, "tiny", image, scale="auto")
    assert "what is missing" in without["items"][0]["what"]


def test_a_model_of_several_inputs_takes_an_image_for_each(client: TestClient) -> None:
    one, many = uploaded(client, NOISE[0])["id"], uploaded(client, NOISE, axes="cyx")["id"]
    told = check(client, "two", one)
    assert not told["ok"]
    assert "takes 2 images: raw, raw1" in " ".join(i["what"] for i in told["items"])
    told = check(client, "two", {"raw": one, "raw1": many})
    assert (told["ok"], told["channels"]) == (False, None)
    assert list(told["channels_by_input"]) == ["raw1"]
    told = check(client, "two", {"raw": one, "raw1": many}, channel={"raw1": 2})
    assert (told["ok"], told["channels_by_input"]["raw1"]["chosen"]) == (True, [2])
    assert told["facts"].startswith("raw: 80 x 64 pixels")


def test_what_does_not_exist_and_a_strangers_image(client: TestClient) -> None:
    image = uploaded(client, NOISE[0])["id"]
    asked = {"model": "tiny", "image": image}
    for wrong, status in (
        ({"model": "tny"}, 404), ({"image": "nothing"}, 404), ({"image": {"raw": "x"}}, 404),
        ({"color": 1}, 422), ({"image": 3}, 422),
    ):  # fmt: skip
        answer = client.post("/api/checks", json=asked | wrong)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), wrong
    stranger = TestClient(client.app, base_url=BASE)
    assert stranger.post("/api/checks", json=asked).status_code == 404


def test_words_of_the_command_line_are_left_out() -> None:
    text = "It has 3. Choose with --channel 0. Lines\nstay (not: --axes zyx). End."
    assert page_words(text) == "It has 3. End."
    assert (
        page_words("A well-known one - or - two.\n  b: c.")
        == "A well-known one - or - two.\n  b: c."
    )


# ------------------------------------------------------------------------------------------ samples


def test_the_sample_of_a_model_is_opened_once(client: TestClient) -> None:
    first = client.post("/api/models/nuclei-fluo/sample")
    assert first.status_code == 201, first.text
    told = first.json()
    assert told["about"] == "simulated nuclei under a fluorescence microscope"
    assert told["command"] == "zoo sample nuclei -o cells.ome.tif"
    [image] = told["images"].values()
    assert (image["name"], image["sizes"]["y"], image["axes_known"]) == ("cells.ome.tif", 512, True)
    assert client.post("/api/models/nuclei-fluo/sample").json() == told
    assert check(client, "nuclei-fluo", image["id"])["ok"]
    assert client.post("/api/models/nothing/sample").status_code == 404


def test_a_package_without_a_simulated_sample_shows_what_it_was_tested_with(
    client: TestClient,
) -> None:
    told = client.post("/api/models/two/sample").json()
    assert (list(told["images"]), told["command"]) == (["raw", "raw1"], "")
    assert told["about"] == "the image that the model was tested with"
    ids = {tensor: image["id"] for tensor, image in told["images"].items()}
    assert check(client, "two", ids)["ok"]


def test_the_check_is_described(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    answer = schema["paths"]["/api/checks"]["post"]["responses"]["200"]["content"]
    assert answer["application/json"]["schema"]["$ref"].endswith("/Check")
    assert "verdict" in json.dumps(schema["components"]["schemas"]["Check"])
