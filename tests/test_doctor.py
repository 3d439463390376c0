import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from diffmm_pyg import doctor
from diffmm_pyg.utils import sparse_backend

HAS_TORCH_SPARSE = find_spec('torch_sparse') is not None


def fake_child(monkeypatch, returncode=0, stderr=''):
    def run(command, **kwargs):
        return SimpleNamespace(returncode=returncode, stderr=stderr)

    monkeypatch.setattr(doctor.subprocess, 'run', run)


def fake_torch_sparse(monkeypatch, tmp_path, code):
    # A stand-in that the child process, which inherits the path, imports:
    (tmp_path / 'torch_sparse.py').write_text(code)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))


def test_probe_in_a_real_child():
    backend, reason = doctor.probe_sparse_backend('cpu')
    expected = 'torch-sparse' if HAS_TORCH_SPARSE else 'torch'
    assert backend == expected == sparse_backend.sparse_backend('cpu')
    if not HAS_TORCH_SPARSE:
        assert reason == "No module named 'torch_sparse'"


def test_probe_survives_a_crash(monkeypatch, tmp_path):
    fake_torch_sparse(monkeypatch, tmp_path,
                      'import os, signal\nos.kill(os.getpid(), '
                      'signal.SIGSEGV)')
    assert doctor.probe_sparse_backend('cpu') == (
        'torch', 'torch-sparse crashed with signal 11')


def test_probe_reports_a_failing_import(monkeypatch, tmp_path):
    fake_torch_sparse(monkeypatch, tmp_path,
                      "raise OSError('undefined symbol: _ZN3c10')")
    assert doctor.probe_sparse_backend('cpu') == (
        'torch', 'undefined symbol: _ZN3c10')


def test_a_wrong_product_is_refused(monkeypatch):
    class SparseTensor:
        def __init__(self, value, **kwargs):
            self.value = value

    def matmul(adj, x):  # without the permutation
        return adj.value.view(-1, 1) * x

    monkeypatch.setitem(sys.modules, 'torch_sparse', SimpleNamespace(
        SparseTensor=SparseTensor, matmul=matmul))
    with pytest.raises(RuntimeError, match=r'wrong product: \[2.0, 30.0\]'):
        sparse_backend._multiply(torch.device('cpu'))


def test_probe_does_not_wait_for_ever(monkeypatch):
    def run(command, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(doctor.subprocess, 'run', run)
    assert doctor.probe_sparse_backend('cpu', timeout=3) == (
        'torch', 'no answer of torch-sparse within 3 s')


def test_probe_finds_the_message_in_a_trace_of_torchscript(monkeypatch):
    fake_child(monkeypatch, 1, 'Traceback (most recent call last):\n'
               '  File "x.py", line 3, in f\n'
               'RuntimeError: Not compiled with CUDA support\n'
               'Exception raised from spmm at spmm.cpp:1\n')
    assert doctor.probe_sparse_backend('cuda:0') == (
        'torch', 'Not compiled with CUDA support')


@pytest.mark.parametrize('error', [ImportError, OSError, RuntimeError])
def test_sparse_backend_falls_back_and_is_tried_once(monkeypatch, error):
    calls = []

    def multiply(device):
        calls.append(device)
        raise error('Not compiled with CUDA support')

    monkeypatch.setattr(sparse_backend, '_multiply', multiply)
    sparse_backend._sparse_backend.cache_clear()
    try:
        for device in ['cuda:0', torch.device('cuda', 0)]:
            assert sparse_backend.sparse_backend(device) == 'torch'
        assert calls == [torch.device('cuda', 0)]
    finally:
        sparse_backend._sparse_backend.cache_clear()


def test_report_of_a_gpu_without_kernels(monkeypatch):
    def probe(device):
        if device == 'cpu':
            return 'torch-sparse', 'a small product came out right'
        return 'torch', 'Not compiled with CUDA support'

    gpu = SimpleNamespace(name='Some GPU', total_memory=3 * 2**30, major=9,
                          minor=0)
    monkeypatch.setattr(doctor, 'probe_sparse_backend', probe)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda i: gpu)

    report = doctor.report()
    assert report['sparse'] == {
        'cpu': {
            'backend': 'torch-sparse',
            'reason': 'a small product came out right'
        },
        'cuda:0': {
            'backend': 'torch',
            'reason': 'Not compiled with CUDA support'
        },
    }
    lines = doctor.format_report(report).splitlines()
    assert 'cuda:0           Some GPU, 3.0 GiB, capability 9.0' in lines
    assert 'sparse on cuda:0 torch (Not compiled with CUDA support)' in lines


def test_report_of_versions_and_of_what_is_missing(monkeypatch):
    def version(package):
        return None if package == 'pyarrow' else '1.2.3'

    monkeypatch.setattr(doctor, '_version', version)
    monkeypatch.setattr(doctor, 'probe_sparse_backend',
                        lambda device: ('torch', 'no reason'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)

    report = doctor.report()
    assert report['versions']['torch'] == torch.__version__
    assert report['versions']['python'] == sys.version.split()[0]
    assert report['versions']['torch-sparse'] == '1.2.3'
    assert report['extras']['pyarrow'] is None
    assert report['cpu']['threads'] == torch.get_num_threads()
    lines = doctor.format_report(report).splitlines()
    assert 'torch-sparse     1.2.3' in lines
    assert ("pyarrow          not installed; pip install "
            "'diffmm_pyg[parquet]'") in lines
