import os
import pickle
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import torch_geometric.transforms as T
from diffmm_pyg.data import check_data, modalities
from diffmm_pyg.datasets import MultiModalRec
from diffmm_pyg.datasets.published import find_files
from diffmm_pyg.errors import ConfigError, DataError
from diffmm_pyg.typing import INTERACTS, REV_INTERACTS

pytestmark = [
    pytest.mark.filterwarnings('ignore:.*differs from the published file'),
    pytest.mark.filterwarnings('ignore:.*have no training edge'),
]


def load(tmp_path, source, name='tiktok', **kwargs):
    return MultiModalRec(str(tmp_path / 'root'), name, str(source), **kwargs)


def processed(tmp_path, name='tiktok'):
    return sorted((tmp_path / 'root' / name / 'processed').iterdir())


def test_multi_modal_rec(tmp_path, source):
    dataset = load(tmp_path, source)
    assert len(dataset) == 3
    assert str(dataset) == 'MultiModalRec(tiktok, 3)'
    train, val, test = dataset
    for data in dataset:
        check_data(data)
        assert data.node_types == ['user', 'item']
        assert data['user'].num_nodes == 4 and data['item'].num_nodes == 3
        assert modalities(data) == ['image', 'text', 'audio']
        assert data['item'].x_text.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert data['item'].x_text.dtype == torch.float
        edge_index = data[INTERACTS].edge_index
        assert edge_index.tolist() == [[0, 0, 1, 2], [0, 1, 1, 2]]
    assert train[INTERACTS].edge_label_index.equal(edge_index)
    assert val[INTERACTS].edge_label_index.tolist() == [[0, 1], [2, 0]]
    assert test[INTERACTS].edge_label_index.tolist() == [[2, 3], [0, 1]]


def test_source_is_the_folder_or_holds_it(tmp_path, source):
    folder = source / 'tiktok'
    assert find_files(str(source), 'tiktok') == str(folder)
    assert find_files(str(folder), 'tiktok') == str(folder)
    assert len(load(tmp_path, folder)) == 3
    with pytest.raises(DataError, match="'.*nowhere' does not exist"):
        load(tmp_path, tmp_path / 'nowhere')
    with pytest.raises(DataError, match="neither a folder 'baby' nor a file"):
        load(tmp_path, source, 'baby')


def test_nothing_is_written_to_the_source(tmp_path, source):
    before = [(p, p.stat().st_mtime_ns) for p in sorted(source.rglob('*'))]
    load(tmp_path, source)
    assert before == [(p, p.stat().st_mtime_ns)
                      for p in sorted(source.rglob('*'))]
    assert os.listdir(tmp_path / 'root' / 'tiktok') == ['processed']


def test_modalities(tmp_path, source):
    for names in [['audio', 'image'], ['text']]:
        dataset = load(tmp_path, source, modalities=names)
        assert modalities(dataset[0]) == names
    assert len(processed(tmp_path)) == 2
    with pytest.raises(ConfigError, match="no modality 'video'; choose among "
                       "image, text, audio"):
        load(tmp_path, source, modalities=['video'])
    with pytest.raises(ConfigError, match='tiktok, baby, sports'):
        load(tmp_path, source, 'tik')


def test_missing_modality_is_named_with_what_works(tmp_path, source):
    (source / 'tiktok' / 'text_feat.npy').unlink()
    with pytest.raises(DataError, match=r"'text_feat.npy' is missing .*"
                       r"modalities=\['image', 'audio'\] \(--modalities "
                       r"image audio\)"):
        load(tmp_path, source)
    assert not (tmp_path / 'root').exists()
    assert len(load(tmp_path, source, modalities=['image', 'audio'])) == 3


def test_missing_matrix_is_named(tmp_path, source):
    (source / 'tiktok' / 'valMat.pkl').unlink()
    with pytest.raises(DataError, match="'valMat.pkl' is missing in '[^']*'; "
                       "put it there$"):
        load(tmp_path, source)


def test_other_source_is_not_confused(tmp_path, source):
    load(tmp_path, source)
    other = tmp_path / 'other'
    shutil.copytree(source, other)
    np.save(other / 'tiktok' / 'text_feat.npy', np.full((3, 2), 7.))
    assert load(tmp_path, other)[0]['item'].x_text.min() == 7
    assert load(tmp_path, source)[0]['item'].x_text.min() == 0
    np.save(source / 'tiktok' / 'text_feat.npy', np.full((3, 2), 8.))
    assert load(tmp_path, source)[0]['item'].x_text.min() == 8


