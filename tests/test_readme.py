import re
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_geometric.data import HeteroData

README = Path(__file__).parents[1] / 'README.md'
# As they stand there, each to be run in a namespace of its own:
TOUR, OWN_TABLES, PIPELINE = re.findall(r'```python\n(.*?)```',
                                        README.read_text(), re.S)


def test_readme_tour_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(TOUR, {})

    metrics, first, both = capsys.readouterr().out.strip().split('\n')[-3:]
    assert 'recall@20' in metrics
    assert re.fullmatch(r'\[(\[(\d+, ){4}\d+\](, )?){2}\]', both)
    # The model and its run recommend the same to user 7:
    assert first.startswith('torch.Size([300, 64]) ')
    assert both.startswith(first.split(') ')[1][:-1])
    assert (tmp_path / 'runs' / 'tour' / 'metrics.json').is_file()
    assert len(TOUR.strip().split('\n')) <= 17


def test_readme_pipeline_runs():
    data = HeteroData()
    data['user'].num_nodes, data['movie'].num_nodes = 60, 40
    data['movie'].poster = torch.randn(40, 8)
    pairs = torch.rand(60, 40).lt(0.2).nonzero().t().contiguous()
    data['user', 'rates', 'movie'].edge_index = pairs
    names = {'data': data}
    exec(PIPELINE, names)

    assert len(names['history']) == 100
    user, movie = names['train']['user', 'denoised_image', 'movie'].edge_index
    assert torch.equal(user.bincount(), torch.full((60, ), 5))
    observed = names['train']['user', 'rates', 'movie'].edge_index
    seen = set(map(tuple, observed.t().tolist()))
    assert seen.isdisjoint(zip(user.tolist(), movie.tolist(), strict=True))


def test_readme_reads_tables_of_other_names(tmp_path, monkeypatch):
    pa = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    monkeypatch.chdir(tmp_path)
    users = np.arange(20).repeat(4)
    bought = np.arange(80)
    skus = [f'B{i}' for i in range(9)]
    parquet.write_table(
        pa.table({'customer': users, 'bought': bought,
                  'sku': [skus[i % 9] for i in users + bought]}),
        'orders.parquet')
    Path('items.csv').write_text('\n'.join(['sku', *skus]))
    np.save('image.npy', np.eye(9))
    np.save('text.npy', 2 * np.eye(9))
    names = {}
    exec(OWN_TABLES, names)

    train, val, test = names['data']
    assert torch.equal(train['item'].x_image, torch.eye(9))
    assert torch.equal(train['item'].x_text, 2 * torch.eye(9))
    assert train['user'].num_nodes == 20
