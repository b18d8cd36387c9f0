#!/usr/bin/env python3
"""Writes `pytorch_model.bin` beside this file: the weights of ssm-core's oracle `mamba2_tiny`, as the authors publish
Mamba-2, in the format of `torch.save` since PyTorch 1.6. Needs Python 3 alone: classes and functions of torch stand in
the pickle by their names only.

Names are the authors' (`backbone.embedding.weight`, and a head that shares its storage). One matrix is a transposed
view, two vectors are views into one storage.
"""
import io, json, pickle, struct, sys, types, zipfile
from collections import OrderedDict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORACLE = HERE.parents[2] / "ssm-core/tests/oracles/mamba2_tiny.safetensors"


def stand_in(module, name):
    """A function that can be pickled by this name and makes no call when it is."""
    function = types.FunctionType((lambda *arguments: None).__code__, {}, name)
    function.__module__, function.__qualname__ = module, name
    sys.modules.setdefault(module, types.ModuleType(module)).__dict__[name] = function
    return function


rebuild, float_storage = stand_in("torch._utils", "_rebuild_tensor_v2"), stand_in("torch", "FloatStorage")


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.parts = (storage, offset, tuple(shape), tuple(strides), False, OrderedDict())

    def __reduce__(self):
        return rebuild, self.parts


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", float_storage, value.key, "cpu", len(value.values))


class StateDict(OrderedDict):
    """Has `_metadata`, which `torch` puts on every state dictionary, and is pickled as an ordered dictionary."""

    def __reduce__(self):
        return OrderedDict, (), {"_metadata": OrderedDict([("", {"version": 1})])}, None, iter(self.items())


def strides(shape):
    result, step = [], 1
    for size in reversed(shape):
        result.insert(0, step)
        step *= size
    return result


raw = ORACLE.read_bytes()
length = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + length])
header.pop("__metadata__")
state, storages = StateDict(), []


def store(values):
    storages.append(Storage(str(len(storages)), values))
    return storages[-1]


for name, entry in sorted(header.items()):
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    values, shape = [value for value, in struct.iter_unpack("<f", raw[start:end])], entry["shape"]
    name = name.replace("embeddings", "embedding")
    if name.endswith("layers.1.mixer.out_proj.weight"):
        rows, columns = shape
        by_column = [values[i * columns + j] for j in range(columns) for i in range(rows)]
        state[name] = Tensor(store(by_column), 0, shape, (1, rows))
    elif name.endswith("layers.1.mixer.D"):
        both = store([7.0] + values + state_values)
        state[name] = Tensor(both, 1, shape, (1,))
        state[before] = Tensor(both, 1 + len(values), state[before].parts[2], (1,))
    else:
        state[name] = Tensor(store(values), 0, shape, strides(shape))
    if name.endswith("layers.1.mixer.A_log"):
        before, state_values = name, values
state["lm_head.weight"] = state["backbone.embedding.weight"]

pickled = io.BytesIO()
Pickler(pickled, protocol=2).dump(state)
with zipfile.ZipFile(HERE / "pytorch_model.bin", "w") as archive:
    def add(name, content):
        # One date for all, as torch has it: the file is the same however often it is made.
        archive.writestr(zipfile.ZipInfo("pytorch_model/" + name, (1980, 1, 1, 0, 0, 0)), content)

    add("data.pkl", pickled.getvalue())
    add("byteorder", b"little")
    for storage in storages:
        add("data/" + storage.key, struct.pack(f"<{len(storage.values)}f", *storage.values))
    add("version", b"3\n")
