"""Tensors that have shapes but no memory, and the count of what operations on them hold, compute and move.

The tensors say that they are on the CPU, so autocast, attention and models choose what they would choose for a CPU; PyTorch's rules for the
meta device give the shapes of results. PyTorch's own `FakeTensorMode` does the same and more, but takes three times as long.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPU, META = torch.device("cpu"), torch.device("meta")

PRODUCTS = {"mm": 1, "addmm": 2, "bmm": 1, "baddbmm": 2, "_int_mm": 1, "_scaled_mm": 1}
"""The matrix products, each with the place of its second matrix among its arguments."""

ATTENTION, ATTENTION_BACKWARD = 4, 10
"""The operations per query, key and channel: two products in the forward pass, and five in the backward pass, of two operations each."""

SILENT = frozenset(
    {"detach", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "lift_fresh", "alias"}
)
"""The operations that neither compute nor move anything, besides views."""


@attrs.frozen
class Work:
    """What operations compute and move.

    Attributes:
        products: the operations (additions and multiplications) of matrix products, by the dtype of the matrices.
        products_bytes: the bytes that matrix products read and write.
        attention: the operations of attention.
        attention_bytes: the bytes that attention reads and writes.
        bytes: the bytes that all other operations read and write.
        kernels: the number of all other operations.
        sent: the bytes that are sent to other devices.
    """

    products: Mapping[str, float] = attrs.field(factory=dict)
    products_bytes: float = 0
    attention: float = 0
    attention_bytes: float = 0
    bytes: float = 0
    kernels: float = 0
    sent: float = 0

    def __add__(self, other: Work) -> Work:
        dtypes = {*self.products, *other.products}
        products = {dtype: self.products.get(dtype, 0) + other.products.get(dtype, 0) for dtype in sorted(dtypes)}
        (_, *own), (_, *others) = _fields(self), _fields(other)
        return Work(products, *(a + b for a, b in zip(own, others, strict=True)))

    def __mul__(self, times: float) -> Work:
        products, *numbers = _fields(self)
        return Work({dtype: times * count for dtype, count in products.items()}, *(times * number for number in numbers))


def _fields(work: Work) -> tuple[Any, ...]:
    return work.products, work.products_bytes, work.attention, work.attention_bytes, work.bytes, work.kernels, work.sent


class HollowTensor(Tensor):
    """A tensor without memory.

    Attributes:
        meta: the tensor on the meta device that has the shape, and whose storage stands for the memory.
    """

    meta: Tensor

    @staticmethod
    def __new__(cls, meta: Tensor) -> HollowTensor:
        made: HollowTensor = Tensor._make_wrapper_subclass(
            cls, meta.shape, meta.stride(), meta.storage_offset(), dtype=meta.dtype, layout=meta.layout, device=CPU
        )
        made.meta = meta
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func} was called with a tensor without memory, outside the mode that knows such tensors")


class Hollow(TorchDispatchMode):
    """A mode in which all new tensors are without memory, and in which storages and work are counted.

    Storages are counted, not tensors, so that views cost nothing; each counts for as long as autograd or the computation holds it.

    Attributes:
        live: the bytes at present.
        peak: the largest number of bytes since the mode began or `peak` was set.
        casts: the bytes at present of copies of parameters in another dtype.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # which would import all of the compiler
        return False

    def __init__(self, seen: dict[Any, Any] | None = None) -> None:
        """`seen` keeps, from one mode to the next, the shapes of the results of operations."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = {} if seen is None else seen
        self.live = self.peak = self.casts = 0
        self._made_so_far = 0
        self._held: dict[int, tuple[Any, int, int]] = {}
        self._known: dict[int, Tensor] = {}
        self._weights: dict[int, int] = {}
        self._rules: dict[Any, _Rule] = {}
        self._muted = 0
        self.used: Callable[[int, int, int], None] = lambda numbers, before, after: None
        self._begin()

    def _begin(self) -> None:
        self._products: dict[str, float] = {}
        self._numbers = [0.0] * 6

    def work(self) -> Work:
        """Return the work since the last call."""
        done = Work(self._products, *self._numbers)
        self._begin()
        return done

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Do not count these tensors, and begin to count anew."""
        self._known = {_storage(each)._cdata: each for each in tensors}
        self._held, self.live, self.peak, self.casts = {}, 0, 0, 0
        self._begin()

    @property
    def made(self) -> int:
        """The number of storages that were made so far."""
        return self._made_so_far

    def held(self, after: int) -> dict[Any, int]:
        """Return the bytes of each storage that exists at present and was made after the first `after` storages, by the storage's mark."""
        return {mark: size for mark, size, number in self._held.values() if number > after}

    def gone(self, marked: Mapping[Any, int]) -> int:
        """Return the bytes of the storages that `held` returned and that no longer exist."""
        return sum(size for mark, size in marked.items() if mark() is None)

    def marked(self, tensors: Iterable[Tensor]) -> dict[Any, int]:
        """Return what `held` returns, but only for the storages of some tensors."""
        found = (self._held.get(_storage(each)._cdata) for each in tensors)
        return {each[0]: each[1] for each in found if each is not None}

    def watch(self, weights: Iterable[Tensor], used: Callable[[int, int, int], None]) -> None:
        """Call `used` after each operation on one of these weights, with the weight's size and the bytes before and after."""
        self._weights, self.used = {_storage(each)._cdata: each.numel() for each in weights}, used

    def send(self, size: int) -> None:
        """Count bytes that are sent to other devices."""
        self._numbers[5] += size

    def mute(self, read_and_written: int) -> None:
        """Count one operation that moves this many bytes, and no further work until `unmute` is called."""
        self._numbers[3] += read_and_written
        self._numbers[4] += 1
        self._muted += 1

    def unmute(self) -> None:
        self._muted -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = _Rule.of(func)
        kwargs = kwargs or {}
        before = self.live
        made = self._made(rule, func, args, kwargs)
        if not rule.is_silent:
            if not self._muted:
                self._count_work(rule, args, kwargs, made)
            if self._weights and rule.product:
                for each in args:
                    numbers = self._weights.get(each.meta.untyped_storage()._cdata) if isinstance(each, HollowTensor) else None
                    if numbers is not None:
                        self.used(numbers, before, self.live)
        return made

    def _made(self, rule: _Rule, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if rule.changes is not None:  # in place: shapes do not change
            return args[rule.changes]
        if "out" in kwargs:
            return kwargs["out"]
        key = _key(func, args, kwargs) if rule.is_new else None
        known = None if key is None else self._seen.get(key)
        if known is not None:
            shape, stride, dtype = known
            return self._wrapped(torch.empty_strided(shape, stride, dtype=dtype, device=META), rule, args)
        given = {name: META if isinstance(value, torch.device) else _meta(value) for name, value in kwargs.items()}
        if rule.is_factory:
            given["device"] = META
        found = func(*map(_meta, args), **given)
        if key is not None and type(found) is Tensor:
            self._seen[key] = found.shape, found.stride(), found.dtype
        return self._wrapped(found, rule, args)

    def _wrapped(self, found: Any, rule: _Rule, args: tuple[Any, ...]) -> Any:
        if isinstance(found, Tensor):
            self._count(found.untyped_storage(), rule.is_cast and bool(args) and isinstance(args[0], torch.nn.Parameter))
            return HollowTensor(found)
        if isinstance(found, tuple | list):
            return type(found)(self._wrapped(each, rule, args) for each in found)
        return found

    def _count(self, storage: torch.UntypedStorage, is_cast: bool) -> None:
        key = storage._cdata
        if key in self._held or key in self._known:
            return
        size = storage.nbytes()

        def let_go(_: Any) -> None:
            if key in self._held and self._held[key][0] is reference:
                del self._held[key]
                self.live -= size
                self.casts -= size if is_cast else 0

        reference = weakref.ref(storage, let_go)
        self._made_so_far += 1
        self._held[key] = reference, size, self._made_so_far
        self.live += size
        self.casts += size if is_cast else 0
        self.peak = max(self.peak, self.live)

    def _count_work(self, rule: _Rule, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: Any) -> None:
        read = {id(each): each for each in (*tensors_in(args), *tensors_in(tuple(kwargs.values())))}
        moved = sum(map(_bytes, read.values())) + sum(map(_bytes, tensors_in((made,))))
        if rule.product:
            left, right = args[rule.product - 1], args[rule.product]
            dtype = str(left.dtype).removeprefix("torch.")
            self._products[dtype] = self._products.get(dtype, 0) + 2 * made.numel() * right.shape[-2]
            self._numbers[0] += moved
        elif rule.attention:
            query, key, *_ = args if rule.attention == ATTENTION else args[1:]
            self._numbers[1] += rule.attention * prod(query.shape) * key.shape[-2]
            self._numbers[2] += moved
        else:
            self._numbers[3] += moved
            self._numbers[4] += 1


@attrs.frozen
class _Rule:
    """How an operation is treated.

    Attributes:
        changes: the place of the argument that the operation changes and returns; None if it returns something else.
        is_new: whether the result is one new tensor, whose shape depends only on the shapes of the arguments.
        is_factory: whether the operation makes a tensor from numbers alone.
        is_cast: whether the operation converts to another dtype.
        is_silent: whether the operation neither computes nor moves anything.
        product: for a matrix product, the place of the second matrix; 0 for another operation.
        attention: for attention, the operations per query, key and channel; 0 for another operation.
    """

    changes: int | None
    is_new: bool
    is_factory: bool
    is_cast: bool
    is_silent: bool
    product: int
    attention: int

    @classmethod
    def of(cls, func: Any) -> _Rule:
        name, schema = func.overloadpacket.__name__, func._schema
        arguments, results = schema.arguments, schema.returns
        first = arguments[0].alias_info if arguments else None
        in_place = first is not None and first.is_write and len(results) == 1 and results[0].alias_info is not None
        aliases = any(each.alias_info is not None for each in (*arguments, *results))
        attention = 0
        if name.startswith("_scaled_dot_product"):
            attention = ATTENTION_BACKWARD if "backward" in name else ATTENTION
        return cls(
            changes=0 if in_place and "resize" not in name and name != "set_" else None,
            is_new=not aliases and len(results) == 1 and str(results[0].type) == "Tensor",
            is_factory=any(each.name == "device" for each in arguments) and not any("Tensor" in str(each.type) for each in arguments),
            is_cast=name == "_to_copy",
            is_silent=func.is_view or name in SILENT or (name.startswith("_scaled_dot_product") and not results),
            product=PRODUCTS.get(name, 0),
            attention=attention,
        )


def _meta(value: Any) -> Any:
    if isinstance(value, HollowTensor):
        return value.meta
    if isinstance(value, Tensor):
        return value.to(META)
    if isinstance(value, tuple | list):
        return [*map(_meta, value)] if isinstance(value, list) else tuple(map(_meta, value))
    return value


def _key(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        key = func, _part(args), tuple((name, _part(value)) for name, value in kwargs.items())
        hash(key)
    except TypeError:
        return None
    return key


def _part(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(_part, value))
    return value, type(value)


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return (tensor.meta if isinstance(tensor, HollowTensor) else tensor).untyped_storage()


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among some values, and those in lists and tuples among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes that reading a tensor moves; values that are expanded are read once."""
    different = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return prod(different) * tensor.element_size()
