"""Tensors of the pretended device: CPU tensors in a wrapper that says "cuda:0". They compute real values; what a GPU refuses is refused.

A wrapper and not a tensor without values, so that whole runs work: code that looks at values, finite checks, saving, decoding.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from helpers.device_record import QUEUE, READ, RECORD, UP, place

DEVICE = torch.device("cuda", 0)

READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "is_nonzero", "unique_consecutive", "_linalg_check_errors",
    "bincount", "repeat_interleave",
}  # fmt: skip
"""Operations whose result, or its shape, a program must wait for."""

COPIES = {"copy_", "_foreach_copy_"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Indices may lie on the CPU."""

_numbers = itertools.count()


class MixedDevices(RuntimeError):
    """Tensors of two devices in one operation, which a GPU refuses."""


class OnDevice(torch.Tensor):
    """A tensor of the device.

    Attributes:
        inner: its values.
        owner: the tensor whose memory it is a part of; None: it has its own.
    """

    inner: Tensor
    owner: OnDevice | None

    @staticmethod
    def __new__(cls, inner: Tensor, owner: OnDevice | None = None) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=False,
        )
        return made

    def __init__(self, inner: Tensor, owner: OnDevice | None = None) -> None:
        self.inner = inner.detach() if inner.requires_grad else inner
        self.owner = owner

    @property
    def source(self) -> OnDevice:
        """The tensor whose memory it has."""
        return self if self.owner is None else self.owner

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **options: Any) -> str:
        return f"OnDevice({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Placing(TorchDispatchMode):
    """Sends what makes or moves tensors for the device there; entered once in every thread."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(each, OnDevice) for each in types) or _is_device(kwargs.get("device")):
            return run(func, args, kwargs)
        return func(*args, **kwargs)


def run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do an operation that takes tensors of the device, or makes them there.

    Raises:
        MixedDevices: a GPU would refuse it.
    """
    name = func._schema.name.split("::")[-1]
    if name == "is_pinned":
        return False
    if name == "_fused_sdp_choice":
        return 0  # the one attention that is no kernel of CUDA's
    given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, OnDevice)]
    if given and name not in COPIES and name != "_to_copy":
        _refuse_mixed(func, name, args, kwargs)
    _refuse_generator(func, kwargs, bool(given))
    _count(name, args, kwargs, given)
    made = func(*tree_map(_inner, args), **_on_the_cpu(name, kwargs))
    to = kwargs.get("device")
    if (not _is_device(to)) if to is not None else (not given):
        on_its_way = bool(given) and name == "_to_copy" and kwargs.get("non_blocking")
        return pin(made) if kwargs.get("pin_memory") or on_its_way else made
    return _wrapped(func, name, args, made, given)


def _counted(tensor: OnDevice) -> OnDevice:
    """A tensor with memory of its own, made on a stream beside the main one: counted until it is known that the device no longer needs it."""
    number = next(_numbers)
    QUEUE.take(number, tensor.inner.untyped_storage().nbytes())
    weakref.finalize(tensor, QUEUE.let_go, number)
    return tensor


def _wrapped(func: Any, name: str, args: Sequence[Any], made: Any, given: Sequence[OnDevice]) -> Any:
    """Results on the device; of an operation in place, the very tensors that it changed."""
    if func._schema.is_mutable and name.endswith("_") and args and isinstance(args[0], OnDevice):
        return args[0]
    by_inner = {id(each.inner): each for each in given}
    by_memory = {each.inner.untyped_storage().data_ptr(): each.source for each in given if each.inner.layout == torch.strided}

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
            return value
        if func._schema.is_mutable and id(value) in by_inner:
            return by_inner[id(value)]
        owner = by_memory.get(value.untyped_storage().data_ptr()) if value.layout == torch.strided and value.numel() else None
        made = OnDevice(value, owner)
        return _counted(made) if QUEUE.counts and owner is None else made

    return tree_map(wrap, made)


def _refuse_mixed(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """A tensor of the CPU goes with those of the device where it is a single number, or an index."""
    if name.startswith("_foreach"):
        return
    if name in INDEXED and not isinstance(args[0], OnDevice):
        raise MixedDevices(f"{func}: a tensor of the CPU is indexed by one of the device, in {place()}")
    wrong = [
        tuple(tensor.shape)
        for at, tensor in _of_the_cpu(args, kwargs)
        if not (name in INDEXED and at == 1) and (tensor.dim() > 0 or name in {"cat", "stack"})
    ]
    if wrong:
        raise MixedDevices(f"{func}: tensors of the device and of the CPU, of shapes {wrong}, in {place()}")


def _of_the_cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[int, Tensor]]:
    for at, argument in enumerate((*args, *kwargs.values())):
        for each in tree_flatten(argument)[0]:
            if isinstance(each, torch.Tensor) and not isinstance(each, OnDevice):
                yield at, each


def _refuse_generator(func: Any, kwargs: Mapping[str, Any], on_device: bool) -> None:
    generator = kwargs.get("generator")
    to = kwargs.get("device")
    there = _is_device(to) if to is not None else on_device
    if generator is not None and (generator.device.type == "cuda") != there:
        raise MixedDevices(f"{func}: a generator of {generator.device} for a tensor that is not, in {place()}")


def _count(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Sequence[OnDevice]) -> None:
    if given and name in READS:
        RECORD.wait(READ)
    if given and name in INDEXED:
        for index in args[1]:
            if isinstance(index, torch.Tensor) and index.dtype == torch.bool:
                RECORD.wait(READ)  # how many there are
            elif isinstance(index, torch.Tensor) and not isinstance(index, OnDevice):
                RECORD.wait(UP)
    if name == "_to_copy" and kwargs.get("device") is not None:
        _count_copy(args[0], to_device=_is_device(kwargs["device"]), waits=not kwargs.get("non_blocking"))
    elif name == "copy_" and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
        _count_copy(args[1], to_device=isinstance(args[0], OnDevice), waits=not (args[2] if len(args) > 2 else kwargs.get("non_blocking")))


def _count_copy(source: Tensor, *, to_device: bool, waits: bool) -> None:
    if isinstance(source, OnDevice) and not to_device:
        if waits:
            RECORD.wait(READ)
        elif not QUEUE.counts:  # beside the main stream, where it may be copied back without a wait
            raise MixedDevices(f"a copy from the device that nobody waits for is read before it is there, in {place()}")
    elif not isinstance(source, OnDevice) and to_device and (waits or not is_pinned(source)):
        RECORD.wait(UP)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _on_the_cpu(name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: tree_map(_inner, value) for key, value in kwargs.items()}
    if _is_device(found.get("device")):
        found["device"] = torch.device("cpu")
    if name == "_to_copy":
        found.pop("non_blocking", None)
    found.pop("pin_memory", None)
    return found


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


# ---- pinned memory

_pinned: dict[int, Tensor] = {}
"""By address; kept, so that no other tensor gets an address that was pinned."""


def pin(tensor: Tensor) -> Tensor:
    """A copy in pinned memory."""
    if isinstance(tensor, OnDevice):
        raise RuntimeError(f"cannot pin a tensor of the device, in {place()}")
    made = tensor.detach().clone(memory_format=torch.contiguous_format)
    _pinned[made.untyped_storage().data_ptr()] = made
    RECORD.pinned.append(made.numel() * made.element_size())
    RECORD.pinned_by.append(threading.current_thread().name)
    return made


def is_pinned(tensor: Tensor) -> bool:
    return not isinstance(tensor, OnDevice) and tensor.untyped_storage().data_ptr() in _pinned
