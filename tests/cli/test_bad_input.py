r"""Whatever is wrong with what the user gives: one line that says what and
where, an exit code, and nothing left behind.
"""
import os
import pickle
import re

import numpy as np
import pytest
import scipy.sparse as sp
from small import files

from diffmm_pyg.errors import DiffMMError


def assert_refused(result, message, code=1):
    assert result.code == code
    assert result.out == ''
    lines = [line for line in result.err.splitlines()
             if not line.startswith('warning: ')]
    assert len(lines) == 1, result.err
    assert re.match(f'error: .*{message}', lines[0]), lines[0]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def corrupt(path):
    path.write_bytes(b'\x00\xff' + path.read_bytes()[2:])


def overwrite_features(*size, row=None, value=0.):
    def fn(path):
        x = np.ones(size)
        if row is not None:
            x[row, 1] = value
        np.save(path, x)

    return fn


def overwrite_table(header, *lines):
    return lambda path: path.write_text('\n'.join([header, *lines]))


def unlink(path):
    path.unlink()


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize('name, change, args, message', [
    ('features_text.npy', unlink, ['--modalities', 'image', 'text'],
     r"'features_text.npy' is missing in '.*shop'.*--modalities image\)"),
    ('features_text.npy', truncate, [], "features_text.npy' is truncated"),
    ('features_text.npy', corrupt, [],
     "features_text.npy' is truncated or no .npy file"),
    ('features_text.npy', overwrite_features(9, 4), [],
     "features_text.npy' has 9 rows, but .*items.csv' has 10 items"),
    ('features_text.npy', overwrite_features(10, 4, row=6, value=NAN), [],
     "features_text.npy', row 6: NaN or infinite"),
    ('features_text.npy', overwrite_features(10, 4, row=3, value=-INF), [],
     "features_text.npy', row 3: NaN or infinite"),
    ('interactions.csv', unlink, [], "holds no 'interactions.csv'"),
    ('interactions.csv', overwrite_table('user,item', 'a,i_1', 'a,i_2'), [],
     "interactions.csv', line 2, column 'item': no item has a feature row"),
    ('interactions.csv', overwrite_table('user,item', 'a,i-1', 'a'), [],
     "interactions.csv', line 3: 1 values, but the header has 2"),
    ('interactions.csv', overwrite_table('who,what', 'a,i-1'), [],
     "interactions.csv', line 1: .*lacks the columns user, item"),
    ('interactions.csv',
     overwrite_table('user,item,split', 'a,i-1,train', 'a,i-2,dev'), [],
     "interactions.csv', line 3, column 'split': 'dev' is no split"),
    ('interactions.csv',
     overwrite_table('user,item,split', 'a,i-1,test', 'b,i-2,val'), [],
     'The training split has no interaction; put at least one'),
    ('interactions.csv', overwrite_table('user,item'), [],
     "interactions.csv' holds no interaction"),
    ('items.csv', overwrite_table('item', *['i-1'] * 10), [],
     "items.csv', line 3, column 'item': .* listed a second time"),
])
def test_own_folder(cli, folder, tmp_path, name, change, args, message):
    change(folder / name)
    before = files(tmp_path)
    result = cli('train', '--data', folder, '--out', 'run', *args)
    assert_refused(result, message)
    assert files(tmp_path) == before


@pytest.mark.parametrize('item', ['10', '-1'])
def test_row_numbers_out_of_range(cli, folder, item):
    (folder / 'items.csv').unlink()
    overwrite_table('user,item', '5,0', f'5,{item}')(folder /
                                                    'interactions.csv')
    assert_refused(cli('train', '--data', folder),
                   rf"line 3, column 'item': the item '{item}' is unknown;.*"
                   rf"0\.\.9")


class Attack:
    def __reduce__(self):
        return os.mkdir, ('was-run', )


def overwrite_pickle(value):
    return lambda path: path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize('name, change, message', [
    ('text_feat.npy', unlink, r"'text_feat.npy' is missing in '.*tiktok'; put "
     r"it there, .*--modalities image audio\)"),
    ('valMat.pkl', unlink, r"'valMat.pkl' is missing in '.*tiktok'"),
    ('audio_feat.npy', truncate, "audio_feat.npy' is truncated"),
    ('trnMat.pkl', truncate, "trnMat.pkl' is not read"),
    ('trnMat.pkl', corrupt, "trnMat.pkl' is not read"),
    ('tstMat.pkl', overwrite_pickle(Attack()),
     "tstMat.pkl' is not read: it wants to run '.*mkdir', which is refused"),
    ('trnMat.pkl', overwrite_pickle(sp.coo_matrix((30, 12))),
     'The training split has no interaction'),
    ('trnMat.pkl', overwrite_pickle(sp.coo_matrix(np.eye(30, 11))),
     "valMat.pkl' has shape .30, 12., but 'trnMat.pkl' has .30, 11."),
    ('image_feat.npy', overwrite_features(13, 4),
     "image_feat.npy' has 13 rows, but there are 12 items"),
    ('image_feat.npy', overwrite_features(12, 4, row=11, value=INF),
     "image_feat.npy', row 11: NaN or infinite"),
])
def test_published_data(cli, source, tmp_path, name, change, message):
    change(source / 'tiktok' / name)
    before = files(tmp_path)
    result = cli('train', '--data', 'tiktok', '--source', source, '--root',
                 'root', '--out', 'run')
    assert_refused(result, message)
    assert files(tmp_path) == before
    assert not os.path.exists('was-run')


