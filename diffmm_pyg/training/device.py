import os
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Iterator, Optional, Tuple

import torch

from diffmm_pyg.errors import ConfigError, MissingExtraError
from diffmm_pyg.utils.processes import Processes


def find_device(device: Optional[str]) -> Tuple[Any, torch.device]:
    r"""Returns an accelerator, and the device to train on; by default a GPU
    if there is one. Processes that :obj:`torchrun` started are connected, and
    each one takes a GPU of its own.

    Raises:
        ConfigError: If there is no such device.
        MissingExtraError: If :obj:`accelerate` is not installed.
    """
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as e:
        raise MissingExtraError('accelerate', 'train', 'to train') from e
    if device is not None and device.split(':')[0] not in ['cpu', 'cuda']:
        raise ConfigError(f"'device' must be 'cpu', 'cuda' or 'cuda:N' "
                          f"(got '{device}')")
    num_processes = Processes.launched().size
    if num_processes > 1:
        on_cpu = device == 'cpu' or (device is None and
                                     not torch.cuda.is_available())
        _check_processes(device, on_cpu)
        # What the CPU knows, e.g., signals, need not wait for a GPU.
        backend = 'gloo' if on_cpu else 'cpu:gloo,cuda:nccl'
        accelerator = Accelerator(device_placement=False, cpu=on_cpu,
                                  kwargs_handlers=[
                                      InitProcessGroupKwargs(backend=backend)])
        return accelerator, accelerator.device
    place = None
    try:
        if device is not None:
            place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(f"There is no device '{device}' that torch can use "
                          f"here; 'diffmm-pyg doctor' shows what there "
                          f"is") from e
    # Its state is that of the process: what differs between trainings, place
    # and precision, is therefore not its affair.
    accelerator = Accelerator(device_placement=False)
    return accelerator, accelerator.device if place is None else place


def _check_processes(device: Optional[str], on_cpu: bool) -> None:
    if device not in [None, 'cpu', 'cuda']:
        raise ConfigError(f"Each of several processes takes a GPU of its own; "
                          f"give 'cuda' as 'device' (got '{device}')")
    num_processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    num_devices = torch.cuda.device_count()
    if not on_cpu and num_processes > num_devices:
        raise ConfigError(f"There are {num_processes} processes, but only "
                          f"{num_devices} GPUs, on this machine; lower "
                          f"'--nproc-per-node', or train on the CPU "
                          f"('--device cpu')")


def autocast(device: torch.device,
             precision: str) -> AbstractContextManager[Any]:
    r"""Runs matrix products in the given precision."""
    return torch.autocast(device.type, torch.bfloat16,
                          enabled=precision == 'bf16')


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    r"""Lets torch use algorithms only that give the same bits every time, if
    :obj:`enabled`.
    """
    was_enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if enabled:
        # What cuBLAS asks for, before it is used for the first time:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_enabled, warn_only=warn_only)
