"""Linear layers whose weights are packed once, for oneDNN's kernels on a CPU.

The library's ``nn.Linear`` multiplies by the BLAS that torch was built with. On some processors
that BLAS knows half of the vector unit (MKL on AMD's with AVX-512), and everywhere it packs the
weights anew in each call. A packed weight is a second copy in memory; the first stays what it is,
and is what everything but the product reads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings (malloc.h)."""
_AS_THE_LIBRARY = [False]
"""Whether packed layers multiply as the library's do."""


class Packed(nn.Linear):
    """An ``nn.Linear`` that multiplies by a packed copy of its weight.

    Its parameters are the same objects; only float32 on a CPU goes the packed way.

    Args:
        linear: the layer that it stands for.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.training = linear.training
        self._packed: list[Tensor] = [_ops()._reorder_linear_weight(linear.weight.detach())]

    def forward(self, input: Tensor) -> Tensor:
        """The product, and the bias."""
        return self.product(input) if self.packs(input) else super().forward(input)

    def packs(self, states: Tensor) -> bool:
        """Whether these states go the packed way."""
        return not _AS_THE_LIBRARY[0] and states.dtype == torch.float32 and states.numel() > 0

    def product(self, states: Tensor, then: str = "none") -> Tensor:
        """The packed way: the product, the bias, and a GELU (by erf) where one follows."""
        return _product(states, self._packed[0], self.bias, then)


def activated(
    linear: Callable[[Tensor], Tensor], activation: Callable[[Tensor], Tensor], states: Tensor
) -> Tensor:
    """A linear layer and what follows it, in one step where the layer is packed and it is a GELU.

    Args:
        linear: the library's module.
        activation: the library's module or function.
        states: [..., width].
    """
    if isinstance(linear, Packed) and _by_erf(activation) and linear.packs(states):
        return linear.product(states, "gelu")
    return activation(linear(states))


def pack(module: nn.Module) -> int:
    """Put packed layers into the place of a module's float32 linear layers on a CPU.

    Args:
        module: what is changed in place; nothing is where this build of torch has no oneDNN, or
            its product differs from the library's.

    Returns:
        How many were packed.
    """
    if not usable():
        return 0
    done: dict[int, Packed] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and _fits(child.weight):
                if id(child) not in done:
                    done[id(child)] = Packed(child)
                setattr(parent, name, done[id(child)])
    return len(done)


@contextmanager
def as_the_library() -> Iterator[None]:
    """Let packed layers multiply as the library's own do: for the reference of a check."""
    before = _AS_THE_LIBRARY[0]
    _AS_THE_LIBRARY[0] = True
    try:
        yield
    finally:
        _AS_THE_LIBRARY[0] = before


def keep_memory() -> None:
    """Ask glibc to keep memory that is freed, up to 512 MiB, for what is asked for next.

    A layer asks for arrays of some megabytes and frees them again; by default each goes back to
    the system and comes again page by page, zeroed: 8% of the time of a CPU run. Elsewhere than on
    glibc nothing is done. It holds for the process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for what, size in ((M_MMAP_THRESHOLD, 1 << 26), (M_TRIM_THRESHOLD, 1 << 29)):
        mallopt(what, size)


def usable() -> bool:
    """Whether this build of torch multiplies by packed weights, and rightly."""
    if not torch.backends.mkldnn.is_available():
        return False
    numbers = torch.arange(48, dtype=torch.float32).view(3, 16) / 48
    weight, bias = numbers.flip(0).cos(), torch.ones(3)
    try:
        packed = _ops()._reorder_linear_weight(weight)
        found = _product(numbers, packed, bias)
        curved = _product(numbers, packed, bias, "gelu")
    except (AttributeError, RuntimeError, TypeError):  # private to torch: another version's
        return False
    expected = nn.functional.linear(numbers, weight, bias)
    return torch.allclose(found, expected, atol=1e-5) and torch.allclose(
        curved, nn.functional.gelu(expected), atol=1e-5
    )


def _by_erf(activation: object) -> bool:
    if isinstance(activation, nn.GELU):
        return activation.approximate == "none"
    return type(activation) is GELUActivation and activation.act is nn.functional.gelu


def _fits(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.numel() > 0


def _product(states: Tensor, packed: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    kind = "none" if then == "gelu" else ""  # oneDNN's GELU by erf, not by tanh
    return _ops()._linear_pointwise(states, packed, bias, then, [], kind)


def _ops() -> Any:
    return cast(Any, torch.ops.mkldnn)
