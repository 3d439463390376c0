r"""Trains small models in the processes that :obj:`torchrun` started, for
:obj:`test_several_processes.py`, which trains the same ones in one process.
"""
import copy
import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from small import interrupt, small_data, small_fit, small_model

from diffmm_pyg.nn.models import (
    BM3,
    BPRMF,
    EASE,
    FREEDOM,
    NGCF,
    VBPR,
    DiffRec,
    LateFusion,
    LightGCN,
    MultDAE,
)
from diffmm_pyg.typing import WITH_TORCH_SPARSE
from diffmm_pyg.utils.interrupt import Interrupted

CHANNELS = {'image': 6, 'text': 4}
# The last batches of 59 users and 40 items are of one row, which not all
# processes can have one of.
KWARGS = dict(epochs=3, batch_size=59, lr=0.01, patience=100)


def sampled(data):
    model = small_model(data, num_contrasts=10)
    model.diffusion.num_sampled_items = 12
    return model


def incomplete(data):
    r"""Items that lack a modality, and views of the modalities as anchors."""
    data[0]['item'].has_image = torch.arange(40) % 3 > 0
    return small_model(data, 'reference', denoiser_weight=0.5)


MODELS = {
    'strict': small_model,
    'reference': lambda data: small_model(data, 'reference'),
    'incomplete': incomplete,
    'sampled': sampled,
    'BPRMF': lambda data: BPRMF(60, 40, 8),
    'LightGCN': lambda data: LightGCN(60, 40, 8),
    'NGCF': lambda data: NGCF(60, 40, 8),
    'VBPR': lambda data: VBPR(60, 40, CHANNELS, 8, 8),
    'BM3': lambda data: BM3(60, 40, CHANNELS, 8),
    'FREEDOM': lambda data: FREEDOM(60, 40, CHANNELS, 8, k=3),
    'MultDAE': lambda data: MultDAE(60, 40, 8),
    'DiffRec': lambda data: DiffRec.from_sizes(60, 40, {}, diffusion={}),
    'LateFusion': lambda data: LateFusion([BPRMF(60, 40), LightGCN(60, 40)]),
}
if WITH_TORCH_SPARSE:
    MODELS['neighbors'] = lambda data: small_model(
        data, num_neighbors=[3, 3, 3])


def double_data():
    return [copy.copy(split).apply(
        lambda x: x.double() if x.is_floating_point() else x)
        for split in small_data()]


def double_fit(name='strict', **kwargs):
    data = double_data()
    torch.manual_seed(0)
    return small_fit(data, MODELS[name](data), **{**KWARGS, **kwargs})


def single_fits():
    r"""In single precision, and for a model without phases."""
    data = small_data()
    return {'float': small_fit(data, epochs=2),
            'EASE': small_fit(data, EASE(60, 40))}


def facts(run):
    r"""What a run consists of, but for the time that it took."""
    history = [{k: v for k, v in row.items() if k != 'seconds'}
               for row in run.history]
    return {'metrics': run.metrics, 'history': history}


def watch_writing(paths):
    r"""Collects what this process writes, or changes in a folder."""
    def hook(event, args):
        if event == 'open' and args[2] & (os.O_WRONLY | os.O_RDWR):
            paths.append(str(args[0]))
        elif event in ['os.mkdir', 'os.rename', 'os.remove', 'os.rmdir']:
            paths.append(str(args[0]))

    sys.addaudithook(hook)


def main(folder):
    rank, written = int(os.environ['RANK']), []
    if rank > 0:
        watch_writing(written)
    torch.set_default_dtype(torch.double)
    out = {name: double_fit(name, epochs=1) for name in MODELS}
    out['resumed'] = double_fit(out=str(folder / 'one'), resume=True)
    stop_at = (1, 1, 2)
    try:  # Of a signal that a single process gets, all know.
        data = double_data()
        model = small_model(data)
        small_fit(data, model if rank == 0 else
                  interrupt(model, stop_at, signal.SIGTERM),
                  out=str(folder / 'two'), **KWARGS)
    except Interrupted as e:
        assert e.signum == signal.SIGTERM
    torch.set_default_dtype(torch.float)
    out.update(single_fits())
    written = [path for path in written if path.startswith(str(folder))]
    (folder / f'{rank}.json').write_text(json.dumps(
        {'written': written, **{name: facts(run)
                                for name, run in out.items()}}))
    for name, run in out.items():
        save_file(run.state, folder / f'{name}.{rank}.safetensors')

    # At last, a process is killed while another waits for it.
    data = small_data()
    model = small_model(data)
    small_fit(data, model if rank == 0 else
              interrupt(model, stop_at, signal.SIGKILL),
              out=str(folder / 'killed'), **KWARGS)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
