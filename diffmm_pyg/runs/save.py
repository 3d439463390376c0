import csv
import json
import logging
import os
import re
import shutil
from contextlib import suppress
from typing import Any, Dict, List, Tuple

from diffmm_pyg.errors import MissingExtraError, RunError
from diffmm_pyg.runs.curves import plot_curves
from diffmm_pyg.runs.embeddings import embedding_tensors
from diffmm_pyg.runs.run import Run
from diffmm_pyg.utils.atomic import sync

logger = logging.getLogger(__name__)

FORMAT = 1
FILES = [
    'config.json', 'metrics.json', 'history.csv', 'ids.json',
    'model.safetensors', 'graphs.safetensors', 'embeddings.safetensors'
]
CHECKPOINTS = 'checkpoints'  # The folder of what a training goes on from.
CHECKPOINT = r'\d+\.(json|safetensors)'
PARTIAL = '.partial'  # That of files which are being written.


def check_out(folder: str, overwrite: bool = False,
              resume: bool = False) -> None:
    r"""Checks, before any work is done, that a run can be written.

    Args:
        folder (str): The folder of the run.
        overwrite (bool, optional): Whether a run in it may be replaced.
            (default: :obj:`False`)
        resume (bool, optional): Whether a training in it is to go on.
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
        _check_content(folder, overwrite, resume)
    parent = os.path.dirname(os.path.abspath(folder))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise RunError(f"'{parent}' is no folder that can be written to; name "
                       f"another one for the run")


def _check_content(folder: str, overwrite: bool, resume: bool) -> None:
    names = set(os.listdir(folder)) - {PARTIAL}
    is_run = names.issuperset(FILES)
    has_training = CHECKPOINTS in names and _is_training(
        os.path.join(folder, CHECKPOINTS), names == {CHECKPOINTS})
    if is_run and resume and not has_training:
        raise RunError(f"'{folder}' holds a finished run, and no checkpoint "
                       f"to go on from; name another folder")
    if is_run and not overwrite and not resume:
        raise RunError(f"'{folder}' already holds a run; name another "
                       f"folder, or pass '--overwrite' (overwrite=True) to "
                       f"replace it")
    if has_training and not overwrite and not resume:
        raise RunError(f"'{folder}' holds a training that has not finished; "
                       f"go on with it ('--resume {folder}'), or pass "
                       f"'--overwrite' (overwrite=True) to replace it")
    if not is_run and not has_training and len(names) > 0:
        raise RunError(f"'{folder}' is not empty and holds no run; name "
                       f"another folder, so that nothing is lost")


def _is_training(path: str, is_alone: bool) -> bool:
    r"""Whether a folder of checkpoints is that of a training. One that was
    killed early has left no whole one, with nothing beside it; files of others
    may have come later.
    """
    if not os.path.isdir(path):
        return False
    names = os.listdir(path)
    numbers = _checkpoint_numbers(names)
    if all(is_checkpoint(name) for name in names):
        return is_alone or len(numbers) > 0
    return any('checksum' in _read_values(os.path.join(path, f'{n}.json'))
               for n in numbers)


def is_checkpoint(name: str) -> bool:
    r"""Whether a checkpoint has a file of this name, or a temporary one, ours
    or that of safetensors.
    """
    return re.fullmatch(rf'{CHECKPOINT}|\.{CHECKPOINT}\.\w+\.tmp|\.tmp\w{{6}}',
                        name) is not None


def _checkpoint_numbers(names: List[str]) -> List[int]:
    return [int(name[:-len('.json')]) for name in names
            if re.fullmatch(r'\d+\.json', name)]


def save_run(run: Run, folder: str, overwrite: bool = False) -> None:
    r"""Writes a run to a folder: :obj:`config.json`, :obj:`metrics.json`,
    :obj:`history.csv`, :obj:`ids.json`, the parameters
    :obj:`model.safetensors`, the graphs :obj:`graphs.safetensors`, the
    :obj:`embeddings.safetensors` to rank with, and :obj:`curves.png` where
    :obj:`matplotlib` is installed. They take their places, and those of a run
    before, when all of them are whole.

    Args:
        run (Run): The run.
        folder (str): The folder.
        overwrite (bool, optional): If set to :obj:`True`, a run in it is
            replaced. (default: :obj:`False`)

    Raises:
        RunError: If the folder cannot be written.
    """
    check_out(folder, overwrite)
    write_run(run, folder)


def write_run(run: Run, folder: str) -> None:
    r"""Writes a run to a folder that was checked, and replaces one in it.

    Raises:
        RunError: If the folder cannot be written.
    """
    safetensors = import_safetensors()
    is_new = not os.path.isdir(folder)
    partial = os.path.join(folder, PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(os.path.join(partial, 'new'))
        os.makedirs(os.path.join(partial, 'old'))
        _write_files(run, os.path.join(partial, 'new'))
        _publish(partial, folder)
        run.folder = folder
    except (OSError, safetensors.SafetensorError) as e:
        raise RunError(f"The run could not be written to '{folder}' "
                       f"({reason(e)}); free some space or name another "
                       f"folder") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # It holds the run.
                os.rmdir(folder)


def warn_of_successor(folder: str) -> None:
    r"""Warns if there is a training in the folder of a run that has not
    finished.
    """
    path, names = os.path.join(folder, CHECKPOINTS), []
    with suppress(OSError):  # There is none.
        names = os.listdir(path)
    newest = max(_checkpoint_numbers(names), default=0)
    if newest > 0 and not _read_values(os.path.join(
            path, f'{newest}.json')).get('finished'):
        logger.warning("'%s' also holds a training that has not finished; "
                       "this is the last run that was written there, until "
                       "you go on by 'train --resume %s'", folder, folder)


def _read_values(path: str) -> Dict[str, Any]:
    with suppress(Exception):  # It is damaged, or of others.
        if os.path.isfile(path):  # Not a pipe, which may be waited for.
            with open(path, encoding='utf-8') as f:
                return dict(json.load(f))
    return {}


def reason(error: BaseException) -> str:
    r"""Returns why a file could not be written, in one line."""
    return getattr(error, 'strerror', None) or str(error).split('\n')[0]


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


def _write_files(run: Run, folder: str) -> None:
    safetensors = import_safetensors()
    for name, content in [
        ('config.json', {'format': FORMAT, **run.config}),
        ('metrics.json', run.metrics),
        ('ids.json', run.ids),
    ]:
        with open(os.path.join(folder, name), 'w') as f:
            json.dump(content, f, indent=None if name == 'ids.json' else 2)
    _write_history(run.history, os.path.join(folder, 'history.csv'))
    for name, tensors in [
        ('model', run.state),
        ('graphs', run.graphs),
        ('embeddings', embedding_tensors(run.user_emb, run.item_emb)),
    ]:
        path = os.path.join(folder, f'{name}.safetensors')
        safetensors.torch.save_file(tensors, path)
        # It writes files that only their owner can read.
        shutil.copymode(os.path.join(folder, 'config.json'), path)
    try:
        plot_curves(run.history, run.metrics['best_epoch'],
                    os.path.join(folder, 'curves.png'))
    except MissingExtraError as e:
        logger.warning('curves.png was not drawn: %s', e)
    for name in os.listdir(folder):
        sync(os.path.join(folder, name))


def _write_history(history: List[Dict[str, float]], path: str) -> None:
    names = dict.fromkeys(name for row in history for name in row)
    with open(path, 'w', newline='') as f:
        # What only later epochs count, those before had none of.
        writer = csv.DictWriter(f, list(names), restval=0)
        writer.writeheader()
        writer.writerows(history)


def _publish(partial: str, folder: str) -> None:
    r"""Moves new files to their places and old ones out of the way, or, if
    that fails, back. A folder is a run while it holds :obj:`config.json`,
    which therefore is the first to go and the last to come.
    """
    old, new = os.path.join(partial, 'old'), os.path.join(partial, 'new')
    moves = [(folder, old, name) for name in [*FILES, 'curves.png']
             if os.path.exists(os.path.join(folder, name))]
    moves += [(new, folder, name)
              for name in sorted(os.listdir(new), key='config.json'.__eq__)]
    done: List[Tuple[str, str, str]] = []
    try:
        for src, dst, name in moves:
            os.rename(os.path.join(src, name), os.path.join(dst, name))
            done.append((dst, src, name))
        sync(folder)
    except BaseException:
        for src, dst, name in reversed(done):
            os.rename(os.path.join(src, name), os.path.join(dst, name))
        raise
