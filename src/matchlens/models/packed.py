"""Linear layers whose weights are packed once, for oneDNN's kernels on a CPU.

The library's ``nn.Linear`` multiplies by the BLAS that torch was built with. On some processors
that BLAS knows half of the vector unit (MKL on AMD's with AVX-512), and everywhere it packs the
weights anew in each call. A packed weight is a second copy in memory; the first stays what it is,
and is what everything but the product reads.

The packed copy may be in bfloat16 (:func:`round_products`): then states are rounded where they are
multiplied and sums are kept in float32, as are the residual stream, norms, softmax and the head.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings (malloc.h)."""
TOGETHER = 32
"""Rows are rounded up to a multiple of this: oneDNN keeps code for each number of rows that it has
seen, a quarter of a MiB."""
MOST_ROUNDED = 2**30
"""Most parameters of a model whose weights stay in float32 beside those in bfloat16."""
_AS_THE_LIBRARY = ContextVar("as_the_library", default=False)
"""Whether packed layers multiply as the library's do."""


class Packed(nn.Linear):
    """An ``nn.Linear`` that multiplies by a packed copy of its weight, in float32 or bfloat16.

    Its parameters are the same objects; only float32 on a CPU without gradients goes the packed
    way. A weight that was changed since is packed anew where torch's own counter tells; a model
    whose weights have changed is not run at all before it is wrapped again.
    """

    def __init__(self, linear: nn.Linear, product_dtype: torch.dtype = torch.float32) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.training = linear.training
        self.product_dtype = product_dtype
        self._pack()

    def _pack(self) -> None:
        self._packed: dict[torch.dtype, Tensor] = {}
        self._in(self.product_dtype)
        self._of = self._mark()

    def _in(self, dtype: torch.dtype) -> Tensor:
        """The packed weight in a type."""
        if dtype not in self._packed:
            weight = self.weight.detach().to(dtype)
            self._packed[dtype] = _ops()._reorder_linear_weight(weight)
        return self._packed[dtype]

    def _mark(self) -> tuple[int, int]:
        """What changes where torch knows that the weight has changed."""
        # Tensors that were made in inference mode count no changes.
        counted = 0 if self.weight.is_inference() else self.weight._version
        return self.weight.data_ptr(), counted

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        plain = nn.Linear.__new__(nn.Linear)
        nn.Module.__init__(plain)
        plain.in_features, plain.out_features = self.in_features, self.out_features
        plain.weight = copy.deepcopy(self.weight, memo)
        plain.bias = copy.deepcopy(self.bias, memo)
        plain.training = self.training
        return Packed(plain, self.product_dtype)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("packed weights cannot be pickled; save the model with save_pretrained")

    def forward(self, input: Tensor) -> Tensor:
        """The product, and the bias, in float32."""
        if not self.packs(input):
            return super().forward(input)
        return self.product(self.rows(input), input.shape).to(torch.float32)

    def packs(self, states: Tensor) -> bool:
        """Whether these states go the packed way."""
        if _AS_THE_LIBRARY.get() or not _fits(self.weight):
            return False
        if not _fits(states) and states.dtype != self.product_dtype:
            return False
        if torch.is_grad_enabled() and (states.requires_grad or self.weight.requires_grad):
            return False
        if self._mark() != self._of:
            self._pack()
        return True

    def rows(self, states: Tensor) -> Tensor:
        """The rows that :meth:`product` takes."""
        return _rounded(states, self.product_dtype)

    def product(self, rows: Tensor, shape: torch.Size, then: str = "none") -> Tensor:
        """:meth:`rows` of states times the weight, plus the bias; ``then`` is "gelu" or "none"."""
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        fused = "none" if _gelu_apart(rows.dtype) else then
        out = _product(rows, self._in(rows.dtype), bias, fused)
        if then != fused:
            torch.ops.aten.gelu_(out)
        return out[: shape[:-1].numel()].view(*shape[:-1], self.out_features)


def activated(
    linear: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor],
    states: Tensor,
    into: object = None,
) -> Tensor:
    """A linear layer and its activation, in one step where the layer is packed and that is a GELU.

    The result stays in the type of its products where a packed layer (``into``) takes it.
    """
    if isinstance(linear, Packed) and _by_erf(activation) and linear.packs(states):
        out = linear.product(linear.rows(states), states.shape, "gelu")
        chained = isinstance(into, Packed) and into.product_dtype == out.dtype
        return out if chained else out.to(torch.float32)
    return activation(linear(states))


def products(linears: Sequence[Callable[[Tensor], Tensor]], states: Tensor) -> tuple[Tensor, ...]:
    """What several linear layers make of the same states, whose rows are made ready once."""
    packed = [each for each in linears if isinstance(each, Packed) and each.packs(states)]
    if len(packed) < len(linears) or len({each.product_dtype for each in packed}) > 1:
        return tuple(linear(states) for linear in linears)
    rows = packed[0].rows(states)
    return tuple(each.product(rows, states.shape).to(torch.float32) for each in packed)


