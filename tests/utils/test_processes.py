import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, generator

from diffmm_pyg.utils.logsumexp import weighted_logsumexp
from diffmm_pyg.utils.processes import (
    SINGLE,
    LostProcessError,
    Processes,
    current_processes,
)


@given(num_rows=st.integers(0, 20), size=st.integers(1, 7))
def test_shares_are_all_rows_in_order(num_rows, size):
    x = torch.arange(num_rows)
    parts = [Processes(rank, size).narrow(x) for rank in range(size)]
    assert torch.cat(parts).equal(x)
    sizes = [part.numel() for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_nothing_is_shared_outside():
    assert current_processes() == SINGLE
    with pytest.raises(ValueError), Processes(1, 3).sharing():
        assert current_processes() == (1, 3)
        raise ValueError
    assert current_processes() == SINGLE


def test_a_single_process_needs_no_other():
    # None of these has a process group to talk to.
    x = torch.ones(2, 3)
    assert SINGLE.concat(x) is x and SINGLE.narrow(x) is x
    assert SINGLE.max(3) == 3 and SINGLE.from_first('a') == 'a'
    SINGLE.average_([x]), SINGLE.wait()
    assert x.eq(1).all()


@pytest.mark.parametrize('env, expected', [
    ({}, (0, 1)),
    ({'RANK': '1', 'WORLD_SIZE': '4'}, (0, 1)),  # Of some other launcher.
    ({'LOCAL_RANK': '0', 'RANK': '2', 'WORLD_SIZE': '4'}, (2, 4)),
])
def test_launched(monkeypatch, env, expected):
    for name in ['LOCAL_RANK', 'RANK', 'WORLD_SIZE']:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert Processes.launched() == expected


@given(num_rows=st.integers(1, 9), size=st.integers(1, 5),
       seed=st.integers(0, 2**31))
def test_mean_of_logsumexp(double, num_rows, size, seed):
    g = generator(seed)
    x, y = (torch.randn(n, 3, generator=g, requires_grad=True)
            for n in (num_rows, 4))
    weight = torch.rand(num_rows, generator=g)
    outs = []
    for rank in range(size):
        with Processes(rank, size).sharing():
            outs.append(weighted_logsumexp(x, y, weight))
    actual = torch.stack(outs).mean()
    expected = weighted_logsumexp(x, y, weight)
    assert_close(actual, expected)
    for a, b in zip(torch.autograd.grad(actual, [x, y]),
                    torch.autograd.grad(expected, [x, y]), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize('error, expected', [
    (RuntimeError('[gloo/transport/tcp/pair.cc:553] Connection closed by peer '
                  '[127.0.0.1]:2992.'), LostProcessError),
    (RuntimeError('Connection reset by peer'), LostProcessError),
    (dist.DistBackendError('NCCL error'), LostProcessError),
    (dist.DistBackendError("Cuda failure 'out of memory'"),
     dist.DistBackendError),
    (torch.OutOfMemoryError('CUDA out of memory'), torch.OutOfMemoryError),
    (RuntimeError('CUDA error: an illegal memory access'), RuntimeError),
])
def test_only_lost_processes_are_told(monkeypatch, error, expected):
    def fail(*args, **kwargs):
        raise error

    for name in ['all_reduce', 'broadcast_object_list']:
        monkeypatch.setattr(dist, name, fail)
    processes = Processes(0, 2)
    for call in [lambda: processes.max(1), lambda: processes.from_first(1),
                 lambda: processes.average_([torch.ones(1)]),
                 lambda: processes.concat(torch.ones(1))]:
        with pytest.raises(expected) as info:
            call()
        assert type(info.value) is expected
