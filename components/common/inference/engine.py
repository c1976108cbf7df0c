"""What a network runs on: OpenVINO on processors, ONNX Runtime where there is an NVIDIA GPU.

Both compute in float32, whatever the hardware is fastest in, so that answers do not depend on the machine.
"""

import functools
import math
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from defectline.components.common.classes import CLASSES, DEFECT, GOOD, defect_probability
from defectline.components.common.errors import BundleError, SettingsError
from defectline.components.common.installing import how_to_install

EngineName = Literal["openvino", "onnxruntime"]

Sides = list[int | None]
"""Of one picture: height, width and channels or classes; None where any fits."""


SHARED_AFTER = 10
"""Once pictures met, so many share the threads, for where some meet more do. More of them made the median
longer at a load where pictures rarely meet, fewer the slowest answers slower at one where they often do."""


class Seen(NamedTuple):
    """What a network gives for pictures (N, S, S, channels)."""

    probability: NDArray[np.float32]
    """Of one class of defects (N, S, S); of several that of good and of each, (N, S, S, 1 + K)."""
    features: NDArray[np.float32] | None = None
    """(N, C), what the encoder sees at its lowest resolution, pooled; None where the engine tells nothing."""


class Engine(Protocol):
    """A loaded network. Safe to call from several threads."""

    takes: Sides
    gives: Sides

    def __call__(self, batch: NDArray[np.uint8]) -> Seen: ...


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
    that meet share them, each on fewer, which answers more in all, and so do the next few. For on all threads
    a picture waits at each layer for the slowest of them, which the next picture on the line would hold up.
    """

    def __init__(self, file: Path, threads: int = 0):
        # Without the hint OpenVINO computes in bfloat16 where the processor has it.
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            model = _core().read_model(file)
            self.takes, self.gives = _sides(model.input(0)), _sides(model.output(0))
            # One picture at a time, however it runs: the kernels for another shape, or for any, round in
            # another order. Batches were no faster.
            model.reshape([1, *model.input(0).partial_shape[1:]])
            model = _from_bytes_to_defects(model) if self.gives[-1:] == [CLASSES] else _from_bytes(model)
            self._alone = _Compiled(model, {**config, "PERFORMANCE_HINT": "LATENCY"})
            self._shared = self._alone
            if threads > 1:
                self._shared = _Compiled(model, {**config, "PERFORMANCE_HINT": "THROUGHPUT"})
        except RuntimeError as error:
            version = import_openvino().__version__.split("-")[0]
            raise _unloadable(file, error, f"OpenVINO {version}") from error
        self._running, self._sharing, self._lock = 0, 0, threading.Lock()

    def __call__(self, batch: NDArray[np.uint8]) -> Seen:
        with self._lock:
            self._running += 1
        try:
            pictures = (batch[n : n + 1] for n in range(len(batch)))
            found = [self._choose()(picture) for picture in pictures]
            features = [seen.features for seen in found if seen.features is not None]
            probability = np.concatenate([seen.probability for seen in found])
            return Seen(probability, np.concatenate(features) if features else None)
        finally:
            with self._lock:
                self._running -= 1

    def _choose(self) -> "_Compiled":
        """What the next picture runs on."""
        with self._lock:
            self._sharing = SHARED_AFTER if self._running > 1 else max(self._sharing - 1, 0)
            return self._shared if self._sharing else self._alone


class _Compiled:
    """A network that is ready for one way of running it. Safe to call from several threads."""

    def __init__(self, model: Any, config: dict[str, str]):
        self.compiled = _core().compile_model(model, "CPU", config)
        self._idle: list[Any] = []

    def __call__(self, batch: NDArray[np.uint8]) -> Seen:
        # A request is one thread's at a time. Making one takes long while others run on the network.
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        results = request.infer([batch])
        given, features = results[0], results[1] if len(results) > 1 else None
        self._idle.append(request)
        return Seen(given[..., 0] if given.shape[-1] == 1 else given, features)


def _sides(port: Any) -> Sides:
    return [side.get_length() if side.is_static else None for side in port.partial_shape][1:]


def _from_bytes_to_defects(model: Any) -> Any:
    """As `_from_bytes`, to the probability of a defect alone, (N, S, S, 1)."""
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
    """The same network from pictures in uint8, with its pooled features, (N, C), as a second result where the
    sizes of what it computes are known."""
    from openvino import Type, preprocess

    if (features := _pooled(model)) is not None:
        model.add_outputs(features)
    steps = preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8)
    return steps.build()


def _pooled(model: Any) -> Any:
    """The mean over the picture of what the network sees at its lowest resolution, (N, C); None where no size
    is known.

    Names of layers do not outlive the export, so it is found by its shape.
    """
    from openvino import opset13 as ops

    reached, waiting = set(), [port.get_node() for port in model.inputs]
    lowest, found = math.inf, None
    while waiting:
        node = waiting.pop()
        reached.add(node.get_name())
        waiting += [
            target.get_node()
            for port in node.outputs()
            for target in port.get_target_inputs()
            if target.get_node().get_name() not in reached
        ]
    for node in model.get_ordered_ops():
        if node.get_name() not in reached or node.get_type_name() in _NOT_SEEN:
            continue
        sides = list(node.output(0).get_shape()) if node.output(0).partial_shape.is_static else []
        if len(sides) != 4:
            continue
        # Whichever way the exporter has turned it.
        axes = (2, 3) if sides[2] == sides[3] else (1, 2)
        if sides[axes[0]] * sides[axes[1]] <= lowest:
            lowest = sides[axes[0]] * sides[axes[1]]
            found = ops.reduce_mean(node.output(0), ops.constant(list(axes)), keep_dims=False)
    return found and found.output(0)


_NOT_SEEN = ("FakeQuantize", "Transpose", "Result")
"""Nodes that only change how the same is written."""


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

    def __call__(self, batch: NDArray[np.uint8]) -> Seen:
        given = self._session.run(None, {self._input: batch.astype(np.float32)})[0]
        return Seen(defect_probability(given) if given.shape[-1] == CLASSES else given)


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
