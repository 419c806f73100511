"""A stand-in for CUDA graphs that runs on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations that a CUDA graph cannot contain: they wait for the device, have a length that depends
# on data, copy from the host, or would draw the same numbers at every replay.
FORBIDDEN = frozenset(
    """
    _local_scalar_dense is_nonzero equal nonzero masked_select unique_dim _unique2 lift_fresh
    rand rand_like randn randn_like randint randperm uniform normal bernoulli multinomial random
    """.split()
)


class CannotRecord(RuntimeError):
    """A program has an operation that a CUDA graph cannot contain."""


@dataclass
class Call:
    """An operation with the tensors that it read and wrote."""

    function: Any
    arguments: Sequence[Any]
    named: dict[str, Any]
    results: dict[int, Tensor]  # those in memory of their own, by position

    def again(self) -> None:
        """Repeat the operation on the same memory."""
        found = list(given(self.function(*self.arguments, **self.named)))
        for place, tensor in self.results.items():
            tensor.copy_(found[place])


def storage(tensor: Tensor) -> int:
    """Address of a tensor's memory."""
    return tensor.untyped_storage().data_ptr()


def given(*arguments: Any) -> Iterator[Tensor]:
    """Tensors in the arguments of an operation."""
    return (value for value in tree_leaves(arguments) if isinstance(value, Tensor))


class Tape(TorchDispatchMode):
    """The operations of a program, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do an operation and write it down."""
        named = kwargs or {}
        name = function._schema.name.removeprefix("aten::").rstrip("_")
        masked = name in ("index", "index_put") and any(
            t.dtype == torch.bool for t in given(args[1])
        )
        if name in FORBIDDEN or masked:
            raise CannotRecord(f"{name} cannot be part of a graph")
        found = function(*args, **named)
        memory = {storage(t) for t in given(args, named)}
        own = {i: t for i, t in enumerate(given(found)) if storage(t) not in memory}
        self.calls.append(Call(function, args, named, own))
        return found


class TapeRecorder:
    """step_graph.Recorder on a CPU.

    A replay repeats the recorded operations on the recorded tensors with the recorded numbers, as a
    CUDA graph does. Unlike CUDA's, this recording runs the program, so the first replay does
    nothing.

    Attributes:
        made: the recorders made so far.
        warm: number of runs before the recording.
        tape: the recording, if there is one.
        replays: number of replays.
    """

    made: "list[TapeRecorder]" = []

    def __init__(self, device: torch.device) -> None:
        self.warm = self.replays = 0
        self.tape: list[Call] | None = None
        self.made.append(self)

    def aside(self, program: Callable[[], None]) -> None:
        """Run the program."""
        assert self.tape is None
        self.warm += 1
        program()

    def record(self, program: Callable[[], None]) -> Callable[[], None]:
        """Return a function that repeats the program's operations."""
        assert self.tape is None
        with Tape() as tape:
            program()
        self.tape = tape.calls
        return self._replay

    @torch.no_grad()
    def _replay(self) -> None:
        assert self.tape is not None
        self.replays += 1
        if self.replays > 1:
            for call in self.tape:
                call.again()
