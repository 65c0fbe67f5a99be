"""Singular triplets of all heads of a model: thin factors against the dense decomposition."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.job import Job
from benchmarks.reference import factors


class Thin:
    """matchlens: QR of the two thin factors, then an SVD of head width squared."""

    def __init__(self, job: Job) -> None:
        from matchlens.models.qk import QK

        torch.set_num_threads(job.threads)
        self.facts: dict[str, object] = {}
        self.qk = QK.of(*(torch.from_numpy(one) for one in factors(job)))

    def work(self) -> object:
        """Triplets of all heads."""
        from matchlens import qk as circuits

        return circuits.triplets(self.qk)

    def results(self, raw: object) -> dict[str, np.ndarray]:
        """Singular values and u . v."""
        return {name: np.asarray(getattr(raw, name)) for name in ("values", "cosines")}


class Dense:
    """Batched dense SVD in float64; the matrices are ready made."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        query, key = (torch.from_numpy(one).double() for one in factors(job))
        self.matrices = (key.mT @ query).contiguous()
        self.kept = job.sizes[1]
        self.facts: dict[str, object] = {}

    def work(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Triplets of all heads."""
        u, values, vh = torch.linalg.svd(self.matrices)
        kept = slice(self.kept)
        return values[:, kept], torch.einsum("hdk,hkd->hk", u[..., kept], vh[:, kept])

    def results(self, raw: tuple[torch.Tensor, torch.Tensor]) -> dict[str, np.ndarray]:
        """Singular values and u . v."""
        return {"values": raw[0].numpy(), "cosines": raw[1].numpy()}


def make(job: Job, thin: bool = False) -> Thin | Dense:
    """The contender."""
    return Thin(job) if thin else Dense(job)