def test_processed_file_is_used(tmp_path, source, monkeypatch):
    load(tmp_path, source)
    with monkeypatch.context() as patch:
        patch.setattr(MultiModalRec, 'process', None)
        assert load(tmp_path, source)[2]['user'].num_nodes == 4
    calls = []
    process = MultiModalRec.process
    monkeypatch.setattr(MultiModalRec, 'process',
                        lambda self: calls.append(process(self)))
    load(tmp_path, source, force_reload=True)
    assert len(calls) == 1


def test_splits_share_features_after_loading(tmp_path, source):
    train, _, test = load(tmp_path, source)
    assert train['item'].x_image.data_ptr() == test['item'].x_image.data_ptr()


@pytest.mark.parametrize('kind', ['pickle', 'torch', 'truncated', 'flipped',
                                  'empty', 'foreign', 'packed'])
def test_processed_file_is_never_trusted(tmp_path, source, attack, kind):
    load(tmp_path, source)
    path, = processed(tmp_path)
    content = path.read_bytes()
    if kind == 'pickle':
        path.write_bytes(pickle.dumps(attack))
    elif kind == 'torch':
        torch.save({'format': 1, 'pre_transform': 'None', 'splits': attack},
                   path)
    elif kind == 'truncated':
        path.write_bytes(content[:len(content) // 2])
    elif kind == 'flipped':
        value = torch.tensor([[0., 1.], [2., 3.]]).numpy().tobytes()
        assert content.count(value) > 0
        path.write_bytes(content.replace(value, bytes(16)))
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'packed':  # May unpack to any size.
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, part in parts.items():
                archive.writestr(name, part + bytes(10**6))
    else:
        torch.save({'format': 1, 'splits': [{'user': 3}]}, path)
    with pytest.warns(UserWarning, match='is damaged or was not .*anew'):
        dataset = load(tmp_path, source)
    assert dataset[0]['item'].x_text.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert path.read_bytes() == content


@pytest.mark.parametrize('name', ['pre_transform.pt', 'pre_filter.pt'])
def test_planted_pre_transform_is_not_run(tmp_path, source, attack, name):
    load(tmp_path, source)
    path = tmp_path / 'root' / 'tiktok' / 'processed' / name
    path.write_bytes(pickle.dumps(attack))
    load(tmp_path, source)
    torch.save(attack, path)
    load(tmp_path, source)


def test_poisoned_source_is_refused(tmp_path, source, attack):
    (source / 'tiktok' / 'trnMat.pkl').write_bytes(pickle.dumps(attack))
    with pytest.raises(DataError, match=r'trnMat.pkl.*which is refused'):
        load(tmp_path, source)
    assert not (tmp_path / 'root').exists()


def test_interrupted_processing_leaves_nothing(tmp_path, source, monkeypatch):
    def interrupt(content, f):
        f.write(b'half')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(tmp_path, source)
    assert not (tmp_path / 'root').exists()
    assert len(load(tmp_path, source)) == 3


def test_transform_and_pre_transform(tmp_path, source):
    dataset = load(tmp_path, source, pre_transform=T.ToUndirected())
    assert dataset[1][REV_INTERACTS].edge_index.tolist() == [[0, 1, 1, 2],
                                                             [0, 0, 1, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        load(tmp_path, source, pre_transform=T.ToUndirected())
    with pytest.warns(UserWarning, match=r'built with pre_transform=ToUndir.*'
                      r'force_reload=True'):
        load(tmp_path, source)
    dataset = load(tmp_path, source, force_reload=True,
                   transform=T.ToUndirected())
    assert REV_INTERACTS in dataset[0].edge_types
    assert REV_INTERACTS not in dataset.get(0).edge_types


def test_pre_transform_that_cannot_be_saved(tmp_path, source):
    def plant(data):
        data.array = np.array(['a'], dtype=object)
        return data

    with pytest.raises(DataError, match=r"\(it names 'numpy.*\); give it as "
                       "'transform' instead"):
        load(tmp_path, source, pre_transform=plant)
    assert not (tmp_path / 'root').exists()


def test_shapes_must_agree(tmp_path, source):
    folder = source / 'tiktok'
    np.save(folder / 'audio_feat.npy', np.ones((4, 2)))
    with pytest.raises(DataError, match="audio_feat.npy' has 4 rows, but "
                       "there are 3 items"):
        load(tmp_path, source)
    (folder / 'tstMat.pkl').write_bytes(pickle.dumps(sp.coo_matrix((5, 3))))
    with pytest.raises(DataError, match=r"tstMat.pkl' has shape \[5, 3\]"):
        load(tmp_path, source)


def test_unpublished_files_are_reported(tmp_path, source):
    with pytest.warns(UserWarning) as record:
        load(tmp_path, source)
    messages = [str(warning.message) for warning in record]
    assert sum('differs from the published' in m for m in messages) == 6
