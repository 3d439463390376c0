r"""What the machine is, how fast it can be, and what a call costs."""
import ctypes
import gc
import os
import platform
import re
import resource
import time
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch

import diffmm_pyg
import torch_geometric
from diffmm_pyg.typing import WITH_TORCH_SPARSE

# The variables that change how fast the machine is, but for the numbers of
# threads, which are known:
ENVIRONMENT = (r'(LD_PRELOAD|GLIBC_TUNABLES|(MALLOC|MKL|OMP|KMP|GOMP|OPENBLAS|'
               r'ATEN|DNNL|ONEDNN|PYTORCH|CUDA|CUBLAS)_\w*)$(?<!NUM_THREADS)')


def timed(fn: Callable, *args: Any) -> float:
    r"""Returns the seconds that a call takes, on a GPU until it is done."""
    _synchronize()
    start = time.perf_counter()
    fn(*args)
    _synchronize()
    return time.perf_counter() - start


def watched(fn: Callable, *args: Any) -> Tuple[float, int]:
    r"""Returns the seconds that a call takes, and the largest number of bytes
    in memory meanwhile, see :meth:`peak_memory`.
    """
    reset_peak_memory()
    seconds = timed(fn, *args)
    return seconds, peak_memory()


def memory() -> int:
    r"""Returns the bytes in memory now: those allocated on the GPU if it is
    in use, else the resident set of this process, less what the allocator
    keeps of memory that was freed.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        return torch.cuda.memory_allocated()
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL('libc.so.6').malloc_trim(0)
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize()


def peak_memory() -> int:
    r"""Returns the largest number of bytes in memory since
    :meth:`reset_peak_memory`, or, where the system cannot reset it, since the
    process began.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    # `ru_maxrss` of a child starts at the peak of its parent (at least where
    # it was started by `vfork`), hence the peak of this address space first:
    for line in _read('/proc/self/status').splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == 'Darwin' else peak * 1024


def reset_peak_memory() -> None:
    r"""Makes the present use of memory the largest one, where possible."""
    if torch.cuda.is_initialized():
        return torch.cuda.reset_peak_memory_stats()
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass


def supports_bf16(device: str) -> bool:
    r"""Returns whether matrix products of :obj:`torch.bfloat16` have
    instructions of their own, without which they are slower than others.
    """
    if device.startswith('cuda'):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False)
               for name in ['amx_bf16', 'avx512_bf16', 'bf16'])


def describe_machine(device: str) -> Dict[str, Any]:
    r"""Returns what a reader needs to know of machine and software."""
    capabilities = torch.cpu.get_capabilities()
    out = {
        'device': device,
        'cpu': _cpu_model(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'avx512_bf16': bool(capabilities.get('avx512_bf16', False)),
        'amx_bf16': bool(capabilities.get('amx_bf16', False)),
        'load_average': os.getloadavg()[0],
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
        'torch_sparse': WITH_TORCH_SPARSE,
        'diffmm_pyg': diffmm_pyg.__version__,
        'environment': describe_environment(),
    }
    if device.startswith('cuda'):
        out['gpu'] = torch.cuda.get_device_name(device)
    return out


def describe_environment() -> Dict[str, str]:
    r"""Returns the variables that change how fast the machine is, without
    where folders lie on it.
    """
    return {name: re.sub(r'[^\s:]*/', '', value)
            for name, value in sorted(os.environ.items())
            if re.match(ENVIRONMENT, name)}


def measure_limits(device: str, size: int) -> Dict[str, float]:
    r"""Measures what the machine can do at most: the products of square
    matrices of :obj:`size` rows, in GFLOP/s, and copies of four such
    matrices, in GB/s (bytes read plus bytes written).
    """
    out = {}
    for name, dtype in [('fp32', torch.float), ('bf16', torch.bfloat16)]:
        x = torch.randn(size, size, device=device).to(dtype)
        y, result = x.clone(), torch.empty_like(x)
        best = _best(lambda x=x, y=y, r=result: torch.mm(x, y, out=r))
        out[f'matmul_{name}_gflops'] = 2 * size**3 / best / 1e9
    x = torch.randn(4 * size, size, device=device)
    y = torch.empty_like(x)
    best = _best(lambda: y.copy_(x))
    out['copy_gbytes_per_s'] = 2 * 4 * x.numel() / best / 1e9
    return out


def _best(fn: Callable) -> float:
    timed(fn)
    return min(timed(fn) for _ in range(5))


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _cpu_model() -> str:
    for line in _read('/proc/cpuinfo').splitlines():
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ''
