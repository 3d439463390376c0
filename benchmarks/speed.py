r"""Times an epoch of DiffMM, phase by phase: the library against the
textbook, in one process and in turns. See the README beside this file.
"""
import argparse
import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from _arithmetic import Size, minimal_work
from _fast_loop import PHASES, FastLoop
from _measure import (
    describe_machine,
    measure_limits,
    memory,
    supports_bf16,
    timed,
    watched,
)
from _problem import (
    PRESET,
    add_arguments,
    generate_data,
    load_tiktok,
    make_config,
    make_model,
    set_up,
)
from _speed_report import plot_seconds, print_table
from _textbook_loop import TextbookLoop
from torch import Tensor

from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.data import HeteroData

Loop = Union[FastLoop, TextbookLoop]
Data = Tuple[HeteroData, HeteroData]
NAMES = ['textbook', 'fast_fp32', 'fast_bf16']
NO_BF16 = ('not measured: this device has no bf16 instructions (amx_bf16 or '
           'avx512_bf16 on a CPU), so that its bf16 products are slower than '
           'those of fp32; --bf16 measures them nonetheless')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', default=os.environ.get('DIFFMM_DATA'),
                        help='folder with TikTok (default: $DIFFMM_DATA; '
                        'generated data if neither is given)')
    parser.add_argument('--users', type=int, default=4000,
                        help='users in generated data')
    parser.add_argument('--items', type=int, default=3000,
                        help='items in generated data')
    add_arguments(parser)
    parser.add_argument('--steps', type=int, default=3, metavar='N',
                        help='full batches that are timed per phase and '
                        'repeat; the epoch is computed from them')
    parser.add_argument('--full-epoch', action='store_true',
                        help='time every batch of the epoch instead')
    parser.add_argument('--repeats', type=int, default=3,
                        help='repeats, of which the median is taken')
    parser.add_argument('--bf16', action='store_true',
                        help='measure bf16 also where it has no instructions')
    parser.add_argument('--memory', action='store_true',
                        help='measure peak memory, in processes of their own')
    parser.add_argument('--peak-size', type=int, default=2048,
                        help='rows of the matrices that measure the limits')
    parser.add_argument('--json', metavar='FILE')
    parser.add_argument('--plot', metavar='FILE.png')
    parser.add_argument('--memory-of', choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ['steps', 'repeats', 'users', 'items', 'batch_size']:
        if getattr(args, name) < 1:
            parser.error(f"'{name}' must be at least 1")
    return args


def main(argv: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    args = parse_args(argv)
    set_up(args)
    if args.data is not None:
        data = load_tiktok(args)
    else:
        data = generate_data(args, args.users, args.items)
    if args.memory_of is not None:
        loop = make_loops(args, data, [args.memory_of])[args.memory_of]
        result: Dict[str, Any] = measure_memory(loop)
        print(json.dumps(result))
        return result

    names = NAMES[:3 if args.bf16 or supports_bf16(args.device) else 2]
    loops = make_loops(args, data, names)
    machine = describe_machine(args.device)
    machine['limits'] = measure_limits(args.device, args.peak_size)
    result = {
        'settings': settings(args, data, loops),
        'machine': machine,
        **summarize(measure_seconds(loops, args), work_of(loops, data)),
    }
    result['bf16'] = 'measured' if len(names) == 3 else NO_BF16
    if args.memory:
        result['memory'] = compare_memory(names, argv)
    print_table(result)
    if args.json is not None:
        Path(args.json).write_text(json.dumps(result, indent=2) + '\n')
    if args.plot is not None:
        plot_seconds(result, args.plot)
    return result


def make_loops(args: argparse.Namespace, data: Data,
               names: Sequence[str]) -> Dict[str, Loop]:
    r"""Returns loops that start from the same parameters."""
    config = make_config(args)
    model = make_model(config, data[0])
    training = config['training']
    loops: Dict[str, Loop] = {}
    for name in names:
        if name == 'textbook':
            loops[name] = TextbookLoop(model, data, training['batch_size'],
                                       training['lr'])
        else:
            loops[name] = FastLoop(copy.deepcopy(model), data,
                                   training['batch_size'], training['lr'],
                                   precision=name.removeprefix('fast_'))
    return loops


def settings(args: argparse.Namespace, data: Data,
             loops: Dict[str, Loop]) -> Dict[str, Any]:
    model = next(iter(loops.values())).model
    train, val = data
    return {
        'data': 'tiktok' if args.data is not None else 'generated',
        'users': train[USER].num_nodes,
        'items': train[ITEM].num_nodes,
        'train_edges': train[INTERACTS].edge_index.size(1),
        'evaluated_pairs': val[INTERACTS].edge_label_index.size(1),
        'modalities': model.modalities,
        'preset': PRESET,
        'hidden_channels': model.diffusion.denoiser.hidden_channels,
        'likelihood': args.likelihood,
        'sampler': model.diffusion.sampler,
        'normalize': args.normalize,
        'batch_size': args.batch_size,
        'repeats': args.repeats,
        'timed_steps': 'all' if args.full_epoch else args.steps,
        'seed': args.seed,
    }


def measure_seconds(loops: Dict[str, Loop], args: argparse.Namespace,
                    ) -> Dict[str, List[Dict[str, float]]]:
    r"""Returns, for every loop and repeat, the seconds of every phase."""
    epoch_seconds(loops, args.batch_size, (args.seed, 0), 1)  # Warms up.
    steps = None if args.full_epoch else args.steps
    out: Dict[str, List[Dict[str, float]]] = {name: [] for name in loops}
    for repeat in range(args.repeats):
        seconds = epoch_seconds(loops, args.batch_size,
                                (args.seed, repeat + 1), steps)
        for name, value in seconds.items():
            out[name].append(value)
    return out


def epoch_seconds(loops: Dict[str, Loop], batch_size: int,
                  key: Tuple[int, int], steps: Optional[int],
                  ) -> Dict[str, Dict[str, float]]:
    r"""Runs all loops through an epoch, in turns after every batch."""
    out = {name: dict.fromkeys(PHASES, 0.) for name in loops}
    fast = next(x for x in (*loops.values(), None) if isinstance(x, FastLoop))
    for phase, num_examples in zip(PHASES[::2], [fast.phases[0].num_examples,
                                                 fast.phases[1].num_examples]):
        for name, loop in loops.items():
            if phase == 'diffusion':
                seconds = timed(loop.start_epoch, (*key, 0))
                out[name]['diffusion'] += seconds
            else:
                out[name]['generation'] += timed(loop.generate, (*key, 1))
        batches = choose_batches(num_examples, batch_size, steps)
        for i, (index, weight) in enumerate(batches):
            index = index.to(fast.labels.device)
            for name, loop in loops.items():
                fn = getattr(loop, f'{phase}_step')
                seconds = timed(fn, index, (*key, 2, i))
                out[name][phase] += weight * seconds
    for name, loop in loops.items():
        out[name]['evaluation'] = timed(loop.evaluate)
    return out


def choose_batches(num_examples: int, batch_size: int, steps: Optional[int],
                   ) -> List[Tuple[Tensor, float]]:
    r"""Returns batches of an epoch, and how many of its batches each stands
    for: all of them, or the first full ones and the short last one.
    """
    perm = torch.randperm(num_examples)
    num_full = num_examples // batch_size
    full = perm[:num_full * batch_size].split(batch_size)[:steps]
    out = [(index, num_full / len(full)) for index in full if num_full > 0]
    if num_examples % batch_size > 0:
        out.append((perm[num_full * batch_size:], 1.))
    return out
