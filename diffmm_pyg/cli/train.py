import argparse
import os
import shlex
import sys
import time
from typing import Any, Dict, Optional

from diffmm_pyg.build import build_model
from diffmm_pyg.cli.data import EMBEDDED, load_data
from diffmm_pyg.cli.options import given_hyper_parameters
from diffmm_pyg.cli.output import print_metrics
from diffmm_pyg.datasets.published import PUBLISHED
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.errors import ConfigError, RunError
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.presets import load_preset
from diffmm_pyg.runs import Run, check_out, recorded_model
from diffmm_pyg.training import Checkpoints, check_config, fit
from diffmm_pyg.training.device import find_device
from diffmm_pyg.utils.hyper_parameters import hyper_parameters
from diffmm_pyg.utils.processes import Processes
from torch_geometric import seed_everything

PRESET = 'strict'


def train(args: argparse.Namespace) -> None:
    r"""Trains a model, or goes on with a training, and writes a run."""
    run = _begin(args) if args.run is None else _go_on(args)
    if Processes.launched().is_first:
        print_metrics(run.metrics)
        sys.stderr.write(f"The run is in '{run.folder}'\n")


def _begin(args: argparse.Namespace) -> Run:
    origin = {
        'data': args.data or EMBEDDED,
        'root': args.root,
        'source': args.source,
        'modalities': args.modalities,
        'preset': args.preset or PRESET,
        'command': shlex.join(['diffmm-pyg', *args.argv]),
    }
    name, preset = origin['data'], origin['preset']
    training = load_preset(preset, name)['training']
    training.update(given_hyper_parameters(args, fit))
    check_config({**{name: option.default for name, option
                     in hyper_parameters(fit).items()}, **training})
    if training.get('out') is None:
        now = time.strftime('%Y%m%d-%H%M%S')
        base = os.path.basename(os.path.abspath(name))
        training['out'] = os.path.join('runs', f'{base}-{preset}-{now}')
    check_out(training['out'], training.get('overwrite', False))

    data = _load_data(origin, training.get('device'))
    # The clocks of processes, which are connected now, may differ.
    training['out'] = Processes.launched().from_first(training['out'])
    seed_everything(training.get('seed', 0))
    model = build_model(
        data[0], preset, name, given_hyper_parameters(args, DiffMM),
        given_hyper_parameters(args, GraphDiffusion, 'diffusion_'))
    return fit(model, data, **training, origin=origin)


def _go_on(args: argparse.Namespace) -> Run:
    r"""Takes what is not given from the training; :meth:`fit` refuses what
    must not change.
    """
    config = Checkpoints(args.run).config()
    _check_recorded(config, args.run)
    origin = config['origin']
    given = {name: getattr(args, name) for name in
             ['data', 'root', 'source', 'modalities']
             if getattr(args, name) is not None}
    if args.preset not in [None, origin.get('preset')]:
        raise ConfigError(f"'{args.run}' began with '--preset' of "
                          f"'{origin.get('preset')}'; go on with the same "
                          f"(got '{args.preset}'), or train anew")
    if 'data' not in {**origin, **given}:
        raise ConfigError(f"'{args.run}' began in Python; name its "
                          f"'--data', or go on by 'fit(..., resume=True)'")
    device = origin.get('device')
    if device and Processes.launched().size > 1:
        device = device.split(':')[0]  # Each takes a device of that kind.
    training = {'device': device, **config['training'],
                **given_hyper_parameters(args, fit)}
    if training.pop('out', args.run) != args.run:
        raise ConfigError(f"'--resume' goes on in its folder "
                          f"'{args.run}'; leave '--out' away")
    check_config(training)
    data = _load_data({**_recorded_data(origin, args), **given},
                      training['device'])
    config['model'].update(given_hyper_parameters(args, DiffMM))
    config.setdefault('diffusion', {}).update(
        given_hyper_parameters(args, GraphDiffusion, 'diffusion_'))
    return fit(recorded_model(config), data, **training, out=args.run,
               resume=True, origin=origin)


def _check_recorded(config: Any, run: str) -> None:
    config = {'diffusion': {}, **(config if isinstance(config, dict) else {})}
    groups = ['origin', 'training', 'class', 'model', 'data', 'diffusion']
    kinds = [str if name == 'class' else dict for name in groups]
    texts = ['data', 'root', 'source', 'device', 'preset']
    if (not all(map(isinstance, map(config.get, groups), kinds))
            or not all(isinstance(config['origin'].get(name, ''),
                                  (str, type(None))) for name in texts)):
        raise RunError(f"'{run}' describes no training that can go on; train "
                       f"anew")


def _recorded_data(origin: Dict[str, Any],
                   args: argparse.Namespace) -> Dict[str, Any]:
    r"""Returns where the data of a training, which may be that of a stranger,
    is: no address, and no folder that would have to be made.
    """
    root, data = origin.get('root'), args.data or origin.get('data')
    if (args.root is None and root is not None and data in PUBLISHED
            and not os.path.isdir(os.path.join(root, data))):
        raise ConfigError(f"'{args.run}' began with '--root' of '{root}', "
                          f"which does not hold '{data}' now; give '--root' "
                          f"anew")
    is_address = '://' in str(origin.get('source'))
    return {**origin, 'source': None} if is_address else origin


def _load_data(origin: Dict[str, Any], device: Optional[str]) -> Any:
    r"""Loads the dataset. One process of each machine writes its files, before
    the others read them.
    """
    is_first = find_device(device)[0].is_local_main_process
    processes = Processes.launched()
    if not is_first:
        processes.wait()
    data = load_data(origin['data'], origin.get('root'), origin.get('source'),
                     origin.get('modalities'))
    if is_first:
        processes.wait()
    return data
