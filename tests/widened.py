"""The library without its roundings to float32, so that differences that are no rounding show.

Inside the families with rotary positions the library computes norms, angles and softmax in
float32 even where the weights are float64, and matchlens refuses float64 there. Tests that hold
the walk to 1e-10 let both run in float64 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers.models.gemma import modeling_gemma
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.modernbert import modeling_modernbert
from transformers.models.mt5 import modeling_mt5
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.t5 import modeling_t5

from matchlens.models.rotary import Rotary
from matchlens.models.t5 import T5

MODULES = (
    modeling_gemma,
    modeling_gemma2,
    modeling_gemma3,
    modeling_llama,
    modeling_mistral,
    modeling_modernbert,
    modeling_mt5,
    modeling_qwen2,
    modeling_qwen3,
    modeling_t5,
)


class _Wide:
    """torch, whose float32 is float64."""

    float = float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


@contextmanager
def widened() -> Iterator[None]:
    """Let the library compute in float64 what it rounds to float32."""
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "torch", _Wide())
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(Rotary, "rounded", False)
        patch.setattr(T5, "rounded", False)
        yield
