"""What `probe` says of networks whose geometry is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from biozoo.errors import NetworkError, UsageError
from biozoo_converters.networks.network import Network
from biozoo_converters.probing.probe import Probed, probe
from biozoo_converters.proof.growing import grow, mirrored
from biozoo_runners.sizes import AxisGeometry, FixedSize, ParameterizedSize, SizeReference

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


class Module(Network):
    """A torch module as a network, with nothing else in between."""

    format = "pytorch_state_dict"
    name = "net.py:Net"
    input_names = ("raw",)

    def __init__(self, module: Any):
        self.own = module.eval()

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            with torch.no_grad():
                made = self.own(*map(torch.from_numpy, inputs))
        except (RuntimeError, ValueError, AssertionError) as exc:
            raise NetworkError(str(exc).splitlines()[0]) from exc
        return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]

    @property
    def module(self) -> Any:
        return self.own


class Does(nn.Module):
    """`function(layers, *inputs)`."""

    def __init__(self, function: Any, *layers: Any):
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), function

    def forward(self, *x: Any) -> Any:
        return self.function(self.layers, *x)


class UNet(nn.Module):
    """Padded by 1, or valid, with one convolution per level; pools give the steps."""

    def __init__(self, dims: int = 2, pools: Sequence[Any] = (2, 2), base: int = 6, pad: int = 1):
        super().__init__()
        conv, up = getattr(nn, f"Conv{dims}d"), getattr(nn, f"ConvTranspose{dims}d")
        self.pool, self.pools = getattr(F, f"max_pool{dims}d"), list(pools)
        wide = [base * 2**k for k in range(len(self.pools) + 1)]
        self.down = nn.ModuleList(
            conv(wide[k - 1] if k else 1, wide[k], 3, padding=pad) for k in range(len(wide))
        )
        self.up = nn.ModuleList(up(wide[k + 1], wide[k], p, p) for k, p in enumerate(self.pools))
        self.back = nn.ModuleList(
            conv(2 * wide[k], wide[k], 3, padding=pad) for k in range(len(self.pools))
        )
        self.head = conv(base, 2, 1)

    def forward(self, x: Any) -> Any:
        skips = []
        for k, layer in enumerate(self.down):
            x = F.relu(layer(x))
            if k < len(self.pools):
                skips.append(x)
                x = self.pool(x, self.pools[k])
        for k in reversed(range(len(self.pools))):
            x, skip = self.up[k](x), skips[k]
            for axis in range(2, x.ndim):
                lost = skip.shape[axis] - x.shape[axis]
                skip = skip.narrow(axis, lost // 2, x.shape[axis]) if lost and self.valid else skip
            x = F.relu(self.back[k](torch.cat([x, skip], 1)))
        return self.head(x)

    @property
    def valid(self) -> bool:
        return self.down[0].padding[0] == 0


def conv(inside: int = 1, out: int = 1, kernel: int = 3, **more: Any) -> Any:
    more.setdefault("padding", kernel // 2)
    return nn.Conv2d(inside, out, kernel, **more)


def image(y: int = 100, x: int = 90, *, channels: int = 1, z: int | None = None, seed: int = 0):
    """Blobs and noise, as a preprocessed image looks."""
    rng = np.random.default_rng(seed)
    space = (y, x) if z is None else (z, y, x)
    made = rng.standard_normal((1, channels, *space))
    for axis in range(2, made.ndim):
        for _ in range(6):
            made = (made + np.roll(made, 1, axis)) / 2
    made = made / made.std() + 0.2 * rng.standard_normal(made.shape)
    dims = ("batch", "channel", *(("y", "x") if z is None else ("z", "y", "x")))
    return xr.DataArray(made.astype(np.float32), dims=dims)


def probed(module: Any, sample: Any = None, **more: Any) -> Probed:
    given = (
        sample if isinstance(sample, Mapping) else {"raw": image() if sample is None else sample}
    )
    return probe(Module(module), given, **more)


def axis(found: Probed, place: str) -> AxisGeometry:
    tensor, _, name = place.partition(".")
    return found.geometry.tensor(tensor).axis(name)


def sizes(found: Probed, tensor: str = "raw") -> dict[str, Any]:
    return {
        a.id: (a.size.min, a.size.step) if isinstance(a.size, ParameterizedSize) else a.size.size
        for a in found.geometry.tensor(tensor).axes
        if isinstance(a.size, ParameterizedSize | FixedSize)
    }


def follows(found: Probed, place: str) -> tuple[str, float, int, int]:
    """The input axis that an output axis follows, its scale, offset and halo."""
    a = axis(found, place)
    assert isinstance(a.size, SizeReference), str(a.size)
    return f"{a.size.tensor}.{a.size.axis}", a.scale, a.size.offset, a.halo


def keeps_its_word(module: Any, found: Probed) -> None:
    """Every output has the size that the geometry says, at several allowed sizes."""
    network = Module(module)
    for n in range(3):
        roots, arrays = {}, []
        for t in found.geometry.inputs:
            for k, a in enumerate(t.axes):
                match a.size:
                    case ParameterizedSize(least, step):
                        roots[t.id, a.id] = least + (n + k % 2) * step
                    case FixedSize(size):
                        roots[t.id, a.id] = size
        for t in found.geometry.inputs:
            shape = [found.geometry.size(t.id, a.id, roots) for a in t.axes]
            arrays.append(np.random.default_rng(n).standard_normal(shape).astype(np.float32))
        for t, made in zip(found.geometry.outputs, network.run(arrays), strict=True):
            assert [found.geometry.size(t.id, a.id, roots) for a in t.axes] == list(made.shape)


# ------------------------------------------------------------------------------------------- sizes


def test_a_unet_takes_multiples_of_its_pooling_and_gives_its_own_size() -> None:
    net = UNet()
    found = probed(net)
    least, step = sizes(found)["y"]
    assert step == 4
    assert sizes(found)["x"] == (least, 4)
    where, scale, offset, halo = follows(found, "output.y")
    assert (where, scale, offset) == ("raw.y", 1.0, 0)
    assert 0 < halo <= 20
    assert halo % 4 == 0
    assert least > 2 * halo
    assert found.geometry.tensor("output").dims == ("batch", "channel", "y", "x")
    assert found.batch
    keeps_its_word(net, found)


@pytest.mark.parametrize("step", [1, 3, 8, 14, 24, 28])
def test_the_step_is_found_where_other_sizes_are_refused(step: int) -> None:
    def strict(layers: Any, x: Any) -> Any:
        assert x.shape[2] % step == 0, "y"
        assert x.shape[3] % step == 0, "x"
        return layers[0](x)

    assert sizes(probed(Does(strict, conv())))["y"][1] == step


@pytest.mark.parametrize("step", [8, 14])
def test_a_network_that_loses_pixels_off_its_step_is_described_on_it(step: int) -> None:
    net = Does(
        lambda m, x: F.interpolate(m[1](F.max_pool2d(m[0](x), step)), scale_factor=float(step)),
        conv(1, 4), conv(4, 1),
    )  # fmt: skip
    found = probed(net)
    least, by = sizes(found)["y"]
    assert by == step
    assert least % step == 0
    assert follows(found, "output.y")[:3] == ("raw.y", 1.0, 0)
    keeps_its_word(net, found)


def test_strides_that_sizes_do_not_show_are_found_and_told() -> None:
    def any_size(layers: Any, x: Any) -> Any:
        first = layers[0](x)
        coarse = layers[1](F.max_pool2d(first, 8, ceil_mode=True))
        return layers[2](first + F.interpolate(coarse, size=first.shape[2:]))

    found = probed(Does(any_size, conv(1, 4), conv(4, 4), conv(4, 1)))
    assert sizes(found)["y"][1] == 8
    assert any("strides" in note for note in found.notes)


def test_every_axis_of_a_volume_has_its_own_step() -> None:
    net = UNet(3, [(1, 2, 2), (2, 2, 2)], base=4)
    found = probed(net, image(40, 36, z=9))
    assert [sizes(found)[a][1] for a in "zyx"] == [2, 4, 4]
    keeps_its_word(net, found)


def test_a_network_with_positions_has_one_size() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.place = (
                nn.Conv2d(1, 16, 16, 16),
                nn.Parameter(torch.randn(1, 16, 6, 6)),
            )
            self.look = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.out = nn.ConvTranspose2d(16, 1, 16, 16)

        def forward(self, x: Any) -> Any:
            x = self.patch(x) + self.place
            seen = self.look(x.flatten(2).transpose(1, 2)).transpose(1, 2)
            return self.out(seen.reshape(x.shape))

    found = probed(Positions())
    assert sizes(found)["y"] == sizes(found)["x"] == 96
    assert follows(found, "output.x")[:3] == ("raw.x", 1.0, 0)
    assert found.receptive_field == {"output.y": None, "output.x": None}
    assert any("tiles differ from the whole" in n for n in found.notes)


def test_a_size_that_only_a_refusal_names() -> None:
    def one(layers: Any, x: Any) -> Any:
        assert x.shape[2:] == (104, 56), f"the graph declares (1, 1, 104, 56), got {x.shape[2:]}"
        return layers[0](x)

    found = probed(Does(one, conv()), image(130, 130))
    assert [sizes(found)[a] for a in "yx"] == [104, 56]
    assert follows(found, "output.y") == ("raw.y", 1.0, 0, 1)


def test_square_images_only_are_one_size_with_a_note() -> None:
    def square(layers: Any, x: Any) -> Any:
        assert x.shape[2] == x.shape[3], "square"
        return layers[0](x)

    found = probed(Does(square, conv()))
    assert sizes(found)["y"] == sizes(found)["x"]
    assert any("only together" in note for note in found.notes)


def test_an_axis_can_be_kept_as_in_the_sample() -> None:
    found = probed(nn.Conv3d(1, 1, 3, padding=1), image(30, 28, z=7), fixed=["z"])
    assert sizes(found)["z"] == 7
    assert sizes(found)["y"][1] == 1
    with pytest.raises(UsageError, match="'time'"):
        probed(conv(), fixed=["time"])


def test_a_second_input_follows_the_first_where_it_must() -> None:
    both = Does(lambda m, a, b: m[0](a) + F.interpolate(m[1](b), scale_factor=2), conv(), conv())
    given = {"raw": image(96, 80), "low": image(48, 40, seed=1)}
    found = probed(both, given)
    assert follows(found, "low.y")[:3] == ("raw.y", 2.0, 0)
    assert sizes(found)["y"][1] == 2
    keeps_its_word(both, found)

    apart = Does(lambda m, a, b: m[0](a) + b.mean((2, 3), keepdim=True), conv())
    assert isinstance(axis(probed(apart, given), "low.y").size, ParameterizedSize)


# ----------------------------------------------------------------------------------------- outputs


def test_a_coarse_head_has_its_scale_and_a_super_resolution_too() -> None:
    coarse = nn.Sequential(conv(1, 6, stride=2), nn.ReLU(), conv(6, 3, stride=2))
    found = probed(coarse)
    assert follows(found, "output.y")[:3] == ("raw.y", 4.0, 0)
    assert sizes(found)["y"][1] == 4
    keeps_its_word(coarse, found)
    fine = nn.Sequential(conv(1, 4), nn.PixelShuffle(2))
    found = probed(fine)
    assert follows(found, "output.x") == ("raw.x", 0.5, 0, 2)
    keeps_its_word(fine, found)


def test_valid_convolutions_are_an_offset_and_no_halo() -> None:
    net = nn.Sequential(conv(1, 4, 5, padding=0), nn.ReLU(), conv(4, 1, padding=0))
    found = probed(net)
    assert follows(found, "output.y") == ("raw.y", 1.0, -6, 0)
    assert found.receptive_field["output.y"] == 3
    keeps_its_word(net, found)


def test_tiles_of_a_valid_unet_lie_on_its_strides() -> None:
    net = UNet(pools=(2, 2, 2), base=4, pad=0)
    found = probed(net)
    least, step = sizes(found)["y"]
    _, _, offset, halo = follows(found, "output.y")
    assert step == 8
    assert offset < 0
    assert (least + offset - 2 * halo) % 8 == 0
    keeps_its_word(net, found)


def test_a_class_per_image_has_no_space_and_an_embedding_an_index() -> None:
    pooled = (nn.AdaptiveAvgPool2d(4), nn.Flatten(2), nn.Linear(16, 7))
    found = probed(nn.Sequential(conv(1, 5), *pooled))
    assert found.geometry.tensor("output").dims == ("batch", "index", "channel")
    classes = nn.Sequential(conv(1, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    found = probed(classes)
    assert found.geometry.tensor("output").dims == ("batch", "channel")
    assert found.receptive_field == {}
    assert found.ranges["output"] == (0.0, 1.0)
    assert found.proven == {"output"}


def test_a_projection_loses_z_and_labels_lose_the_channel() -> None:
    found = probed(Does(lambda m, x: x.amax(2)), image(40, 36, z=6))
    assert found.geometry.tensor("output").dims == ("batch", "channel", "y", "x")
    found = probed(Does(lambda m, x: m[0](x).argmax(1), conv(1, 3)))
    assert found.geometry.tensor("output").dims == ("batch", "y", "x")
    assert found.dtypes["output"] == "int64"


def test_channels_last_and_named_outputs() -> None:
    net = Does(lambda m, x: m[0](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), conv(1, 3))
    found = probed(net, image().transpose("batch", "y", "x", "channel"), output_ids=["mask"])
    assert found.geometry.tensor("mask").dims == ("batch", "y", "x", "channel")
    pair = Does(lambda m, x: (m[0](x), x.mean((2, 3))), conv(1, 2))
    found = probed(pair, output_axes={"output1": "bi"})
    assert found.geometry.tensor("output1").dims == ("batch", "index")
    with pytest.raises(NetworkError, match="4 axes"):
        probed(pair, output_axes={"output": "byx"})


def test_tokens_of_a_plane_are_an_index_at_one_size() -> None:
    net = Does(lambda m, x: m[0](x).flatten(2).transpose(1, 2), nn.Conv2d(1, 8, 16, 16))
    found = probed(net)
    assert sizes(found)["y"] == 96
    assert sizes(found)["x"] == 80
    assert sizes(found, "output") == {"batch": 1, "index": 30, "channel": 8}
    assert any("several of" in note for note in found.notes)


# ------------------------------------------------------------------------------------------ ranges


def test_a_range_is_proven_by_the_last_operation_only() -> None:
    def three(layers: Any, x: Any) -> Any:
        y = layers[0](x)
        return torch.sigmoid(y)[:, :1], y.clamp(-2, 2), 0.5 + 1e-3 * y

    found = probed(Does(three, conv(1, 2)), output_ids=["a", "b", "c"])
    assert found.proven == {"a", "b"}
    assert found.ranges["a"] == (0.0, 1.0)
    assert found.ranges["b"] == (-2.0, 2.0)
    assert 0.4 < found.ranges["c"][0] < found.ranges["c"][1] < 0.6


# ----------------------------------------------------------------------------------------- context


def test_the_halo_is_the_reach_of_dilated_convolutions() -> None:
    net = nn.Sequential(*(conv(1, 1, padding=d, dilation=d) for d in (1, 4, 8)))
    found = probed(net)
    assert found.receptive_field == {"output.y": 13, "output.x": 13}
    assert follows(found, "output.y")[3] == 13


def test_each_axis_has_its_own_reach() -> None:
    net = nn.Conv3d(1, 1, (1, 5, 5), padding=(0, 2, 2))
    found = probed(net, image(30, 28, z=8))
    assert found.receptive_field == {"output.z": 0, "output.y": 2, "output.x": 2}
    assert follows(found, "output.z")[3] == 0


def test_tiles_with_the_measured_halo_equal_the_whole() -> None:
    net = UNet()
    found = probed(net)
    halo, (least, step) = follows(found, "output.y")[3], sizes(found)["y"]
    size = least + step
    whole = np.random.default_rng(7).standard_normal((1, 1, size + 4 * step, least))
    network, at = Module(net), 2 * step
    far = network.run([whole.astype(np.float32)])[0]
    near = network.run([np.ascontiguousarray(whole[:, :, at : at + size]).astype(np.float32)])[0]
    inside = near[:, :, halo : size - halo]
    same = far[:, :, at + halo : at + size - halo]
    assert np.abs(inside - same).max() <= 2e-3 * far.std()
    assert np.abs(near - far[:, :, at : at + size]).max() > 2e-3 * far.std()


@pytest.mark.parametrize("kind", ["squeeze", "norm"])
def test_a_network_that_looks_everywhere_is_told_with_a_number(kind: str) -> None:
    def squeeze(layers: Any, x: Any) -> Any:
        y = layers[0](x)
        return layers[1](y * torch.sigmoid(4 * y.mean((2, 3), keepdim=True)))

    norm = nn.Sequential(conv(1, 4), nn.InstanceNorm2d(4), nn.ReLU(), conv(4, 1))
    found = probed(Does(squeeze, conv(1, 4), conv(4, 1)) if kind == "squeeze" else norm)
    assert set(found.receptive_field.values()) == {None}
    assert any("whole image" in note and "%" in note for note in found.notes)
    assert follows(found, "output.y")[3] < 32
    assert sizes(found)["y"][1] == 1


def test_an_own_halo_counts_and_a_small_one_is_told() -> None:
    net = nn.Sequential(conv(1, 3, 9), conv(3, 1, 9))
    found = probed(net, halo=4)
    assert follows(found, "output.y")[3] == 4
    assert any("smaller than the measured 8" in note for note in found.notes)
    found = probed(net, halo={"y": 20})
    assert follows(found, "output.y")[3] == 20
    assert sizes(found)["y"][0] > 40
    assert not found.notes
    with pytest.raises(UsageError, match="'z'"):
        probed(net, halo={"z": 3})


# --------------------------------------------------------------------------------------- behaviour


def test_images_of_a_batch_that_are_mixed_go_one_by_one() -> None:
    mixes = nn.Sequential(conv(1, 3), nn.BatchNorm2d(3, track_running_stats=False))
    found = probed(mixes)
    assert not found.batch
    assert any("mixes the images" in note for note in found.notes)
    one = Does(lambda m, x: m[0](x[0])[None], conv())
    assert not probed(one).batch


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda m, x: x[x > 0.5], "data-dependent shape"),
        (lambda m, x: (x, torch.nonzero(x > 0)), "Output 2"),
        (lambda m, x: F.dropout(x, 0.5, training=True), "random"),
        (lambda m, x: x.mean(), "without axes"),
        (lambda m, x: torch.fft.fft(x), "complex64"),
    ],
)
def test_what_cannot_be_packed_says_why(function: Any, word: str) -> None:
    with pytest.raises(NetworkError, match=word):
        probed(Does(function))


def test_a_sample_that_does_not_fit_is_told_in_the_networks_words() -> None:
    with pytest.raises(NetworkError, match=r"raw \(1, 1, 100, 90\).*3 channels"):
        probed(conv(3, 1))


def test_the_same_again_and_every_run_is_told() -> None:
    net, told = UNet(), []
    first = probed(net, progress=lambda what, done, _: told.append((what, done)))
    assert probed(net) == first
    assert {what for what, _ in told} == {"sizes", "context"}
    assert [done for _, done in told] == list(range(1, len(told) + 1))
    assert len(told) < 120


# ------------------------------------------------------------------------------- libraries, zoo


def test_networks_of_a_library() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    unet = nets.UNet(2, 1, 2, (4, 8, 16), (2, 2), norm="batch")
    found = probed(unet)
    assert sizes(found)["y"][1] == 4
    keeps_its_word(unet, found)


def test_a_fixed_volume_of_a_library() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    net = nets.UNETR(1, 2, (32, 32, 32), feature_size=2, hidden_size=8, mlp_dim=8, num_heads=2)
    found = probed(net, image(40, 40, z=36))
    assert [sizes(found)[a] for a in "zyx"] == [32, 32, 32]
    assert found.geometry.tensor("output").dims == ("batch", "channel", "z", "y", "x")


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
def test_the_halo_of_a_published_model_is_enough(shared: Path) -> None:
    folder = shared / "models" / "nuclei-broad"
    sample = np.load(folder / "test_input.npy").astype(np.float32)
    sample = (sample - sample.mean()) / sample.std()
    given = xr.DataArray(sample, dims=("batch", "channel", "y", "x"))
    found = probed(torch.jit.load(str(folder / "weights.pt")), given)
    assert sizes(found)["y"][1] == 8
    assert 32 <= follows(found, "output.y")[3] <= 48  # its author declares 32
    assert found.dtypes == {"output": "float32"}


# ----------------------------------------------------------------------------------------- growing


def test_inputs_grow_by_mirroring_and_shrink_to_their_middle() -> None:
    line = np.arange(4)
    assert grow(line, {0: 9}).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert grow(np.arange(10), {0: 4}).tolist() == [3, 4, 5, 6]
    assert grow(np.ones((2, 1, 3), np.uint8), {1: 5, 2: 2}).shape == (2, 5, 2)
    assert mirrored(5, 1).tolist() == [0] * 5
    steps = np.abs(np.diff(grow(np.arange(7), {0: 100})))
    assert steps.max() == 1  # no seam
