import csv
import json
import logging
import os
import shutil
from typing import Any, Dict, List

from diffmm_pyg.errors import MissingExtraError, RunError
from diffmm_pyg.runs.curves import plot_curves
from diffmm_pyg.runs.run import Run
from diffmm_pyg.typing import ITEM, USER
from diffmm_pyg.utils import RowEmbedding

logger = logging.getLogger(__name__)

FORMAT = 1
FILES = [
    'config.json', 'metrics.json', 'history.csv', 'ids.json',
    'model.safetensors', 'graphs.safetensors', 'embeddings.safetensors'
]


def check_out(folder: str, overwrite: bool = False) -> None:
    r"""Checks, before any work is done, that a run can be written.

    Args:
        folder (str): The folder.
        overwrite (bool, optional): If set to :obj:`True`, it may hold a run.
            (default: :obj:`False`)

    Raises:
        RunError: If :obj:`folder` holds something that may not be replaced,
            or cannot be created.
        MissingExtraError: If :obj:`safetensors` is not installed.
    """
    import_safetensors()
    if folder == '':
        raise RunError('The folder for the run has no name; give it one')
    if os.path.lexists(folder):
        if not os.path.isdir(folder):
            raise RunError(f"'{folder}' is a file; name a folder for the run")
        is_run = os.path.exists(os.path.join(folder, 'config.json'))
        if is_run and not overwrite:
            raise RunError(f"'{folder}' already holds a run; name another "
                           f"folder, or pass '--overwrite' "
                           f"(overwrite=True) to replace it")
        if not is_run and len(os.listdir(folder)) > 0:
            raise RunError(f"'{folder}' is not empty and holds no run; name "
                           f"another folder, so that nothing is lost")
    parent = os.path.dirname(os.path.abspath(folder))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise RunError(f"'{parent}' is no folder that can be written to; name "
                       f"another one for the run")


def free_folder(folder: str) -> str:
    r"""Returns :obj:`folder`, or, where another run has taken it meanwhile, a
    name beside it.

    Args:
        folder (str): The folder.
    """
    out, number = folder, 0
    while os.path.isdir(out) and len(os.listdir(out)) > 0:
        number += 1
        out = f'{os.path.normpath(folder)}-{number}'
    if number > 0:
        logger.warning("'%s' was taken during the training; the run goes to "
                       "'%s'", folder, out)
    return out


def save_run(run: Run, folder: str, overwrite: bool = False) -> None:
    r"""Writes a run to a folder: :obj:`config.json`, :obj:`metrics.json`,
    :obj:`history.csv`, :obj:`ids.json`, the parameters
    :obj:`model.safetensors`, the graphs :obj:`graphs.safetensors`, the
    :obj:`embeddings.safetensors` to rank with, and :obj:`curves.png` where
    :obj:`matplotlib` is installed. The folder appears when it is whole.

    Args:
        run (Run): The run.
        folder (str): The folder.
        overwrite (bool, optional): If set to :obj:`True`, a run in it is
            replaced. (default: :obj:`False`)

    Raises:
        RunError: If the folder cannot be written.
    """
    check_out(folder, overwrite)
    safetensors = import_safetensors()
    partial = f'{os.path.abspath(folder)}.partial-{os.getpid()}'
    shutil.rmtree(partial, ignore_errors=True)
    try:
        os.makedirs(partial)
        for name, content in [
            ('config.json', {'format': FORMAT, **run.config}),
            ('metrics.json', run.metrics),
            ('ids.json', run.ids),
        ]:
            with open(os.path.join(partial, name), 'w') as f:
                json.dump(content, f, indent=None if name == 'ids.json' else 2)
        _write_history(run.history, os.path.join(partial, 'history.csv'))
        embeddings = {ITEM: run.item_emb}
        if isinstance(run.user_emb, RowEmbedding):
            embeddings.update({f'{USER}.{name}': x for name, x in
                               run.user_emb.tensors.items()})
        else:
            embeddings[USER] = run.user_emb
        for name, tensors in [('model', run.state), ('graphs', run.graphs),
                              ('embeddings', embeddings)]:
            path = os.path.join(partial, f'{name}.safetensors')
            safetensors.torch.save_file(tensors, path)
            # It writes files that only their owner can read.
            shutil.copymode(os.path.join(partial, 'config.json'), path)
        try:
            plot_curves(run.history, run.metrics['best_epoch'],
                        os.path.join(partial, 'curves.png'))
        except MissingExtraError as e:
            logger.warning('curves.png was not drawn: %s', e)
        _replace(partial, folder, overwrite)
        run.folder = folder
    except (OSError, safetensors.SafetensorError) as e:
        reason = getattr(e, 'strerror', None) or str(e).split('\n')[0]
        raise RunError(f"The run could not be written to '{folder}' "
                       f"({reason}); free some space or name another "
                       f"folder") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def import_safetensors() -> Any:
    r"""Imports :obj:`safetensors`, late.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as e:
        raise MissingExtraError('safetensors', 'train',
                                'to write and read runs') from e
    return safetensors


def _write_history(history: List[Dict[str, float]], path: str) -> None:
    with open(path, 'w', newline='') as f:
        writer = csv.DictWriter(f, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def _replace(partial: str, folder: str, overwrite: bool) -> None:
    if not (overwrite and os.path.isdir(folder)):
        os.rename(partial, folder)  # Fails where there is a run by now.
        return
    old = f'{partial}.old'
    os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except BaseException:
        os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
