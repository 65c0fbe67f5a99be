"""Singular triplets from thin factors against the dense SVD: ratios measured side by side.

Both are batched, in float64 and on one thread, and yield the same singular values and u_k . v_k of
144 random heads of 384 x 384 with d_h = 32 (a MiniLM reranker of 12 layers). The dense side gets
its matrices ready made. Rounds alternate; the ratio of CPU seconds is what counts, on a noisy
machine. Then all that the algebra says of a random model of 24 x 16 heads with d = 1024.
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np
import torch

from matchlens import circuits
from matchlens.models.qk import QK

ROUNDS = 5


def random_qk(heads: int, d_h: int, d: int, seed: int = 0) -> QK:
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, heads, d_h, d, generator=generator) * 0.05
    return QK.of(query, key)


def dense(matrices: torch.Tensor, d_h: int) -> tuple[np.ndarray, np.ndarray]:
    u, values, vh = torch.linalg.svd(matrices)
    cosines = torch.einsum("hdk,hkd->hk", u[..., :d_h], vh[:, :d_h])
    return values[:, :d_h].numpy(), cosines.numpy()


def all_of_a_model(layers: int = 24, heads: int = 16, d_h: int = 64, d: int = 1024) -> None:
    weights = [random_qk(heads, d_h, d, seed) for seed in range(layers)]
    q, document = np.random.default_rng(0).normal(size=(2, layers, d))
    for name, crossed in (("without", False), ("with", True)):
        start, wall = time.process_time(), time.perf_counter()
        for qk in weights:
            found = circuits.triplets(qk)
            np.testing.assert_allclose(found.alignment(), circuits.alignment(qk), atol=1e-5)
            circuits.symmetric_share(qk)
            circuits.gaussian_null(qk)
            circuits.rotation_null(found)
            circuits.crossed(qk, normalised=crossed)
        circuits.mean_logits(weights, q, document, biases=True)
        cpu, passed = time.process_time() - start, time.perf_counter() - wall
        print(
            f"{layers} x {heads} heads, d = {d}, {name} the crossed heads' normalised trace: "
            f"{cpu:.1f} CPU seconds, {passed:.1f} seconds"
        )


def main() -> None:
    qk = random_qk(heads=144, d_h=32, d=384)
    matrices = (qk.key.double().mT @ qk.query.double()).contiguous()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ratios = []
    for _ in range(ROUNDS):
        start = time.process_time()
        thin = circuits.triplets(qk)
        middle = time.process_time()
        values, cosines = dense(matrices, qk.d_h)
        end = time.process_time()
        np.testing.assert_allclose(thin.values, values, atol=1e-6)
        np.testing.assert_allclose(thin.cosines, cosines, atol=1e-6)
        ratios.append((end - middle) / (middle - start))
    torch.set_num_threads(threads)
    print(f"{qk.n_heads} heads, {ROUNDS} rounds, one thread, CPU seconds; {os.cpu_count()} cores")
    print(f"dense / thin: median {statistics.median(ratios):.1f}, all {np.round(ratios, 1)}")
    all_of_a_model()


if __name__ == "__main__":
    main()
