r"""Times an epoch of DiffMM, phase by phase: the library against the
textbook, in one process and in turns. See the README beside this file.
"""
import argparse
import copy
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from _checkout import git_revision
from _command import describe_command
from _measure import describe_machine, measure_limits, supports_bf16
from _timing.arithmetic import minimal_work
from _timing.fast_loop import FastLoop
from _timing.problem import (
    PRESET,
    add_arguments,
    generate_data,
    load_tiktok,
    make_config,
    make_model,
    set_up,
)
from _timing.profile import print_profile, profile_phases
from _timing.speed_report import plot_seconds, print_table, summarize
from _timing.speed_runs import (
    Data,
    Loop,
    compare_memory,
    measure_memory,
    measure_seconds,
    sizes,
)
from _timing.textbook_loop import TextbookLoop
from diffmm_pyg.errors import DiffMMError
from diffmm_pyg.typing import INTERACTS, ITEM, USER

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
    parser.add_argument('--profile', action='store_true',
                        help='measure what operators the time goes into')
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
    own = sys.argv[1:] if argv is None else argv
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
        'command': describe_command('speed.py', own),
        'git': git_revision(),
        'settings': settings(args, data, loops),
        'machine': machine,
    }
    steps = None if args.full_epoch else args.steps
    seconds = measure_seconds(loops, args.repeats, steps, args.seed)
    work = minimal_work(loops['textbook'].model, sizes(loops, data))
    result.update(summarize(seconds, work, machine['limits']))
    if len(names) < len(NAMES):
        result['epoch']['textbook_over_fast']['bf16'] = None
        result['bf16'] = NO_BF16
    if not args.device.startswith('cuda'):
        result['gpu'] = 'not measured'
    if args.memory:
        result['memory'] = compare_memory(__file__, own, names)
    if args.profile:
        result['profile'] = {
            name: profile_phases(loop) for name, loop in loops.items()
            if isinstance(loop, FastLoop)
        }
    print_table(result)
    if args.profile:
        print_profile(result['profile'])
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
    model = loops['textbook'].model
    train, val = data
    return {
        'data': 'tiktok' if args.data is not None else 'generated',
        'users': train[USER].num_nodes,
        'items': train[ITEM].num_nodes,
        'train_edges': loops['textbook'].num_examples[1],
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


if __name__ == '__main__':
    try:
        main()
    except DiffMMError as e:
        sys.exit(f'error: {e}')