def pack(module: nn.Module) -> int:
    """Replace a module's float32 linear layers on a CPU by packed ones; returns how many.

    None is replaced where this build of torch has no oneDNN, or its product differs from the
    library's.
    """
    if not usable():
        return 0
    done: dict[int, Packed] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            # Not subclasses: an adapter or a quantised layer computes something else.
            if type(child) is nn.Linear and _fits(child.weight):
                if id(child) not in done:  # layers that share a module share its packed weight
                    done[id(child)] = Packed(child)
                setattr(parent, name, done[id(child)])
    return len(done)


def rounds_products(place: torch.device, numbers: int) -> bool:
    """Whether a bfloat16 model of this size keeps float32 weights and rounds its products."""
    return place.type == "cpu" and numbers <= MOST_ROUNDED and usable() and _packs_bfloat16()


def _packs_bfloat16() -> bool:
    """Whether oneDNN packs bfloat16 weights here; without AVX-512 or AVX-NE-CONVERT it refuses."""
    try:
        _ops()._reorder_linear_weight(torch.ones(16, 16, dtype=torch.bfloat16))
    except RuntimeError:
        return False
    return True


def round_products(layers: Iterable[nn.Module]) -> int:
    """Let the packed linear modules of some layers multiply in bfloat16; returns how many."""
    packed = {each for layer in layers for each in layer.modules() if isinstance(each, Packed)}
    for each in packed:
        each.product_dtype = torch.bfloat16
        each._pack()  # drops the copy in float32
    return len(packed)


@contextmanager
def products_in(dtype: torch.dtype, layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let the packed linear modules of some layers multiply in another type meanwhile."""
    packed = {each for layer in layers for each in layer.modules() if isinstance(each, Packed)}
    before = {each: each.product_dtype for each in packed}
    for each in packed:
        each.product_dtype = dtype
    try:
        yield
    finally:
        for each, own in before.items():
            each.product_dtype = own
            for other in set(each._packed) - {own}:
                del each._packed[other]


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16."""
    cpu: Any = torch.cpu
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(cpu, name, lambda: False)() for name in names)


@contextmanager
def as_the_library() -> Iterator[None]:
    """Let packed layers multiply as the library's own do: for the reference of a check."""
    token = _AS_THE_LIBRARY.set(True)
    try:
        yield
    finally:
        _AS_THE_LIBRARY.reset(token)


def imitates_the_library() -> bool:
    """Whether faster modules must compute as the library's do: for the reference of a check."""
    return _AS_THE_LIBRARY.get()


def keep_memory() -> None:
    """Ask glibc to keep up to 512 MiB of freed memory for the next arrays of this process.

    A layer asks for arrays of some megabytes and frees them again; by default each goes back to
    the system and comes again page by page, zeroed: 8% of the time of a CPU run. Nothing is done
    where there is no glibc. It cannot be undone, so whoever owns the process decides: the command
    line and the workers call it, :func:`matchlens.load` does not.

    >>> keep_memory()
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
        product = _product(numbers, packed, bias)
        curved = _product(numbers, packed, bias, "gelu")
    except (AttributeError, RuntimeError, TypeError):  # private to torch: another version's
        return False
    expected = nn.functional.linear(numbers, weight, bias)
    return torch.allclose(product, expected, atol=1e-5) and torch.allclose(
        curved, nn.functional.gelu(expected), atol=1e-5
    )


@cache
def _gelu_apart(dtype: torch.dtype) -> bool:
    """Whether torch's GELU after the product is faster than oneDNN's, which is part of it."""
    # Without AVX-512 oneDNN's takes a quarter of the product's time, torch's a tenth.
    return dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2"


def _by_erf(activation: object) -> bool:
    if isinstance(activation, nn.GELU):
        return activation.approximate == "none"
    return type(activation) is GELUActivation and activation.act is nn.functional.gelu


def _rounded(states: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows of some states, and others behind them up to a multiple of :data:`TOGETHER`."""
    # What stands behind them does not matter: where they are part of a longer storage it is what
    # stands there, without a copy.
    flat = states.reshape(-1, states.shape[-1])
    number, width = flat.shape
    lacking = -number % TOGETHER
    if not lacking:
        return flat.to(dtype)
    room = flat.untyped_storage().nbytes() // flat.element_size() - flat.storage_offset()
    if flat.is_contiguous() and room >= (number + lacking) * width:
        return flat.as_strided((number + lacking, width), (width, 1)).to(dtype)
    out = flat.new_empty((number + lacking, width), dtype=dtype)
    out[:number] = flat
    out[number:] = 0
    return out


def _fits(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0


def glance(weight: Tensor) -> Tensor:
    """A row and a column of a matrix: whatever changes whole rows or columns changes them."""
    if weight.dim() < 2:
        return weight.reshape(-1)
    matrix = weight.flatten(1)
    return torch.cat([matrix[len(matrix) // 2], matrix[:, matrix.shape[1] // 2]])


def _product(states: Tensor, packed: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    kind = "none" if then == "gelu" else ""  # oneDNN's GELU by erf, not by tanh
    return _ops()._linear_pointwise(states, packed, bias, then, [], kind)


def _ops() -> Any:
    return cast(Any, torch.ops.mkldnn)
