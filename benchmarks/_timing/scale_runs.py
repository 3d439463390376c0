r"""Measures one size for `scale.py`: the phases of an epoch of the library,
and the memory that they take.
"""
import argparse
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from torch import Tensor

from _measure import describe_machine, memory, peak_memory, timed, watched
from _timing.fast_loop import FastLoop, choose_batches
from _timing.problem import generate_data, make_config, make_model
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.diffusion.graph_diffusion import ROW_BLOCK_SIZE
from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.nn.models import Popularity
from diffmm_pyg.typing import INTERACTS, EdgesDict
from diffmm_pyg.utils import SparseRows

# The number of users that are evaluated in a block:
EVALUATION_BLOCK_SIZE = 4096


def measure_size(args: argparse.Namespace, num_users: int,
                 num_items: int) -> Dict[str, Any]:
    r"""Returns seconds and peak memory of an epoch, by phase."""
    interpreter = memory()
    config = make_config(args)
    config['model']['num_contrasts'] = args.num_contrasts
    if args.embedding_channels is not None:
        config['model']['hidden_channels'] = args.embedding_channels
    if args.num_neighbors is not None:
        config['model'].update(num_neighbors=args.num_neighbors,
                               edge_dropout=0., dropout_at_test=False)
    config['diffusion']['num_sampled_items'] = args.num_sampled_items
    data = generate_data(args, num_users, num_items)
    model = make_model(config, data[0])
    loop = FastLoop(model, data, args.batch_size, config['training']['lr'],
                    args.precision)
    del data  # The loop has a copy.
    steps = None if args.full_epoch else args.steps
    set_up = peak_memory()

    key = (args.seed, 0)
    phases = {
        'diffusion': _train(loop, 0, steps, key),
        'generation': _generate(loop, steps, key),
        'ranking': _train(loop, 1, steps, key),
        'evaluation': _evaluate(loop, steps),
    }
    return {
        'edges': loop.num_examples[1],
        'parameters': sum(p.numel() for p in model.parameters()),
        'phases': phases,
        'seconds': sum(phase['seconds'] for phase in phases.values()),
        'extrapolated': any(p['extrapolated'] for p in phases.values()),
        'interpreter_bytes': interpreter,
        'set_up_bytes': set_up,
        'peak_bytes': max(phase['peak_bytes'] for phase in phases.values()),
        'machine': describe_machine(args.device),
    }


def popularity_recall(loop: FastLoop) -> float:
    r"""Returns Recall@20 of the most popular items."""
    sizes = loop.model.num_users, loop.model.num_items
    seen = SparseRows.from_edge_index(loop.train[INTERACTS].edge_index, *sizes)
    user, score = Popularity(*sizes).embed(loop.train)
    # Places instead of counts: the ranking is the same, and ties are slow.
    order = score.view(-1).argsort(descending=True, stable=True)
    score[order] = -torch.arange(sizes[1], dtype=score.dtype,
                                 device=score.device).view(-1, 1)
    return evaluate(user, score, loop.labels, seen)['recall@20']


def _train(loop: FastLoop, phase: int, steps: Optional[int],
           key: Tuple[int, ...]) -> Dict[str, Any]:
    fn: Callable = [loop.diffusion_step, loop.ranking_step][phase]
    seconds, peak = 0., 0
    if phase == 0:
        seconds, peak = watched(loop.start_epoch, (*key, phase))
    num = loop.num_examples[phase]
    batches = choose_batches(num, loop.batch_size, steps)
    fn(batches[0][0].to(loop.device), (*key, phase, 0))  # Warms up.
    for i, (index, weight) in enumerate(batches):
        part = watched(fn, index.to(loop.device), (*key, phase, i))
        seconds, peak = seconds + weight * part[0], max(peak, part[1])
    return _result(seconds, peak, len(batches), -(-num // loop.batch_size))


def _generate(loop: FastLoop, steps: Optional[int],
              key: Tuple[int, ...]) -> Dict[str, Any]:
    num, block_size = loop.num_examples[0], ROW_BLOCK_SIZE
    blocks = -(-num // block_size)
    if steps is None or blocks <= steps:
        return _result(*watched(loop.generate, (*key, 1)), blocks, blocks)
    diffusion = loop.model.diffusion
    partial = PartialGeneration(diffusion, steps * block_size)
    diffusion.generate = partial
    seconds, peak = watched(loop.generate, (*key, 1))
    seconds += partial.missing_seconds
    return _result(seconds, peak, steps, blocks)


def _evaluate(loop: FastLoop, steps: Optional[int]) -> Dict[str, Any]:
    labels: Tensor = loop.labels
    users = labels[0].unique()
    num, block_size = users.numel(), EVALUATION_BLOCK_SIZE
    blocks = -(-num // block_size)
    if steps is None or blocks <= steps:
        metrics: Dict[str, float] = {}
        seconds, peak = watched(lambda: metrics.update(loop.evaluate()))
        out = _result(seconds, peak, blocks, blocks)
        if steps is None:  # What was trained for less is not worth a look.
            out['recall'] = metrics['recall@20']
            out['popularity_recall'] = popularity_recall(loop)
        return out
    loop.labels = labels[:, labels[0] == users[0]]
    loop.evaluate()  # Warms up.
    first = timed(loop.evaluate)
    loop.labels = labels[:, labels[0] < users[steps * block_size]]
    several, peak = watched(loop.evaluate)
    seconds = several + _missing(first, several, steps * block_size, num)
    return _result(seconds, peak, steps, blocks)


class PartialGeneration:
    r"""Stands in for :meth:`GraphDiffusion.generate` where that would take
    hours: denoises the first rows, keeps what the others would have taken,
    less what else it spent, in :obj:`missing_seconds`, and returns random
    edges for all.

    Args:
        diffusion (GraphDiffusion): The diffusion model.
        num_rows (int): The number of rows that are denoised.
    """
    def __init__(self, diffusion: GraphDiffusion, num_rows: int):
        self.generate, self.num_rows = diffusion.generate, num_rows
        self.modalities = diffusion.modalities
        self.missing_seconds = 0.

    def __call__(self, rows: SparseRows, k: int, *args: Any) -> EdgesDict:
        warm_up, first, several = (
            timed(self.generate, rows.narrow(0, num), k, *args)
            for num in [1, 1, self.num_rows])
        missing = _missing(first, several, self.num_rows, rows.num_rows)
        self.missing_seconds = missing - first - warm_up
        row = torch.arange(rows.num_rows, device=rows.col.device)
        row = row.repeat_interleave(k)
        edges = torch.stack([row, torch.randint_like(row, rows.num_cols)])
        weight = torch.ones(row.numel(), device=row.device)
        return {m: (edges, weight) for m in self.modalities}


def _missing(first: float, several: float, num: int, total: int) -> float:
    # What does not depend on the number of users is in `first`. Noise may
    # make it the larger one where all is tiny.
    return max(0., several - first) / (num - 1) * (total - num)


def _result(seconds: float, peak: int, timed_blocks: int,
            blocks: int) -> Dict[str, Any]:
    return {
        'seconds': seconds,
        'peak_bytes': peak,
        'timed': timed_blocks,
        'of': blocks,
        'extrapolated': timed_blocks < blocks,
    }
