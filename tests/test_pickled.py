"""Weights in torch.save's files: read without running code, within their size, converted once."""

from __future__ import annotations

import io
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import matchlens
import tiny as tiny_models
from matchlens import InputError
from matchlens.models import convert, pickled
from matchlens.models.folder import find

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning"),
    pytest.mark.usefixtures("cache"),
]
LEGACY = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model without weights."""
    tiny_models.save(tmp_path / "model", labels=2, seed=3)
    (tmp_path / "model/model.safetensors").rename(tmp_path / "weights.safetensors")
    return tmp_path / "model"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder.parent / "weights.safetensors")


def scores(folder: Path, pairs) -> np.ndarray:
    return matchlens.score(matchlens.load(folder, dtype="float64", device="cpu"), pairs)[""]


# --- what is read


@FORMATS
def test_the_scores_are_those_of_the_same_weights_in_safetensors(
    options, folder, cache, tmp_path, tiny_pairs
):
    torch.save(weights(folder), folder / "pytorch_model.bin", **options)
    before = sorted(os.listdir(folder))
    found = scores(folder, tiny_pairs)
    plain = tiny_models.save(tmp_path / "plain", labels=2, seed=3)
    np.testing.assert_array_equal(found, scores(plain, tiny_pairs))
    assert sorted(os.listdir(folder)) == before  # nothing is written beside the model
    (made,) = cache.iterdir()
    written = (made / "model.safetensors").stat().st_mtime_ns
    np.testing.assert_array_equal(scores(folder, tiny_pairs), found)
    assert (made / "model.safetensors").stat().st_mtime_ns == written


@FORMATS
def test_every_form_of_tensors_that_models_have_is_read_as_it_is(options, folder, tiny_pairs):
    """Old names, old buffers, half precision, transposed, tied, parameters, plain dictionaries."""
    plain = weights(folder)
    names = {name: name for name in plain}
    for end, old in (("LayerNorm.weight", "gamma"), ("LayerNorm.bias", "beta")):
        names |= {name: f"{name.rsplit('.', 1)[0]}.{old}" for name in names if name.endswith(end)}
    held: dict[str, torch.Tensor] = OrderedDict((names[name], one) for name, one in plain.items())
    held["bert.embeddings.position_ids"] = torch.arange(64).expand((1, -1))
    key = names["bert.encoder.layer.0.attention.self.key.weight"]
    held[key] = held[key].T.contiguous().T
    assert not held[key].is_contiguous()
    one, other = (names[f"bert.encoder.layer.{n}.output.dense.bias"] for n in (0, 1))
    held[other] = held[one]
    held["classifier.weight"] = torch.nn.Parameter(held["classifier.weight"])
    held["classifier.bias"] = held["classifier.bias"].half()
    held._metadata = OrderedDict({"": {"version": 1}})
    torch.save(held, folder / "pytorch_model.bin", **options)
    found = find(str(folder)).converted
    read = load_file(found / "model.safetensors")
    assert read.keys() == held.keys()
    for name, tensor in held.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert np.isfinite(scores(folder, tiny_pairs)).all()
    if options:  # the library's own reading of the same file
        from transformers import AutoModelForSequenceClassification

        theirs = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64)
        ours = matchlens.load(folder, dtype="float64", device="cpu").family.module
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_safetensors_go_before_pickles(folder, cache):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    first = find(str(folder))
    assert first.converted is not None
    (folder.parent / "weights.safetensors").rename(folder / "model.safetensors")
    second = find(str(folder))
    assert second.converted is None
    assert "weights" not in second.identity("float32", None)
    assert first.sha256 != second.sha256


def test_the_digest_is_of_the_pickled_file_and_not_of_the_cache(
    folder, cache, tmp_path, monkeypatch
):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    first = find(str(folder)).sha256
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "other"))
    assert find(str(folder)).sha256 == first
    changed = weights(folder)
    changed["classifier.bias"] += 1
    torch.save(changed, folder / "pytorch_model.bin")
    assert find(str(folder)).sha256 != first


# --- what is refused


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path, call=os.system):
        self.path, self.call = path, call

    def __reduce__(self):
        if self.call is os.system:
            return os.system, (f"touch {self.path}",)
        return self.call, (f"open({str(self.path)!r}, 'w')",)


class Late:
    """The bomb stands in the state, which goes to __setstate__ or to attributes."""

    def __init__(self, bomb):
        self.bomb = bomb

    def __reduce__(self):
        return OrderedDict, (), {"_metadata": self.bomb}


def bombs(where: Path) -> dict[str, object]:
    bomb = Bomb(where)
    return {
        "alone": bomb,
        "eval": {"classifier.weight": Bomb(where, eval)},
        "exec": {"classifier.weight": Bomb(where, exec)},
        "beside tensors": {"classifier.bias": torch.zeros(2), "x": bomb},
        "deep": {"a": [({"b": (bomb,)},)]},
        "in the state": Late(bomb),
        "as a key's value": OrderedDict(a=bomb),
    }


@FORMATS
@pytest.mark.parametrize("which", bombs(Path("x")))
def test_a_bomb_is_named_and_does_not_go_off(which, options, folder, cache, tmp_path):
    where = tmp_path / "went-off"
    torch.save(bombs(where)[which], folder / "pytorch_model.bin", **options)
    with pytest.raises(
        InputError, match=r"pytorch_model.bin asks for .*, which would run code"
    ) as error:
        matchlens.load(folder, device="cpu")
    assert any(one in str(error.value) for one in ("posix.system", "builtin"))
    assert len(str(error.value)) <= 400
    assert not where.exists()
    assert list(cache.iterdir()) == []
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert where.exists()  # it is a bomb, indeed


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_of_any_protocol_is_refused(protocol, folder, tmp_path):
    where = tmp_path / "went-off"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(where), protocol))
    with pytest.raises(InputError, match=r"asks for posix\.system"):
        find(str(folder))
    assert not where.exists()


def test_a_bomb_in_a_shard_does_not_go_off(folder, tmp_path):
    where = tmp_path / "went-off"
    torch.save(weights(folder), folder / "pytorch_model-00001-of-00002.bin")
    torch.save({"x": Bomb(where)}, folder / "pytorch_model-00002-of-00002.bin")
    placed = '{"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}'
    (folder / "pytorch_model.bin.index.json").write_text(f'{{"weight_map": {placed}}}')
    with pytest.raises(InputError, match=r"00002-of-00002\.bin asks for posix\.system"):
        find(str(folder))
    assert not where.exists()


@pytest.mark.parametrize(
    "shard", ["../weights.bin", "/etc/passwd", "a/b.bin", ".x.bin", "x.safetensors"]
)
def test_an_index_names_files_of_its_own_folder_only(shard, folder):
    torch.save(weights(folder), folder.parent / "weights.bin")
    (folder / "pytorch_model.bin.index.json").write_text(f'{{"weight_map": {{"a": "{shard}"}}}}')
    with pytest.raises(
        InputError, match=r"names .*; expected .bin files in the model's own folder"
    ):
        find(str(folder))


def test_a_whole_module_is_named_and_the_remedy_works(folder, tiny_pairs):
    module = tiny_models.model(labels=2, seed=3)
    torch.save(module, folder / "pytorch_model.bin")
    with pytest.raises(
        InputError, match=r"modeling_bert.BertForSequenceClassification, .*run code"
    ) as e:
        find(str(folder))
    assert "torch.save(model.state_dict(), file)" in str(e.value)
    torch.save(module.state_dict(), folder / "pytorch_model.bin")
    saved = scores(folder, tiny_pairs)
    assert np.ptp(saved) > 0


@FORMATS
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_another_protocol_is_named_and_the_remedy_works(protocol, options, folder, tiny_pairs):
    torch.save(weights(folder), folder / "pytorch_model.bin", pickle_protocol=protocol, **options)
    with pytest.raises(InputError, match=f"pickle protocol {protocol}, .*without pickle_protocol"):
        find(str(folder))
    torch.save(weights(folder), folder / "pytorch_model.bin", **options)
    assert np.ptp(scores(folder, tiny_pairs)) > 0


ODD = {
    "sparse": lambda one: one.to_sparse(),
    "eight bits": lambda one: one.to(torch.float8_e4m3fn),
    "complex": lambda one: one.to(torch.complex64),
    "NumPy": lambda one: one.numpy(),
}


@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_not_dense_are_named_and_the_remedy_works(kind, folder, tiny_pairs):
    held = weights(folder)
    held["classifier.weight"] = ODD[kind](held["classifier.weight"])
    torch.save(held, folder / "pytorch_model.bin")
    says = (
        "numpy.*, which would run code" if kind == "NumPy" else "torch.*, which is no dense tensor"
    )
    with pytest.raises(InputError, match=f"asks for {says}.*torch.save"):
        find(str(folder))
    torch.save(tiny_models.model(labels=2, seed=3).state_dict(), folder / "pytorch_model.bin")
    assert np.ptp(scores(folder, tiny_pairs)) > 0


def forged(pickled_bytes: bytes, records: dict[str, bytes] | None = None, **options) -> bytes:
    """A zip file like torch.save's around any pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled_bytes)
        for name, content in {"version": b"3\n", **(records or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return out.getvalue()


class Named:
    """Pickles as the global of a name."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name


STORAGE = (
    b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
)
"""The beginning of a storage's place in a pickle; its number of items follows."""


def tensor(items: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of {"a": a tensor} over a storage of so many items."""

    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    def several(values):
        return b"(" + b"".join(number(one) for one in values) + b"t"

    return (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        + STORAGE[2:]
        + number(items)
        + b"tQ"
        + number(0)
        + several(shape)
        + several(stride)
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def raw(pickle_bytes: bytes) -> bytes:
    return forged(pickle_bytes, {"data/0": b"\0" * 16})


GREEDY = {
    "a tensor over a short storage": raw(tensor(4, (10**12,), (1,))),
    "an expanded tensor": raw(tensor(4, (10**6, 10**6), (0, 0))),
    "a storage of more bytes than the file": raw(tensor(10**12, (4,), (1,))),
    "a storage of more bytes than its record": raw(tensor(8, (4,), (1,))),
    "negative sizes": raw(tensor(4, (-1,), (1,))),
    "a storage that is made by a call": forged(
        b"\x80\x02ctorch\nFloatStorage\n\x8a\x08" + struct.pack("<q", 10**12) + b"\x85R."
    ),
    "a byte array that is made by a call": forged(
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", 10**13) + b"\x85R."
    ),
    "a memo of one high number": forged(b"\x80\x02]r\xff\xff\xff\x7f."),
    "copies of a dictionary": forged(b"\x80\x02}ccollections\nOrderedDict\nh\0R."),
    "sets": forged(b"\x80\x04" + b"\x8f" * 1000 + b"."),
    "a long byte array": forged(b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"."),
    "a tuple in a tuple as a key": forged(b"\x80\x02})" + b"\x85" * 2_000_000 + b"Ns."),
    "a record that unpacks to more": forged(b"\0" * 50_000_000, compression=zipfile.ZIP_DEFLATED),
    "a long pickle": forged(b"\x80\x02" + b"]" * (pickled.MOST_PICKLE + 1)),
    "the same bytes under many names": b"",
}


@pytest.mark.slow
@pytest.mark.parametrize("which", GREEDY)
def test_a_file_takes_no_more_memory_than_its_size(which, folder, tmp_path):
    """In a process that has 3 GB: numpy and torch take 1 of them."""
    file = folder / "pytorch_model.bin"
    file.write_bytes(GREEDY[which])
    if not GREEDY[which]:
        one = torch.zeros(100_000)
        torch.save({f"x{n}": one for n in range(100)}, file)
    line = (
        "import resource, sys, torch; resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)\n"
        "from pathlib import Path\n"
        "from matchlens.models import pickled\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    pickled.read(Path(sys.argv[1]))\n"
        "except pickled.RefusedError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", line, str(file)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    said, grown = done.stdout.splitlines()
    assert said
    if which in ("a tensor over a short storage", "an expanded tensor"):
        assert "over a storage of 4" in said
    assert int(grown) < 600_000  # kilobytes
    with pytest.raises(InputError, match=r"pytorch_model.bin"):
        find(str(folder))


def test_the_forged_file_is_read_where_it_is_sound(tmp_path):
    (tmp_path / "x").write_bytes(raw(tensor(4, (2, 2), (2, 1))))
    assert pickled.read(tmp_path / "x")["a"].tolist() == [[0, 0], [0, 0]]


def damaged(folder: Path) -> dict[str, bytes]:
    zipped, legacy, tar = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(weights(folder), zipped)
    torch.save(weights(folder), legacy, **LEGACY)
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    return {
        "cut short": zipped.getvalue()[:-2000],
        "cut short, legacy": legacy.getvalue()[:-2000],
        "cut short in the names, legacy": legacy.getvalue()[:300],
        "noise": bytes(range(256)) * 40,
        "tar": tar.getvalue(),
        "TorchScript": script.getvalue(),
        "no table": forged(pickle.dumps([1, 2], 2)),
        "a training checkpoint": forged(pickle.dumps({"epoch": 3, "model": {}}, 2)),
        "a zip of anything": forged(b"").replace(b"data.pkl", b"data.txt"),
        "two records of a name": forged(pickle.dumps({}, 2), {"DATA.pkl": b""}),
    }


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("cut short", "damaged"),
        ("cut short, legacy", "is cut short: it has .* of .* bytes; fetch it again"),
        ("cut short in the names, legacy", "is damaged"),
        ("noise", "is damaged, or no file of weights"),
        ("tar", "tar format"),
        ("TorchScript", "TorchScript program"),
        ("no table", "holds no tensors by name"),
        ("a training checkpoint", "something else than a tensor under 'epoch'"),
        ("a zip of anything", "without data.pkl"),
        ("two records of a name", "two records of one name"),
    ],
)
def test_a_file_that_is_no_table_of_tensors_is_refused_by_its_cause(which, says, folder, cache):
    (folder / "pytorch_model.bin").write_bytes(damaged(folder)[which])
    with pytest.raises(InputError, match=f"pytorch_model.bin .*{says}"):
        find(str(folder))
    assert list(cache.iterdir()) == []


# --- the cache


def test_a_damaged_copy_in_the_cache_is_made_again(folder, cache, tiny_pairs):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    first = scores(folder, tiny_pairs)
    (made,) = cache.iterdir()
    sound = (made / "model.safetensors").read_bytes()
    for spoil in (
        lambda: (made / "model.safetensors").write_bytes(sound[:-64] + bytes(64)),
        lambda: (made / "model.safetensors").write_bytes(sound[:100]),
        (made / "model.safetensors").unlink,
        (made / "sha256").unlink,
    ):
        spoil()
        np.testing.assert_array_equal(scores(folder, tiny_pairs), first)
        assert (made / "model.safetensors").read_bytes() == sound
        assert [one.name for one in cache.iterdir()] == [made.name]


def test_a_killed_conversion_leaves_nothing_that_is_used(folder, cache, tiny_pairs, monkeypatch):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    line = (
        "import os, sys, signal, safetensors.torch as st\n"
        "from matchlens.models import convert\n"
        "real = st.save_file\n"
        "def dies(tensors, path, **options):\n"
        "    real(dict(list(tensors.items())[:3]), path, **options)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "st.save_file = dies\n"
        "from matchlens.models.folder import find\n"
        "find(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", line, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = cache.iterdir()
    assert left.name.startswith(".making-")
    expected = weights(folder)
    read = load_file(find(str(folder)).converted / "model.safetensors")
    assert read.keys() == expected.keys()
    assert left.exists()  # it may be another run's
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 2 * 24 * 3600)
    (folder / "pytorch_model.bin").write_bytes(b"")
    torch.save({**expected, "more": torch.zeros(1)}, folder / "pytorch_model.bin")
    find(str(folder))
    assert not left.exists()


def test_several_processes_may_convert_at_once(folder, cache):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    together = threading.Barrier(4, timeout=180)
    real = convert._convert

    def wait(*given):
        together.wait()
        real(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_convert", wait)
        found = tiny_models.at_once(lambda: find(str(folder)).converted)
    assert len(set(found)) == 1, found
    assert list(cache.iterdir()) == [found[0]]


def test_a_cache_without_room_says_what_to_do(folder, cache, tmp_path, monkeypatch):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(
            InputError, match=r"cannot write converted weights .*set MATCHLENS_CACHE"
        ):
            find(str(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache.iterdir()) == []
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "roomy"))
    assert find(str(folder)).converted.parent == tmp_path / "roomy"


def test_a_file_that_changes_while_it_is_read_is_not_kept(folder, cache, monkeypatch):
    torch.save(weights(folder), folder / "pytorch_model.bin")
    real = convert._convert

    def changes(files, *given):
        real(files, *given)
        with open(files[0], "ab") as file:
            file.write(b" ")

    monkeypatch.setattr(convert, "_convert", changes)
    with pytest.raises(InputError, match="changed while the model was loaded"):
        find(str(folder))
    assert list(cache.iterdir()) == []
