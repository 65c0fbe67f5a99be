"""Attention as an array with named axes: which head of which layer reads what.

You learn how to get the attention mass of every pair, layer and head by the names of its parts, how
to hand the axes to xarray, and that the masses of a row sum to 1.
It takes about 10 seconds.

Run it: ``python examples/mass_by_name.py``. Needs ``pip install 'matchlens[demo]'``.
"""

import numpy as np

import matchlens

QUERIES = 6

# 1. Measure the untouched model. Easy negatives (random passages) are for the contrasts.
model = matchlens.load("demo")
pairs = matchlens.choose(matchlens.demo.load(), queries=QUERIES, per_grade=2, easy=2)
result = matchlens.attention(model, pairs, meters=["mass"], causal=False)

# 2. One direction by its name, [pair, layer, head]: how much each head lets the query read the
#    passage. The whole array is mapped from a file, and is read only where it is looked at.
mass = result.array("mass", "Q->D")
axes = result.axes("mass")
print({axis: len(labels) for axis, labels in axes.items()}, "parts:", axes["row"])
relevant = result.pairs["grade"].to_numpy() >= 2
gap = mass[relevant].mean(0) - mass[~relevant].mean(0)
for place in np.argsort(-gap, axis=None)[:5]:
    layer, head = np.unravel_index(place, gap.shape)
    print(f"head {layer}.{head}: {gap[layer, head]:+.3f} more of Q -> D where relevant")

# 3. A row's masses sum to 1: what the query reads is shared out over the five parts.
whole = result.array("mass")[:, :, :, axes["row"].index("Q"), :]
sums = whole.sum(-1)
print(f"sum over the parts that the query reads: {sums.min():.4f} to {sums.max():.4f}")

# 4. The same with xarray, where it is installed: named.sel(row="Q", column="D", layer=8).
try:
    import xarray
except ImportError:
    print("pip install xarray for arrays that are indexed by name")
else:
    named = xarray.DataArray(result.array("mass"), coords=[*axes.items()], name="mass")
    print("How much of its attention the query gives to the passage, by layer:")
    print(named.sel(row="Q", column="D").mean(("pair", "head")).round(3).to_series().to_string())