def test_users_without_training_are_reported(cli, folder):
    overwrite_table('user,item,split', 'a,i-1,train', 'b,i-2,train',
                    'c,i-2,test', 'd,i-1,test', 'a,i-3,test')(
                        folder / 'interactions.csv')
    result = cli('train', '--data', folder, '--out', 'run')
    assert result.code == 0
    assert ("warning: 2 of the 3 users of 'test' have no training edge; they "
            "are kept") in result.err


@pytest.mark.parametrize('args, message', [
    (['--data', 'nowhere'], "There is no dataset and no folder 'nowhere'; "
     "name one of fake, tiktok, baby, sports, or a folder"),
    (['--data', 'tiktok', '--source', 'nowhere'],
     "The folder 'nowhere' does not exist"),
    (['--data', 'tiktok', '--source', '.'],
     "neither a folder 'tiktok' nor a file 'trnMat.pkl'"),
    (['--data', 'tiktok', '--source', '.', '--modalities', 'video'],
     "'tiktok' has no modality 'video'; choose among image, text, audio"),
    (['--modalities', 'video'], "'fake' has no modality 'video'; choose "
     "among image, text, audio"),
    (['--top-k', '99999'], r"'top_k' .*number of items, \d+ \(got 99999\)"),
    (['--k', '99999'], r"'k' must lie in 1..\d+, the number of items"),
    (['--k', '0'], r"'k' must lie in 1..\d+, the number of items"),
    (['--epochs', '0'], r"'epochs' must lie in 1..2147483647 \(got 0\)"),
    (['--lr', '1e30'], r"The loss of batch \d of phase '.*' is not "
     "finite in epoch 1; lower 'lr' .* and train again$"),
    (['--temperature', '0'], "'temperature' must lie in"),
    (['--diffusion-dropout', '1'], r"'dropout' must lie in \[0, 1\)"),
    (['--diffusion-num-steps', '0'], "'num_steps' must be at least 1"),
    (['--diffusion-time-channels', '3'], "'time_channels' must be .* even"),
    (['--diffusion-noise-max', '-1'], 'The noise variances must satisfy'),
    (['--diffusion-likelihood', 'gaussian', '--diffusion-sampler', 'softmax'],
     "'sampler' must be one of"),
])
def test_unusable_values(cli, tmp_path, args, message):
    assert_refused(cli('train', '--out', 'run', *args), message)
    assert files(tmp_path) == {}


@pytest.mark.parametrize('args, message', [
    (['train', '--epochs', 'many'], "'--epochs': invalid int value: 'many'"),
    (['train', '--lr'], "'--lr': expected one argument"),
    (['train', '--preset', 'best'], "'--preset': invalid choice: 'best'"),
    (['train', '--anchor', 'x'], "'--anchor': invalid choice: 'x' .*main"),
    (['train', '--diffusion-likelihood', 'poisson'],
     "'--diffusion-likelihood': invalid choice: 'poisson'"),
    (['train', '--protocol', 'test'], "'--protocol': invalid choice: 'test'"),
    (['train', '--learning-rate', '1'],
     'unrecognized arguments: --learning-rate 1'),
    (['train', '--progress'], 'unrecognized arguments: --progress'),
    (['train', '--epoch', '2'], r"--epoch 2 \(is it '--epochs'\?\); "
     "'diffmm-pyg train --help' lists all options"),
    (['evaluate'], 'the following arguments are required: RUN'),
    (['recommend', 'run', '--k', 'x'], "'--k': invalid int value: 'x'"),
    (['learn'], "invalid choice: 'learn'"),
    ([], 'the following arguments are required: COMMAND'),
])
def test_unknown_options(cli, tmp_path, args, message):
    result = cli(*args)
    assert_refused(result, message, code=2)
    assert "--help' lists all options" in result.err
    assert files(tmp_path) == {}


def test_out_that_is_taken(cli, folder, tmp_path):
    train = ['train', '--data', folder, '--out', 'run']
    assert cli(*train).code == 0
    before = files(tmp_path)
    assert_refused(cli(*train), "'run' already holds a run; name another "
                   "folder, or pass '--overwrite'")
    # A run that fails does not harm the one it was to replace:
    result = cli(*train, '--overwrite', '--lr', '1e30', '--epochs', 3)
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith('error: The ')
    assert_refused(cli('train', '--data', folder, '--out', folder),
                   "shop' is not empty and holds no run", 1)
    assert_refused(cli('train', '--data', folder, '--out', 'run/ids.json'),
                   "'run/ids.json' is a file")
    kept, after = [{k: v for k, v in x.items() if 'checkpoints' not in k}
                   for x in (before, files(tmp_path))]
    assert after == kept
    assert cli(*train, '--overwrite', '--seed', 1).code == 0
    assert files(tmp_path) != before


def test_debug(cli):
    args = ['evaluate', 'nowhere']
    assert 'Traceback' not in cli(*args).err
    result = cli(*args, '--debug')
    assert result.code == 1
    assert result.err.startswith('Traceback (most recent call last):')
    assert 'RunError' in result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("error: 'nowhere' is not a run")


@pytest.mark.parametrize('error, line', [
    (MemoryError(), 'error: MemoryError'),
    (OSError(28, 'No space left on device'),
     'error: [Errno 28] No space left on device'),
    (RuntimeError('CUDA out of memory\nand more'),
     'error: CUDA out of memory'),
    (DiffMMError('bad'), 'error: bad'),
])
def test_errors_of_others(cli, monkeypatch, error, line):
    def fail(*args):
        raise error

    monkeypatch.setattr('diffmm_pyg.cli.train.load_data', fail)
    result = cli('train', '--out', 'run')
    assert result.code == 1 and result.err == f'{line}\n'
