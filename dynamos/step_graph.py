"""A training step as a CUDA graph: recorded once, then launched as a whole.

A step is about a thousand small kernels. A GPU does each of them faster than Python starts the
next, unless a graph starts them all (https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA
Graphs").
"""

import gc
import logging
from collections.abc import Callable

import torch

log = logging.getLogger(__name__)

Program = Callable[[], None]
# Steps that run before the recording: libraries reserve memory at their first calls.
WARM_UP = 3


def by_graph(step_mode: str, device: torch.device) -> bool:
    """True if the usual steps of a run shall be done by a graph."""
    return step_mode == "graph" or step_mode == "auto" and device.type == "cuda"


class Recorder:
    """It records CUDA graphs on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        """Raises RuntimeError if the device is no CUDA device."""
        if device.type != "cuda":
            raise RuntimeError(f"a graph needs a CUDA device, not {device.type}")
        self._device, self._stream = device, torch.cuda.Stream(device)

    def aside(self, program: Program) -> None:
        """Run a program on the stream that will record it."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            program()
        current.wait_stream(self._stream)

    def record(self, program: Program) -> Program:
        """Return a function that does what the program does; the program does not run here.

        Raises RuntimeError if the program cannot be recorded.
        """
        # A run refers to its graph and the graph to its run, so only the collector frees the memory
        # of earlier graphs.
        gc.collect()
        # The current stream is entered again because a recording that fails does not leave its own.
        with torch.cuda.stream(torch.cuda.current_stream(self._device)):
            graph = torch.cuda.CUDAGraph()
            # Other threads of the process may use the device in the meantime.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                program()
        return graph.replay


class StepGraph:
    """A program that is recorded after its first runs and replayed from then on.

    The program may read and write only tensors that stay where they are, and never waits for the
    device. Every number in it that is not in such a tensor stays as it was at the recording. If
    recording fails, a warning is logged and the program runs as it is.

    Attributes:
        failed: True if the program cannot be recorded.
    """

    def __init__(self, program: Program, device: torch.device) -> None:
        """Wait with the recording until the program has run a few times."""
        self._program, self._left = program, WARM_UP
        self._run: Program = self._begin
        self.failed = False
        try:
            self._recorder = Recorder(device)
        except RuntimeError as error:
            self._give_up(error)

    def __call__(self) -> None:
        """Run the program."""
        self._run()

    def _begin(self) -> None:
        if self._left:
            self._left -= 1
            self._recorder.aside(self._program)
            return
        try:
            self._run = self._recorder.record(self._program)
        except RuntimeError as error:
            self._give_up(error)
        self._run()

    def _give_up(self, error: RuntimeError) -> None:
        self._run, self.failed = self._program, True
        log.warning(
            "step_mode graph is not available, using eager: %s", str(error).strip().splitlines()[0]
        )
