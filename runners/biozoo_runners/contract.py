"""What every backend promises, as tests to inherit.

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend_class(self):
            return MyBackend

        @pytest.fixture
        def package(self, tmp_path):
            return biozoo.open(...)

The package should be small, deterministic, and take inputs of more than one size; its weights
should compute in float32. With ``device = "cuda"`` in the class the same is asked of a card.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from biozoo.errors import BiozooError, DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from .base import Backend

    Arrays = dict[str, NDArray[Any]]

__all__ = ["BackendContract"]


class BackendContract:
    """Tests that every backend passes; see this module's docstring for how to inherit them.

    A subclass gives the fixtures `backend_class` and `package` (a small package with weights that
    the backend executes, and test tensors).
    """

    #: Where the backend runs in these tests: "cpu", "cuda" or "cuda:N".
    device: ClassVar[str] = "cpu"

    def open(self, backend_class: type[Backend], package: ModelPackage, **more: Any) -> Backend:
        """The backend with the package's first format that it executes, on `device`."""
        formats = [f for f in backend_class.weights_formats if f in package.summary.weights]
        assert formats, "the package has no weights that this backend executes"
        return backend_class.open(package, formats[0], **{"device": self.device, **more})

    def feed(self, package: ModelPackage) -> Arrays:
        """The package's test inputs, preprocessed."""
        from .processing import preprocessing
        from .testing import read_test_tensors

        inputs, _ = read_test_tensors(package)
        steps = preprocessing(package.descr)
        stats = steps.collect(inputs)
        return {
            i: steps.apply(i, a.values, [str(d) for d in a.dims], stats) for i, a in inputs.items()
        }

    # ------------------------------------------------------------------------------ what it says

    def test_availability_says_which_devices_or_why_not(self, backend_class: type[Backend]) -> None:
        """Available with devices, or not available with a reason."""
        from .devices import detect

        found = backend_class.available(detect())
        assert found.devices if found.ok else found.reason

    def test_info_tells_what_runs(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """Name, format, device, version, threads and providers; the same before and after a run."""
        with self.open(backend_class, package) as backend:
            info = backend.info
            assert info.backend == backend_class.name
            assert info.weights_format in backend_class.weights_formats
            assert info.device == self.device
            assert info.version
            assert info.providers
            assert info.threads >= 1
            backend.run(self.feed(package))
            assert backend.info == info
            assert backend.peak_host_memory >= 0
            assert self.device != "cpu" or backend.peak_device_memory is None

    def test_a_card_that_is_not_there_is_an_error(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """``cuda`` is never the CPU in silence."""
        import pytest

        from .devices import detect

        if detect().cuda:
            pytest.skip("this machine has a card")
        with pytest.raises(DeviceError, match="cuda"):
            self.open(backend_class, package, device="cuda")

    # ------------------------------------------------------------------------------ what it makes

    def test_outputs_have_the_described_names_and_axes(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """One array per output id, in the order of the description."""
        with self.open(backend_class, package) as backend:
            outputs = backend.run(self.feed(package))
        assert list(outputs) == [str(t.id) for t in package.descr.outputs]
        for tensor in package.descr.outputs:
            array = outputs[str(tensor.id)]
            assert type(array) is np.ndarray
            assert array.ndim == len(tensor.axes)

    def test_the_same_input_gives_the_same_output_which_is_the_callers(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """Writing into a result changes no input and no later result, and it outlives `close`."""
        feed = self.feed(package)
        given = _copies(feed)
        with self.open(backend_class, package) as backend:
            first = backend.run(feed)
            kept = _copies(first)
            second = backend.run(feed)
            _equal(first, kept, "a later run changed an earlier result")
            _equal(second, kept, "the same input gave another output")
            for array in second.values():
                array[...] = 77
            _equal(feed, given, "writing into a result changed the input")
            _equal(backend.run(feed), kept, "writing into a result changed a later one")
        _equal(first, kept, "closing changed a result")

    # ------------------------------------------------------------------------------ what it takes

    def test_inputs_of_any_layout_are_taken_and_left_alone(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """Views, mirrored and read-only arrays, other byte and axis order: no copy is asked for,
        none is changed, and no framework warns.
        """
        feed = self.feed(package)
        layouts = {
            "as they are": feed,
            "every other pixel": {i: np.repeat(a, 2, axis=-1)[..., ::2] for i, a in feed.items()},
            "mirrored": {i: np.flip(np.flip(a).copy()) for i, a in feed.items()},
            "transposed": {i: np.asfortranarray(a) for i, a in feed.items()},
            "swapped bytes": {i: a.astype(a.dtype.newbyteorder(">")) for i, a in feed.items()},
            "read-only": _copies(feed),
        }
        for array in layouts["read-only"].values():
            array.flags.writeable = False
        with self.open(backend_class, package) as backend, warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = backend.run(_copies(feed))
            for name, arrays in layouts.items():
                before = _copies(arrays)
                _equal(backend.run(arrays), expected, f"inputs {name} give another output")
                _equal(arrays, before, f"a run changed inputs {name}")

    def test_other_precision_and_empty_images(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """float64 is taken as float32 is; an image of zeros gives outputs of the same shape."""
        feed = self.feed(package)
        double = {i: a.astype(np.float64) if a.dtype.kind == "f" else a for i, a in feed.items()}
        with self.open(backend_class, package) as backend:
            expected, got = backend.run(feed), backend.run(double)
            zeros = backend.run({i: np.zeros_like(a) for i, a in feed.items()})
        _close(got, expected, "float64 gives another output")
        assert {i: a.dtype for i, a in got.items()} == {i: a.dtype for i, a in expected.items()}
        assert {i: a.shape for i, a in zeros.items()} == {i: a.shape for i, a in expected.items()}

    def test_sizes_may_change_from_run_to_run(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """What was run before does not change a result."""
        import pytest

        small = self.feed(package)
        large = _larger(package, small)
        if large is None:
            pytest.skip("the package takes one size only")
        with self.open(backend_class, package) as backend:
            first = {"small": backend.run(small), "large": backend.run(large)}
            again = {"small": backend.run(small), "large": backend.run(large)}
        for size, expected in first.items():
            _close(again[size], expected, f"a run of another size changed that of the {size} image")
        assert any(first["large"][i].size > a.size for i, a in first["small"].items())

    def test_failed_runs_are_clear_errors_and_harm_no_later_one(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """Unknown and missing inputs are named; a framework's exception is wrapped."""
        import pytest

        feed = self.feed(package)
        name = next(iter(feed))
        with self.open(backend_class, package) as backend:
            expected = backend.run(feed)
            with pytest.raises(BiozooError, match="no_such_input"):
                backend.run({**feed, "no_such_input": feed[name]})
            with pytest.raises(BiozooError, match=name):
                backend.run({i: a for i, a in feed.items() if i != name})
            with pytest.raises(BiozooError):
                backend.run({i: a[None] for i, a in feed.items()})
            _equal(backend.run(feed), expected, "a failed run changed the next")

    # ------------------------------------------------------------------------------ how it behaves

    def test_threads_are_honoured(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """The asked number is the one that is told, and the result agrees."""
        with self.open(backend_class, package, threads=1) as backend:
            assert backend.info.threads == 1
            one = backend.run(self.feed(package))
        with self.open(backend_class, package) as backend:
            _close(backend.run(self.feed(package)), one, "threads change the result")

    def test_two_run_at_once(self, backend_class: type[Backend], package: ModelPackage) -> None:
        """In two threads, with different numbers of threads, as if each were alone."""
        from concurrent.futures import ThreadPoolExecutor

        feed = self.feed(package)
        other = {i: np.flip(a, -1).copy() for i, a in feed.items()}
        with (
            self.open(backend_class, package, threads=1) as one,
            self.open(backend_class, package, threads=2) as two,
            ThreadPoolExecutor(2) as pool,
        ):
            alone = one.run(feed), two.run(other)
            jobs = [pool.submit(_often, one, feed), pool.submit(_often, two, other)]
            for job, expected in zip(jobs, alone, strict=True):
                for got in job.result():
                    _close(got, expected, "a result depends on what runs beside it")

    def test_closed_is_closed(self, backend_class: type[Backend], package: ModelPackage) -> None:
        """Closing twice is fine, running after it is an error, and no process is left."""
        import psutil
        import pytest

        def processes() -> set[int]:
            return {child.pid for child in psutil.Process().children(recursive=True)}

        before: set[int] = set()
        for turn in range(2):  # what a library starts once and keeps is there after the first
            backend = self.open(backend_class, package)
            backend.run(self.feed(package))
            backend.close()
            backend.close()
            with pytest.raises(BiozooError, match="closed"):
                backend.run(self.feed(package))
            if turn == 0:
                before = processes()
        assert processes() <= before


def _often(backend: Backend, feed: Arrays) -> list[Arrays]:
    return [backend.run(feed) for _ in range(5)]


def _copies(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {i: np.array(a) for i, a in arrays.items()}


def _equal(
    got: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], fault: str
) -> None:
    for i, array in expected.items():
        np.testing.assert_array_equal(got[i], array, err_msg=f"{fault} ({i})")


def _close(
    got: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], fault: str
) -> None:
    for i, array in expected.items():
        np.testing.assert_allclose(
            got[i], array, rtol=1e-4, atol=1e-5, err_msg=f"{fault} ({i})", equal_nan=True
        )


def _larger(package: ModelPackage, feed: Mapping[str, NDArray[Any]]) -> Arrays | None:
    """The inputs one step larger along each axis that the description lets grow; None if none."""
    from bioimageio.spec.model.v0_5 import ParameterizedSize, SizeReference

    steps: dict[tuple[str, str], int] = {}
    for tensor in package.descr.inputs:
        for axis in tensor.axes:
            size = getattr(axis, "size", None)
            if isinstance(size, SizeReference):  # it would have to grow with the other
                return None
            if isinstance(size, ParameterizedSize):
                steps[str(tensor.id), str(axis.id)] = size.step
    if not steps:
        return None
    return {
        str(t.id): np.pad(
            feed[str(t.id)], [(0, steps.get((str(t.id), str(a.id)), 0)) for a in t.axes], "edge"
        )
        for t in package.descr.inputs
        if str(t.id) in feed
    }
