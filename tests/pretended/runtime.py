"""The parts of torch that do not pass through its dispatcher, replaced so that they know the pretended device: `torch.cuda`, `Tensor.data` and some more."""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Iterator
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.cuda.random
from torch import Tensor, nn

from helpers.device_record import QUEUE, READ, RECORD
from pretended.tensors import DEVICE, OnDevice, Placing, is_pinned, pin

GIB = 2**30
MEMORY = 80 * GIB


def install() -> None:
    """Pretend, in this thread and in those that it starts."""
    _install_cuda()
    _install_tensor_methods()
    _install_safetensors()
    Placing().__enter__()
    start = threading.Thread.run

    def run(self: threading.Thread) -> None:
        with Placing():  # a dispatch mode is a thread's own
            start(self)

    threading.Thread.run = run  # type: ignore[method-assign]


# ---- streams


class Event:
    """A moment in a stream."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.moment = 0

    def record(self, stream: Stream | None = None) -> None:
        self.moment = QUEUE.now()
        RECORD.events.append(("record", (stream or _streams[-1]).name))

    def wait(self, stream: Stream | None = None) -> None:
        RECORD.events.append(("wait", (stream or _streams[-1]).name))

    def synchronize(self) -> None:
        RECORD.events.append(("synchronize",))
        QUEUE.wait_for(self.moment)

    def query(self) -> bool:
        return True


class Stream:
    """A queue of the device; what is ordered on it is done at once, and recorded."""

    def __init__(self, device: Any = None, **_: Any) -> None:
        self.name = f"stream {len(_made)}" if _made else "main"
        self.device = DEVICE
        _made.append(self)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        event.wait(self)

    def wait_stream(self, other: Stream) -> None:
        RECORD.events.append(("wait for stream", self.name, other.name))

    def synchronize(self) -> None:
        RECORD.wait(READ)


_made: list[Stream] = []
_streams = [Stream()]


@contextlib.contextmanager
def _stream(stream: Stream) -> Iterator[None]:
    _streams.append(stream)
    QUEUE.counts = stream is not _streams[0]
    try:
        yield
    finally:
        _streams.pop()
        QUEUE.counts = _streams[-1] is not _streams[0]


# ---- torch.cuda


def _install_cuda() -> None:
    state = torch.zeros(16, dtype=torch.uint8)
    properties = types.SimpleNamespace(total_memory=MEMORY, name="pretended", major=9, minor=0, multi_processor_count=132)
    replaced = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "Stream": Stream,
        "Event": Event,
        "stream": _stream,
        "current_stream": lambda device=None: _streams[-1],
        "default_stream": lambda device=None: _streams[0],
        "synchronize": lambda device=None: RECORD.wait(READ),
        "empty_cache": lambda: None,
        "max_memory_allocated": lambda device=None: GIB,
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "get_device_name": lambda device=None: "pretended",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: properties,
        "get_rng_state": lambda device=None: state,
        "set_rng_state": lambda new, device=None: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }
    for name, value in replaced.items():
        setattr(torch.cuda, name, value)
    for name in ("get_rng_state", "set_rng_state", "_is_in_bad_fork"):
        setattr(torch.cuda.random, name, replaced[name])


# ---- methods of tensors


def _install_tensor_methods() -> None:
    tolist, numpy, tensor = torch._C.TensorBase.tolist, torch._C.TensorBase.numpy, torch.tensor

    def own_tolist(self: Tensor) -> Any:
        if isinstance(self, OnDevice):
            RECORD.wait(READ)
            return tolist(self.inner)
        return tolist(self)

    def own_numpy(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, OnDevice):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return numpy(self, *args, **kwargs)

    def own_tensor(data: Any, *args: Any, device: Any = None, requires_grad: bool = False, **kwargs: Any) -> Tensor:
        made = tensor(data, *args, **kwargs)
        return (made if device is None else made.to(device)).requires_grad_(requires_grad)

    def record_stream(self: Tensor, stream: Stream) -> None:
        assert isinstance(self, OnDevice)
        RECORD.events.append(("record_stream", stream.name))

    replaced: dict[str, Any] = {
        "tolist": own_tolist,
        "numpy": own_numpy,
        "record_stream": record_stream,
        "pin_memory": lambda self, device=None: pin(self),
        "is_pinned": lambda self, device=None: is_pinned(self),
        "data": property(lambda self: torch._C.TensorBase.data.__get__(self), _set_data),
    }
    for name, value in replaced.items():
        setattr(torch.Tensor, name, value)
    torch.tensor = own_tensor
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # what `.data` cannot do with wrappers, a new parameter can


def _set_data(self: Tensor, value: Tensor) -> None:
    """`x.data = value`, also from one device to the other."""
    if not isinstance(value, OnDevice) and not isinstance(self, OnDevice):
        torch._C.TensorBase.data.__set__(self, value)  # type: ignore[attr-defined]
        return
    if isinstance(value, OnDevice) and isinstance(self, OnDevice) and (value.shape, value.dtype) == (self.shape, self.dtype):
        self.inner, self.owner = value.inner, value.source
        return
    new = nn.Parameter(value.detach(), requires_grad=self.requires_grad) if isinstance(self, nn.Parameter) else value.detach()
    torch.utils.swap_tensors(self, new)


# ---- safetensors


def _install_safetensors() -> None:
    """A file is read on the CPU and then moved: safetensors' own way to a GPU is C."""
    opened = safetensors.safe_open

    class Opened:
        def __init__(self, path: Any, framework: str = "pt", device: Any = "cpu", **options: Any) -> None:
            self._file, self._device = opened(path, framework=framework, device="cpu", **options), str(device)

        def __enter__(self) -> Opened:
            self._file.__enter__()
            return self

        def __exit__(self, *what: Any) -> Any:
            return self._file.__exit__(*what)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def get_tensor(self, name: str) -> Tensor:
            tensor: Tensor = self._file.get_tensor(name)
            return tensor if self._device == "cpu" else tensor.to(self._device)

    safetensors.safe_open = Opened  # type: ignore[misc, assignment]
    safetensors.torch.safe_open = Opened  # type: ignore[attr-defined]
