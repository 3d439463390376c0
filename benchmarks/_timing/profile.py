r"""Where the time of each phase goes: into which operators of PyTorch, and
how much of it into none, which is Python and what dispatches from it.
"""
import time
from typing import Callable, Dict, List, Tuple

from torch.profiler import ProfilerActivity, profile

from _timing.fast_loop import FastLoop, choose_batches

Pieces = Dict[str, List[Tuple[Callable, Tuple]]]


def profile_phases(loop: FastLoop, steps: int = 3,
                   top: int = 6) -> Dict[str, Dict[str, float]]:
    r"""Returns, by phase, the share of the seconds that every one of the
    :obj:`top` operators takes by itself, that of all others, and that of
    Python. Meant for the CPU.
    """
    num_users, num_edges = loop.num_examples
    pieces: Pieces = {
        'diffusion': [
            (loop.diffusion_step, (index, (0, 0, i))) for i, (index, _)
            in enumerate(choose_batches(num_users, loop.batch_size, steps))
        ],
        'generation': [(loop.generate, ((0, 1), ))],
        'ranking': [
            (loop.ranking_step, (index, (0, 1, i))) for i, (index, _)
            in enumerate(choose_batches(num_edges, loop.batch_size, steps))
        ],
        'evaluation': [(loop.evaluate, ())],
    }
    loop.start_epoch((0, 0))
    return {phase: _profile(calls, top) for phase, calls in pieces.items()}


def _profile(calls: List[Tuple[Callable, Tuple]],
             top: int) -> Dict[str, float]:
    calls[0][0](*calls[0][1])  # Warms up.
    with profile(activities=[ProfilerActivity.CPU]) as run:
        start = time.perf_counter()
        for fn, args in calls:
            fn(*args)
        seconds = time.perf_counter() - start
    shares: Dict[str, float] = {}
    for event in run.key_averages():
        if event.key.startswith('aten::'):
            shares[event.key] = event.self_cpu_time_total / 1e6 / seconds
    names = sorted(shares, key=lambda name: -shares[name])[:top]
    out: Dict[str, float] = {name: shares[name] for name in names}
    out['other operators'] = sum(shares.values()) - sum(out.values())
    out['Python'] = 1 - sum(shares.values())
    return out


def print_profile(profiles: Dict[str, Dict[str, Dict[str, float]]]) -> None:
    r"""Prints what :meth:`profile_phases` returned, by loop."""
    for loop, shares in profiles.items():
        print(f'{loop}: share of the seconds of a phase, by operator:')
        for phase, parts in shares.items():
            text = ', '.join(f"{name.removeprefix('aten::')} {share:.0%}"
                             for name, share in parts.items())
            print(f'{phase:<10} {text}')
