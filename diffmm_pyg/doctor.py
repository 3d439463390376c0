r"""What is installed here, and how sparse products are computed on every
device.
"""
import subprocess
import sys
from importlib import metadata
from platform import python_version
from typing import Any, Dict, List, Optional, Tuple

import torch

from diffmm_pyg.utils import sparse_backend

PACKAGES = ['torch', 'torch-geometric', 'torch-sparse', 'torch-scatter',
            'numpy', 'scipy']
EXTRAS = {
    'accelerate': 'train',
    'safetensors': 'train',
    'matplotlib': 'plots',
    'pyarrow': 'parquet',
    'optuna': 'tune',
}


def probe_sparse_backend(device: str, timeout: float = 120.0,
                         ) -> Tuple[str, str]:
    r"""Returns the sparse backend of :obj:`device` and the reason for it, as
    found in a child process that may crash or hang.

    Args:
        device (str): The device, *e.g.*, :obj:`'cuda:0'`.
        timeout (float, optional): The seconds to wait for the child process.
            (default: :obj:`120.0`)
    """
    # With `-P`, `random.py` beside that file does not hide Python's own:
    command = [sys.executable, '-P', '-W', 'ignore', sparse_backend.__file__,
               device]
    try:
        child = subprocess.run(command, capture_output=True, text=True,
                               timeout=timeout)
    except subprocess.TimeoutExpired:
        return 'torch', f'no answer of torch-sparse within {timeout:g} s'
    if child.returncode < 0:
        return 'torch', f'torch-sparse crashed with signal {-child.returncode}'
    if child.returncode > 0:
        lines = child.stderr.strip().splitlines() or ['no message']
        return 'torch', _reason(lines)
    return 'torch-sparse', 'a small product and its gradient came out right'


def _reason(lines: List[str]) -> str:
    # TorchScript repeats the message in its own trace; a line of Python's
    # trace ends with it, the first line after `Error:` says it best:
    for line in reversed(lines):
        kind, _, message = line.partition(': ')
        if kind.endswith('Error') and message:
            return message
    return lines[-1]


def _version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> Dict[str, Any]:
    # Its keys differ between architectures (`avx512_bf16`, `arm_bf16`):
    features = dict(torch.cpu.get_capabilities()) if hasattr(
        torch.cpu, 'get_capabilities') else {}
    return {
        'threads': torch.get_num_threads(),
        'capability': torch.backends.cpu.get_cpu_capability(),
        'bf16': any(features[key] for key in features if 'bf16' in key),
        'amx': bool(features.get('amx_tile')),
    }


def report() -> Dict[str, Any]:
    r"""Returns the versions of all packages (:obj:`None` where one is
    missing), what the CPU and the GPUs can do, and the sparse backend in use
    on every device with the reason for it.
    """
    from diffmm_pyg import __version__

    gpus = []
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            gpus.append({'name': gpu.name, 'memory': gpu.total_memory,
                         'capability': f'{gpu.major}.{gpu.minor}'})
    devices = ['cpu', *(f'cuda:{i}' for i in range(len(gpus)))]
    versions = {package: _version(package) for package in PACKAGES}
    versions['torch'] = str(torch.__version__)
    return {
        'versions': {'python': python_version(), 'diffmm_pyg': __version__,
                     **versions},
        'extras': {package: _version(package) for package in EXTRAS},
        'cpu': _cpu(),
        'cuda': gpus,
        'sparse': {device: dict(zip(('backend', 'reason'),
                                    probe_sparse_backend(device)))
                   for device in devices},
    }


def format_report(report: Dict[str, Any]) -> str:
    r"""Returns the output of :meth:`report` as lines to be read."""
    def yes(flag: bool) -> str:
        return 'yes' if flag else 'no'

    lines = [f"{package:<16} {version or 'not installed'}"
             for package, version in report['versions'].items()]
    lines += [f'{package:<16} ' + (version or 'not installed; pip install '
                                   f"'diffmm_pyg[{EXTRAS[package]}]'")
              for package, version in report['extras'].items()]
    cpu = report['cpu']
    lines += [f"{'cpu':<16} {cpu['threads']} threads, {cpu['capability']}, "
              f"bf16: {yes(cpu['bf16'])}, AMX: {yes(cpu['amx'])}"]
    lines += [f"{f'cuda:{i}':<16} {gpu['name']}, "
              f"{gpu['memory'] / 2**30:.1f} GiB, capability "
              f"{gpu['capability']}" for i, gpu in enumerate(report['cuda'])]
    lines += [f"{'sparse on':<9} {device:<6} {entry['backend']} "
              f"({entry['reason']})"
              for device, entry in report['sparse'].items()]
    return '\n'.join(lines)
