r"""Runs the two ways of training that `speed.py` compares."""
import json
import subprocess
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch

from _measure import memory, timed, watched
from _timing.arithmetic import Size
from _timing.fast_loop import PHASES, FastLoop, choose_batches
from _timing.textbook_loop import TextbookLoop
from diffmm_pyg.data import modality_features
from diffmm_pyg.typing import INTERACTS
from torch_geometric.data import HeteroData

Loop = Union[FastLoop, TextbookLoop]
Data = Tuple[HeteroData, HeteroData]
Seconds = Dict[str, Dict[str, float]]  # By loop and phase


def measure_seconds(loops: Dict[str, Loop], repeats: int,
                    steps: Optional[int], seed: int) -> List[Seconds]:
    r"""Returns the seconds of every repeat of an epoch."""
    epoch_seconds(loops, (seed, 0), 1)  # Warms up.
    return [epoch_seconds(loops, (seed, repeat + 1), steps)
            for repeat in range(repeats)]


def epoch_seconds(loops: Dict[str, Loop], key: Tuple[int, int],
                  steps: Optional[int]) -> Seconds:
    r"""Takes all loops through an epoch, in turns after every batch or other
    piece, and returns the seconds that the epoch takes.

    Args:
        loops (Dict[str, Loop]): The loops, whose batches are the same.
        key (Tuple[int, int]): The key of their random draws.
        steps (int, optional): The number of full batches of a phase that
            stand for all of them; runs all of them if not given.
    """
    out = {name: dict.fromkeys(PHASES, 0.) for name in loops}

    def turn(phase: str, piece: str, *args: Any, weight: float = 1.) -> None:
        for name, loop in loops.items():
            seconds = timed(getattr(loop, piece), *args)
            out[name][phase] += weight * seconds

    some = next(iter(loops.values()))
    num_users, num_edges = some.num_examples
    turn('diffusion', 'start_epoch', (*key, 0))
    batches = choose_batches(num_users, some.batch_size, steps)
    for i, (index, weight) in enumerate(batches):
        turn('diffusion', 'diffusion_step', index.to(some.device),
             (*key, 0, i), weight=weight)
    turn('generation', 'generate', (*key, 1))
    batches = choose_batches(num_edges, some.batch_size, steps)
    for i, (index, weight) in enumerate(batches):
        turn('ranking', 'ranking_step', index.to(some.device), (*key, 1, i),
             weight=weight)
    turn('evaluation', 'evaluate')
    return out


def sizes(loops: Dict[str, Loop], data: Data) -> Size:
    r"""Returns what the formulae of the arithmetic need to know of
    :obj:`data`, distinct anchors as in one random batch.
    """
    loop = next(iter(loops.values()))
    train, val = (part[INTERACTS] for part in data)
    batch = torch.randperm(loop.num_examples[1])[:loop.batch_size]
    user, item = train.edge_index[:, batch.to(train.edge_index.device)]
    return Size(
        edges=loop.num_examples[1],
        evaluated=val.edge_label_index[0].unique().numel(),
        features=[x.size(1) for x in modality_features(data[0]).values()],
        anchors=(user.unique().numel(), item.unique().numel()),
        batch_size=loop.batch_size,
    )


def measure_memory(loop: Loop) -> Dict[str, Any]:
    r"""Returns the bytes in memory before an epoch, that is of interpreter,
    libraries, data, parameters and optimizers, and how much more each phase
    takes at most. Two batches of a phase stand for all of them.
    """
    for optimizer in loop.optimizers:
        _fill(optimizer)
    before = memory()
    num_users, num_edges = loop.num_examples
    pieces = [('diffusion', loop.start_epoch, ((0, 0), ))]
    for i, (index, _) in enumerate(
            choose_batches(num_users, loop.batch_size, 2)):
        pieces.append(('diffusion', loop.diffusion_step,
                       (index.to(loop.device), (0, 0, i))))
    pieces.append(('generation', loop.generate, ((0, 1), )))
    for i, (index, _) in enumerate(
            choose_batches(num_edges, loop.batch_size, 2)):
        pieces.append(('ranking', loop.ranking_step,
                       (index.to(loop.device), (0, 1, i))))
    pieces.append(('evaluation', loop.evaluate, ()))

    above = dict.fromkeys(PHASES, 0)
    for phase, fn, args in pieces:
        memory()  # Gives back what the allocator kept of the piece before.
        above[phase] = max(above[phase], watched(fn, *args)[1] - before)
    return {'before': before, 'phases': above, 'above': max(above.values())}


def _fill(optimizer: torch.optim.Optimizer) -> None:
    # A step without a gradient moves nothing, but makes the state.
    for group in optimizer.param_groups:
        for p in group['params']:
            p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()


def compare_memory(script: str, argv: Sequence[str],
                   names: Sequence[str]) -> Dict[str, Any]:
    r"""Measures the memory of every loop in a process of its own."""
    out: Dict[str, Any] = {}
    for name in names:
        command = [sys.executable, script, *argv, '--memory-of', name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                              check=True)
        out[name] = json.loads(done.stdout.splitlines()[-1])
    out['fast_over_textbook'] = {
        name.removeprefix('fast_'):
        out[name]['above'] / out['textbook']['above']
        for name in names if name != 'textbook'
    }
    return out
