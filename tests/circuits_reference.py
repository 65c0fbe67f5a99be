"""The slow, obvious circuits: explicit d x d matrices and loops over tokens, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from matchlens.models.qk import QK


def random_qk(heads=3, d_h=4, d=10, keys=None, seed=0, **settings) -> QK:
    """Random weights with biases; key heads are shared where `keys` is below `heads`."""
    generator = torch.Generator().manual_seed(seed)
    keys = heads if keys is None else keys
    shapes = [(heads, d_h, d), (keys, d_h, d), (heads, d_h), (keys, d_h)]
    values = [
        torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5 for shape in shapes
    ]
    return QK.of(*values, **settings)


def weights(qk: QK, head: int):
    """W_Q, W_K, b_Q, b_K of a head, as arrays."""
    key = qk.group[head]
    found = (qk.query[head], qk.key[key], qk.query_bias[head], qk.key_bias[key])
    return [values.double().numpy() for values in found]


def dense(qk: QK) -> list[np.ndarray]:
    """A of each head, d x d, element by element of the sum over d_h."""
    out = []
    for head in range(qk.n_heads):
        w_q, w_k, _, _ = weights(qk, head)
        out.append(sum(np.outer(w_k[k], w_q[k]) for k in range(len(w_q))))
    return out


def logit(qk: QK, head: int, reader, read) -> float:
    """Token i reads token j, biases and scale included."""
    w_q, w_k, b_q, b_k = weights(qk, head)
    return float((w_q @ reader + b_q) @ (w_k @ read + b_k)) * qk.scale


def terms(qk: QK, head: int, reader, read, reader_mean, read_mean) -> dict[str, float]:
    """The terms of one logit, each written out."""
    w_q, w_k, b_q, b_k = weights(qk, head)
    x, y = reader - reader_mean, read - read_mean
    a = w_k.T @ w_q
    found = {
        "constant": read_mean @ a @ reader_mean,
        "cross_read": y @ a @ reader_mean,
        "cross_reader": read_mean @ a @ x,
        "matching": y @ a @ x,
        "bias_query": b_q @ (w_k @ read + b_k),
        "bias_key": b_k @ (w_q @ reader),
    }
    return {name: float(value) * qk.scale for name, value in found.items()}


def shares(qk: QK, head: int, batches, q, d, direction: str):
    """Shares, constant's share, mean and variance, from the list of all token pairs."""
    part = {"Q": 1, "D": 3}
    means = {"Q": q, "D": d}
    reader, read = direction
    rows, logits = [], []
    for states, parts in batches:
        for one, labels in zip(states.double().numpy(), parts.numpy(), strict=True):
            readers, reads = one[labels == part[reader]], one[labels == part[read]]
            for x, y in itertools.product(readers, reads):
                rows.append(terms(qk, head, x, y, means[reader], means[read]))
                logits.append(logit(qk, head, x, y))
    logits = np.array(logits)
    names = [name for name in rows[0] if name != "constant"]
    covariance = {
        name: np.cov([row[name] for row in rows], logits, bias=True)[0, 1] for name in names
    }
    found = {name: value / logits.var() for name, value in covariance.items()}
    return found, rows[0]["constant"] ** 2 / (logits**2).mean(), logits.mean(), logits.var()


def batch(pairs=3, tokens=12, d=10, seed=0):
    """Random states and part numbers; padding holds NaN, so that nothing may read it."""
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(pairs, tokens, d)) + generator.normal(size=d)
    parts = np.full((pairs, tokens), 6)
    for row in parts:
        q = int(generator.integers(1, 4))
        n = int(generator.integers(1, tokens - q - 2))
        row[: q + n + 3] = [0, *[1] * q, 2, *[3] * n, 4]
    states[parts == 6] = np.nan
    return torch.from_numpy(states), torch.from_numpy(parts)
