r"""How the files of `MultiModalRec` get into its root."""
import os
import os.path as osp
import shutil
import zipfile

import numpy as np
import pytest

from diffmm_pyg.data import modalities
from diffmm_pyg.datasets import MultiModalRec, download, multimodal_rec
from diffmm_pyg.datasets.published import PUBLISHED, URL
from diffmm_pyg.errors import ConfigError, DataError

pytestmark = [
    pytest.mark.filterwarnings('ignore:.*differs from the published file'),
    pytest.mark.filterwarnings('ignore:.*have no training edge'),
]


def load(tmp_path, source, name='tiktok'):
    return MultiModalRec(str(tmp_path / 'root'), name, str(source))


def test_local_zip_is_unpacked_into_the_root(tmp_path, source):
    folder = source / 'baby'
    shutil.move(source / 'tiktok', folder)
    with zipfile.ZipFile(folder / 'image_feat.npy.zip', 'w') as archive:
        archive.write(folder / 'image_feat.npy', 'image_feat.npy')
    (folder / 'image_feat.npy').unlink()
    before = sorted(folder.iterdir())
    dataset = load(tmp_path, source, 'baby')
    assert dataset[0]['item'].x_image[2].tolist() == [8, 9, 10, 11]
    assert sorted(folder.iterdir()) == before
    # Another archive is not taken for this one:
    np.save(tmp_path / 'image_feat.npy', np.full((3, 2), 5.))
    with zipfile.ZipFile(folder / 'image_feat.npy.zip', 'w') as archive:
        archive.write(tmp_path / 'image_feat.npy', 'image_feat.npy')
    assert load(tmp_path, source, 'baby')[0]['item'].x_image.min() == 5


def test_download(tmp_path, source, monkeypatch):
    r"""Without a source, files come from the repository, once."""
    fetched = []

    def download_file(url, path, blob_id):
        assert url.startswith(f'{URL}/baby/')
        assert blob_id == PUBLISHED['baby'].blob_ids[osp.basename(url)]
        fetched.append(osp.basename(url))
        os.makedirs(osp.dirname(path), exist_ok=True)
        if url.endswith('.zip'):
            with zipfile.ZipFile(path, 'w') as archive:
                archive.write(source / 'tiktok' / 'image_feat.npy',
                              'image_feat.npy')
        else:
            shutil.copy(source / 'tiktok' / osp.basename(url), path)

    monkeypatch.setattr(multimodal_rec, 'download_file', download_file)
    for _ in range(2):
        dataset = MultiModalRec(str(tmp_path / 'root'), 'baby')
        assert modalities(dataset[0]) == ['image', 'text']
        assert fetched == [
            'trnMat.pkl', 'valMat.pkl', 'tstMat.pkl', 'image_feat.npy.zip',
            'text_feat.npy'
        ]
    assert sorted(os.listdir(tmp_path / 'root' / 'baby' / 'raw')) == [
        'image_feat.npy', 'text_feat.npy', 'trnMat.pkl', 'tstMat.pkl',
        'valMat.pkl'
    ]


def test_source_that_is_an_address(tmp_path, monkeypatch):
    def download_file(url, path, blob_id):
        raise DataError(url)

    monkeypatch.setattr(multimodal_rec, 'download_file', download_file)
    with pytest.raises(DataError, match='^https://a.b/c/sports/trnMat.pkl$'):
        load(tmp_path, 'https://a.b/c/', 'sports')
    monkeypatch.undo()
    with pytest.raises(ConfigError, match='https://'):
        load(tmp_path, 'http://a.b/c')


@pytest.mark.parametrize('there', [False, True])
def test_failed_download_leaves_no_folder(tmp_path, monkeypatch, there):
    def open_url(request, timeout):
        raise OSError('unreachable')

    monkeypatch.setattr(download, 'open_url', open_url)
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    root = tmp_path / 'new' / 'root'
    if there:  # What was there before stays, empty or not.
        root.mkdir(parents=True)
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(DataError, match='cannot be downloaded .unreachable'):
        MultiModalRec(str(root), 'tiktok')
    assert sorted(tmp_path.rglob('*')) == before


def test_damaged_zip_leaves_no_folder(tmp_path, source):
    folder = source / 'baby'
    shutil.move(source / 'tiktok', folder)
    (folder / 'image_feat.npy').unlink()
    (folder / 'image_feat.npy.zip').write_bytes(b'damaged')
    with pytest.raises(DataError, match='cannot be unpacked'):
        load(tmp_path, source, 'baby')
    assert not (tmp_path / 'root').exists()


def test_sports_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match='trnMat.pkl, valMat.pkl, tstMat.pkl, '
                       'image_feat.npy, text_feat.npy .*--source'):
        MultiModalRec(str(tmp_path), 'sports')
    assert os.listdir(tmp_path) == []


def test_sports_in_the_root(tmp_path, source):
    raw = tmp_path / 'root' / 'sports' / 'raw'
    shutil.copytree(source / 'tiktok', raw)
    dataset = MultiModalRec(str(tmp_path / 'root'), 'sports')
    assert modalities(dataset[0]) == ['image', 'text']
