r"""The readers of files that may come from a stranger: whole files to damage,
and the calls that read them.
"""
import io
import json
import pickle
import shutil
import tempfile
import warnings
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import numpy as np
import scipy.sparse as sp

import diffmm_pyg
from diffmm_pyg.datasets import (
    FakeMultiModalRec,
    MultiModalRec,
    hetero_data_from_folder,
)
from diffmm_pyg.datasets.download import unzip_file
from diffmm_pyg.datasets.item_features import read_item_ids
from diffmm_pyg.datasets.raw import read_features, read_matrix
from diffmm_pyg.errors import DiffMMError
from diffmm_pyg.nn.models import EASE
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints, checkpoint
from torch_geometric import seed_everything

# The files of a folder, by name:
Files = Dict[str, bytes]
Call = Callable[[], Any]


class Parser(NamedTuple):
    r"""What reads one kind of files.

    Args:
        seeds (List[Files]): Folders that are read without an error.
        damaged (List[str]): The endings of the files to damage.
        calls (Callable): Returns the calls that read a folder; each may
            refuse it.
        mend (Callable, optional): What makes a damaged folder look whole.
            (default: :obj:`None`)
    """
    seeds: List[Files]
    damaged: List[str]
    calls: Callable[[Path], List[Call]]
    mend: Callable[[Files], Files] = dict


