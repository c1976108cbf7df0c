"""What a network runs on: OpenVINO on processors, ONNX Runtime where there is an NVIDIA GPU.

Both compute in float32, whatever the hardware is fastest in, so that answers do not depend on the machine.
"""

import functools
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import CLASSES, DEFECT, GOOD, defect_probability
from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.installing import how_to_install

EngineName = Literal["openvino", "onnxruntime"]

Sides = list[int | None]
"""Of one picture: height, width and channels or classes; None where any fits."""


class Engine(Protocol):
    """A loaded network. Safe to call from several threads."""

    takes: Sides
    gives: Sides

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """For pictures (N, S, S, channels) of one class of defects its probability, (N, S, S); of several
        that of good and of each, (N, S, S, 1 + K)."""


def import_openvino() -> ModuleType:
    """The openvino package. Its import sends usage data wherever openvino_telemetry can be imported, and so
    does NNCF's, which must come after this; where it cannot, both use stubs of their own that send nothing,
    and there is no other switch."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    """OpenVINO's, one for the whole process, which never goes away.

    Its plugin for processors gives the thread that loads it a stack for signals, and unmaps that at its own
    end. Were this in another thread, the next signal would end the process (SIGSEGV).
    """
    core = import_openvino().Core()
    # Mapped weights would change under a running network, or end its process, with their file.
    core.set_property({"ENABLE_MMAP": False})
    return core


class OpenVino:
    """Takes OpenVINO's own .xml and .onnx alike.

    With several threads, a picture that is judged alone gets all of them, for the shortest wait; pictures
    that meet share them, each on fewer, which answers more in all.
    """

    def __init__(self, file: Path, threads: int = 0):
        # Without the hint OpenVINO computes in bfloat16 where the processor has it.
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            model = _core().read_model(file)
            self.takes, self.gives = _sides(model.input(0)), _sides(model.output(0))
            model = _from_bytes_to_defects(model) if self.gives[-1:] == [CLASSES] else _from_bytes(model)
            # One picture at a time, however it runs: the kernels for another shape, or for any, round in
            # another order. Batches were no faster.
            model.reshape([1, *model.input(0).partial_shape[1:]])
            self._alone = _Compiled(model, {**config, "PERFORMANCE_HINT": "LATENCY"})
            self._shared = self._alone
            if threads > 1:
                self._shared = _Compiled(model, {**config, "PERFORMANCE_HINT": "THROUGHPUT"})
        except RuntimeError as error:
            version = import_openvino().__version__.split("-")[0]
            raise _unloadable(file, error, f"OpenVINO {version}") from error
        self._running, self._lock = 0, threading.Lock()

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            self._running += 1
        try:
            pictures = (batch[n : n + 1] for n in range(len(batch)))
            found = [(self._alone if self._running == 1 else self._shared)(picture) for picture in pictures]
            return np.concatenate(found)
        finally:
            with self._lock:
                self._running -= 1


class _Compiled:
    """A network that is ready for one way of running it. Safe to call from several threads."""

    def __init__(self, model: Any, config: dict[str, str]):
        self.compiled = _core().compile_model(model, "CPU", config)
        self._idle: list[Any] = []

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        # A request is one thread's at a time. Making one takes long while others run on the network.
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        given = request.infer([batch])[0]
        self._idle.append(request)
        return given[..., 0] if given.shape[-1] == 1 else given


def _sides(port: Any) -> Sides:
    return [side.get_length() if side.is_static else None for side in port.partial_shape][1:]


def _from_bytes_to_defects(model: Any) -> Any:
    """The same network from pictures in uint8 to the probability of a defect alone, (N, S, S, 1)."""
    from openvino import Model
    from openvino import opset13 as ops

    classes = model.output(0).get_node().input_value(0)
    last = classes.get_node()
    if last.get_type_name() == "Softmax" and last.get_attributes()["axis"] in (-1, 3):
        # Of two classes it is a logistic function of the difference of their logits, which OpenVINO computes
        # in an eighth of the time: over an innermost axis of two, a softmax took a tenth of an INT8 network.
        logits = ops.split(last.input_value(0), ops.constant(-1), CLASSES).outputs()
        probability = ops.sigmoid(ops.subtract(logits[DEFECT], logits[GOOD])).output(0)
    else:
        probability = ops.split(classes, ops.constant(-1), CLASSES).output(DEFECT)
    return _from_bytes(Model([probability], model.get_parameters(), model.get_friendly_name()))


def _from_bytes(model: Any) -> Any:
    """The same network from pictures in uint8."""
    from openvino import Type, preprocess

    steps = preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8)
    return steps.build()


class OnnxRuntime:
    """Takes .onnx. On the first GPU where the installed ONNX Runtime has CUDA, else on the processor."""

    def __init__(self, file: Path, threads: int = 0):
        try:
            import onnxruntime
        except ImportError as error:
            raise SettingsError(
                "ONNX Runtime is not installed.",
                got="engine onnxruntime",
                expected="the package onnxruntime, or onnxruntime-gpu for CUDA",
                fix=f"{how_to_install('serve-gpu')} Or serve with the image serve-gpu, or --engine openvino.",
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # TensorFloat-32 keeps 10 bits of each number, and answers would differ from the processor's.
        cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
        able = cuda[0] in onnxruntime.get_available_providers()
        if able:
            # CUDA and cuDNN come as packages, which the loader of libraries does not look into.
            onnxruntime.preload_dlls()
        providers = [cuda, "CPUExecutionProvider"] if able else ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        # Its exceptions have no common base but Exception.
        except Exception as error:
            raise _unloadable(file, error, f"ONNX Runtime {onnxruntime.__version__}") from error
        if able and cuda[0] not in self._session.get_providers():
            raise SettingsError(
                "ONNX Runtime cannot use the GPU.",
                got=f"it runs on {', '.join(self._session.get_providers())}",
                expected="an NVIDIA GPU with its driver, shown to this container",
                fix="Give the pod a GPU (nvidia.com/gpu), or serve with --engine openvino.",
            )
        port = self._session.get_inputs()[0]
        self._input = port.name
        self.takes, self.gives = (
            [side if isinstance(side, int) else None for side in shape][1:]
            for shape in (port.shape, self._session.get_outputs()[0].shape)
        )

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = self._session.run(None, {self._input: batch.astype(np.float32)})[0]
        return defect_probability(given) if given.shape[-1] == CLASSES else given


ENGINES: dict[EngineName, type[OpenVino] | type[OnnxRuntime]] = {
    "openvino": OpenVino,
    "onnxruntime": OnnxRuntime,
}


def _unloadable(file: Path, error: Exception, reader: str) -> BundleError:
    return BundleError(
        f"{file} cannot be loaded.",
        got=str(error).strip().splitlines()[-1],
        expected=f"a network that {reader} reads",
        fix="Run the pipeline again with --force, or install the version that made the bundle.",
    )
