r"""Small files that claim much."""
import pickle
import zipfile

import pytest
import torch

from diffmm_pyg.datasets._splits import SplitDataset
from diffmm_pyg.datasets.safe_load import check_opcodes, load_values
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS


def twice_in_the_next(times, kind=tuple):
    out = kind('x')
    for _ in range(times):
        out = kind([out, out])
    return out


def save(path, pre_transform='None', splits=({}, {}, {}), version=1):
    torch.save({'format': version, 'pre_transform': pre_transform,
                'splits': list(splits)}, path)
    return str(path)


class Splits(SplitDataset):
    def __init__(self):  # There are no files to process.
        pass


def test_splits_that_are_small(tmp_path):
    shared = [7] * 1000  # By the splits
    path = save(tmp_path / 'x.pt', splits=[
        {'user': {'num_nodes': 3, 'ages': shared}, INTERACTS: {
            'edge_index': torch.tensor([[0, i], [1, 1]])}} for i in range(3)])
    dataset = Splits()
    assert dataset.load(path) == 'None'
    assert dataset.get(2)[INTERACTS].edge_index.tolist() == [[0, 2], [1, 1]]
    assert dataset.get(1)['user'].ages == shared


@pytest.mark.parametrize('content', [
    {'pre_transform': twice_in_the_next(12)},
    {'pre_transform': twice_in_the_next(16, list)},
    {'pre_transform': ['None']},
    {'pre_transform': 3},
    {'version': twice_in_the_next(12)},
    {'version': torch.tensor([1, 1])},
    {'splits': [{}]},
    {'splits': [{}] * 1000},
    {'splits': [{'user': {'x': twice_in_the_next(16, list)}}, {}, {}]},
    {'splits': [{'user': {'x': twice_in_the_next(12)}}, {}, {}]},
    {'splits': [{INTERACTS: {'edge_index': torch.zeros(1).long().as_strided(
        (2, 10**11), (0, 0))}}, {}, {}]},
    {'splits': [{}, {'user': {'x': [torch.zeros(1).expand(10**11)]}}, {}]},
])
def test_splits_that_claim_much(tmp_path, content):
    path = save(tmp_path / 'x.pt', **content)
    with pytest.raises(DataError, match="x.pt' is damaged or was not written"):
        Splits().load(path)


def test_splits_that_cannot_be_read_back_are_not_saved(tmp_path):
    class Data:
        def to_dict(self):
            return {'user': {'x': torch.zeros(1).expand(10**6)}}

    with pytest.raises(DataError, match="give it as 'transform' instead"):
        Splits.save([Data()] * 3, str(tmp_path / 'x.pt'))
    assert list(tmp_path.iterdir()) == []


def replace_pickle(path, content):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, part in parts.items():
            archive.writestr(name, content if name.endswith('.pkl') else part)


@pytest.mark.parametrize('content', [
    b'\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x40\x85R.',
    b'\x80\x02ctorch\nTensor\nJ\0\0\0\x40\x85R.',
    b'\x80\x02ctorch.storage\nUntypedStorage\nJ\0\0\0\x40\x85R.',
])
def test_memory_that_is_asked_for(tmp_path, content):
    path = save(tmp_path / 'x.pt')
    replace_pickle(path, content)
    with pytest.raises(ValueError, match='it names'):
        load_values(path)


def nested_key(times, start=b'X\1\0\0\0x'):
    r"""A dictionary whose key is a tuple of tuples, each twice in the next."""
    out = b'\x80\x02}' + start
    for i in range(times):
        out += b'q%ch%c\x86' % (i, i)
    return out + b'K\1s.'


def test_key_that_would_be_hashed_for_ever():
    for start in [b'X\1\0\0\0x', b')', b'K\1\x85', b'(K\1K\2K\3K\4t']:
        assert len(pickle.loads(nested_key(4, start))) == 1
        with pytest.raises(ValueError, match='in several places'):
            check_opcodes(nested_key(60, start))


@pytest.mark.parametrize('content', [
    b'\x80\x02}(' + b'(NNNNtq\1N' + b'h\1N' * 9 + b'u.',  # Long and often.
    b'\x80\x02](N\x85\x80\2q\0h\0h\0\x86\x80\2q\1h\1e.',  # Put later.
    b'\x80\x02ctorch\nSize\n(K\1K\2K\3K\4t\x85Rq\1.',
], ids=['long', 'proto', 'size'])
def test_keys_that_would_be_hashed_often(content):
    pickle.loads(content)
    with pytest.raises(ValueError, match="in several places|'torch Size'"):
        check_opcodes(content)


def test_keys_that_are_shared():
    key = ('user', 'rates', 'item')
    check_opcodes(pickle.dumps([{key: 1}, {key: 2}, {key: key}], 2))