def npy_bytes(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def matrices() -> Iterator[bytes]:
    dense = np.random.default_rng(0).integers(0, 2, (5, 4)).astype(np.float32)
    for protocol in [2, 3, 4, 5]:
        for kind in ['coo_matrix', 'csr_matrix', 'csc_array']:
            yield pickle.dumps(getattr(sp, kind)(dense), protocol)


def pkl() -> Parser:
    return Parser([{'x.pkl': content} for content in matrices()], ['pkl'],
                  lambda folder: [lambda: read_matrix(str(folder / 'x.pkl'))])


def npy() -> Parser:
    arrays = [np.arange(24, dtype=np.float32).reshape(4, 6),
              np.ones((3, 2), '>f8'), np.full((2, 2), np.nan, np.float16),
              np.array([[1, 2], [3, 4]], order='F'), np.array([5, 7, 9]),
              np.array(['a', 'Zoë', '\U0010ffff'])]

    def calls(folder: Path) -> List[Call]:
        path = str(folder / 'x.npy')
        return [lambda: read_features(path), lambda: read_item_ids(path)]

    return Parser([{'x.npy': npy_bytes(array)} for array in arrays], ['npy'],
                  calls)


def npz() -> Parser:
    r"""Archives, of which those of features hold one file."""
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    seeds = []
    for method in [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]:
        out = io.BytesIO()
        with zipfile.ZipFile(out, 'w', method) as archive:
            archive.writestr('x.npy', npy_bytes(x))
            archive.writestr('other/y.npy', b'')
        seeds.append({'x.npz': out.getvalue()})

    def read(folder: Path) -> None:
        unzip_file(str(folder / 'x.npz'), str(folder / 'out' / 'x.npy'), 10**6)
        read_features(str(folder / 'out' / 'x.npy'))

    return Parser(seeds, ['npz'], lambda folder: [
        lambda: read(folder),
        lambda: read_features(str(folder / 'x.npz'))])


def own_data(tables: List[Files], damaged: List[str]) -> Parser:
    r"""A folder of one's own data, of which the tables are damaged."""
    features = {'features_image.npy': npy_bytes(np.ones((3, 2)))}
    return Parser([{**features, **table} for table in tables], damaged,
                  lambda folder: [lambda: hetero_data_from_folder(folder)])


def csv() -> Parser:
    items = {'items.csv': b'item,title\nx,X\ny,"Y, or so"\nz,Z\n'}
    tables = [
        b'user,item\na,x\nb,y\na,y\n',
        b'\xef\xbb\xbfuser;item;timestamp\r\n1;x;5\r\n2;y;7\r\n1;"y";9\r\n',
        b'user,item,split\na,x,train\nb,y,test\na,y,val\n',
        b'user,item,timestamp\na,x,2024-01-31\nb,y,2024-01-31T12:00:00\n',
    ]
    return own_data([{**items, 'interactions.csv': table}
                     for table in tables], ['csv'])


def inter() -> Parser:
    return own_data([{'log.inter': table} for table in [
        b'user_id:token\titem_id:token\trating:float\ttimestamp:float\n'
        b'0\t1\t5.0\t1.5e9\n1\t0\t1.0\t1.6e9\n',
        b'userID\titemID\trating\tx_label\n0\t0\t5.0\t0\n1\t2\t1.0\t2\n',
    ]], ['inter'])


def parquet() -> Parser:
    import pyarrow as pa
    import pyarrow.parquet as pq
    tables = [
        {'user': [1, 2, 1], 'item': ['x', 'y', 'y'], 'timestamp': [1., 2., 3]},
        {'user': [f'user {i // 3}' for i in range(200)],
         'item': ['x', 'y', 'z'] * 66 + ['x', 'y']},
        {'user': ['a', 'b'], 'item': ['x', 'y'], 'timestamp': pa.array(
            [1, 2], pa.timestamp('ms', 'UTC'))},
        {'user': pa.array([1, 2], pa.int32()), 'item': ['x', 'y'],
         'split': ['train', 'test'], 'other': [[1], [2, 3]]},
    ]
    contents = []
    for i, codec in enumerate(['none', 'snappy', 'gzip', 'zstd', 'lz4']):
        for table in tables:
            out = io.BytesIO()
            pq.write_table(pa.table(table), out, compression=codec,
                           use_dictionary=i % 2 == 0,
                           data_page_version=['1.0', '2.0'][i % 3 > 0])
            contents.append(out.getvalue())
    items = {'items.csv': b'item\nx\ny\nz\n'}
    return own_data([{**items, 'interactions.parquet': content}
                     for content in contents], ['parquet'])


def read_folder(folder: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


@lru_cache(maxsize=None)
def trained(with_checkpoints: bool = False) -> List[Files]:
    r"""What trainings leave: of DiffMM, and of a model whose embeddings are
    the rows of the users.
    """
    data = FakeMultiModalRec(12, 8, num_blocks=2,
                             feature_channels={'image': 3})
    seed_everything(0)
    diffmm = diffmm_pyg.build_model(
        data[0], model={'hidden_channels': 4},
        diffusion={'hidden_channels': 4, 'time_channels': 2})
    out = []
    for model in [diffmm, EASE(12, 8)]:
        with tempfile.TemporaryDirectory() as folder:
            diffmm_pyg.fit(model, data, epochs=1, top_k=3, device='cpu',
                           out=f'{folder}/run', progress=False)
            files = read_folder(Path(folder, 'run'))
        out.append({name: content for name, content in files.items()
                    if name.startswith('checkpoints') == with_checkpoints
                    and not name.endswith('.png')})
    return out


def read_run(folder: Path) -> List[Call]:
    def read() -> None:
        run = load(str(folder))
        for use in [run.evaluate, lambda: run.recommend(k=2)]:
            with suppress(DiffMMError):
                use()
        run.model()

    return [read]


def run_json() -> Parser:
    return Parser(trained(), ['json'], read_run)


def run_safetensors() -> Parser:
    return Parser(trained(), ['safetensors'], read_run)


def run_folder() -> Parser:
    return Parser(trained(), ['json', 'safetensors', 'csv'], read_run)


def checkpoints() -> Parser:
    r"""With checksums that fit: they guard from damage, not from strangers.
    """
    def mend(files: Files) -> Files:
        out = dict(files)
        for name in filter(lambda name: name.endswith('.json'), files):
            try:
                values = json.loads(files[name])
                tensors = files[name.replace('.json', '.safetensors')]
                values['tensors'] = checkpoint.hashlib.sha256(
                    tensors).hexdigest()
                del values['checksum']
                values = {'checksum': checkpoint._checksum(values), **values}
                out[name] = json.dumps(values).encode()
            except Exception:  # It is no such file any more.
                continue
        return out

    def calls(folder: Path) -> List[Call]:
        kept = Checkpoints(str(folder))
        return [kept.load, kept.config]

    return Parser(trained(with_checkpoints=True), ['json', 'safetensors'],
                  calls, mend)


def processed() -> Parser:
    r"""The processed files of a dataset, which are read where it is made
    again.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        source = folder / 'source'
        source.mkdir()
        for name in ['trnMat.pkl', 'valMat.pkl', 'tstMat.pkl']:
            (source / name).write_bytes(pickle.dumps(sp.coo_matrix(
                np.eye(4, 3))))
        np.save(source / 'image_feat.npy', np.ones((3, 2)))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # It is not the published one.
            dataset = MultiModalRec(str(folder / 'root'), 'tiktok',
                                    str(source), modalities=['image'])
        content = Path(dataset.processed_paths[0]).read_bytes()
    finally:
        shutil.rmtree(folder)
    return Parser([{'x.pt': content}], ['pt'], lambda folder: [
        lambda: dataset.load(str(folder / 'x.pt'))])


PARSERS: Dict[str, Callable[[], Parser]] = {
    '.pkl': pkl,
    '.npy': npy,
    '.npz': npz,
    '.inter': inter,
    '.csv': csv,
    '.parquet': parquet,
    '.json': run_json,
    '.safetensors': run_safetensors,
    'run folder': run_folder,
    'checkpoint': checkpoints,
    'processed .pt': processed,
}
