import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'benchmarks'), str(ROOT / 'tests')]

from small import dense, small_data, small_fit  # noqa: E402

from _experiments.graphs import describe_graphs  # noqa: E402
from _experiments.models import load_description  # noqa: E402
from _experiments.plan import FOLDER, Entry, read_plan  # noqa: E402
from _experiments.ranks import rank_positives, user_metrics  # noqa: E402
from _reports.document import (  # noqa: E402
    Bullets,
    Figure,
    Heading,
    Table,
    to_html,
    to_markdown,
)
from _reports.figures import Look, import_pyplot, label_points, spread  # noqa: E402
from _reports.groups import (  # noqa: E402
    by_items,
    by_users,
    group_by,
    group_table,
)
from _reports.summary import Result, Summary  # noqa: E402
from _reports.tables import tuning_table  # noqa: E402


def test_user_metrics_by_hand():
    user = np.array([3, 3, 5, 8, 8, 8])
    rank = np.array([2, 0, 1, 3, 9, 1])
    out = user_metrics(rank, user, k=2)
    log = np.log2
    assert out['recall'] == pytest.approx([1 / 2, 1, 1 / 3])
    ideal = 1 + 1 / log(3)
    assert out['ndcg'] == pytest.approx([1 / log(3) / ideal, 1, 1 / ideal])
    assert user_metrics(rank, user, 9)['recall'] == pytest.approx([.5, 1, 1])


def test_ranks_are_those_of_a_full_sort(monkeypatch):
    monkeypatch.setattr('_experiments.ranks.DEPTH', 7)
    monkeypatch.setattr('_experiments.ranks.BLOCK_SIZE', 16)
    run = small_fit(small_data(), epochs=1)
    score = run.user_emb @ run.item_emb.t()
    score[dense(run.graphs['observed'], run)] = -np.inf
    score[dense(run.graphs['val'], run)] = -np.inf
    order = score.argsort(dim=1, descending=True)
    expected = [(order[u] == i).nonzero().item() + 1
                for u, i in run.graphs['test'].t()]
    expected = [x if x <= 7 else 0 for x in expected]
    assert 0 in expected and max(expected) > 3
    rank = rank_positives(run)
    assert rank.tolist() == expected

    values = user_metrics(rank.numpy(), run.graphs['test'][0].numpy(), 5)
    for name, x in values.items():
        assert x.mean() == pytest.approx(run.metrics['test'][f'{name}@5'],
                                         abs=1e-6)


def test_graphs_by_hand():
    def edges(*pairs):
        return torch.tensor(pairs).t()

    run = SimpleNamespace(num_items=10, graphs={
        'observed': edges((0, 1), (1, 2)),
        'val': edges((0, 3), (1, 4)),
        'denoised_a.edge_index': edges((0, 1), (0, 3), (1, 3), (1, 2)),
        'denoised_a.edge_weight': torch.ones(4),
        'denoised_b.edge_index': edges((0, 3), (1, 3)),
        'denoised_c.edge_index': edges((0, 1), (0, 5)),
    })
    out = describe_graphs(run)
    a_b, a_c, b_c = 2 / 4, 1 / 5, 0.
    assert out['a'] == {'edges': 4, 'items': 3, 'known': 0.5,
                        'overlap': pytest.approx((a_b + a_c) / 2),
                        'val_recall': 0.5}
    assert out['b']['overlap'] == pytest.approx((a_b + b_c) / 2)
    assert out['c']['known'] == 0.5 and out['c']['val_recall'] == 0
    del run.graphs['denoised_b.edge_index'], run.graphs['val']
    del run.graphs['denoised_c.edge_index']
    assert describe_graphs(run)['a']['overlap'] is None


def test_tuning_table_names_models_once():
    plan = read_plan(FOLDER / 'ablations.json')
    table = tuning_table(plan, 'tiktok')
    assert [row[0] for row in table.rows] == [
        'DiffMM strict', 'Late fusion', 'Late fusion with drift',
        'Mult-DAE with drift']
    tuned = load_description('late_fusion')['tuned']['tiktok']
    _, trials, value, values = table.rows[1]
    assert (int(trials), float(value)) == (tuned['trials'], tuned['value'])
    for key, value in tuned['set'].items():
        assert f'{key} = {value}' in values
    assert tuning_table(plan, 'fake') is None
    # What was found was not for the values that this plan sets:
    assert tuning_table(read_plan(FOLDER / 'known.json'), 'tiktok') is None


def test_groups():
    degree = np.array([0, 0, 1, 1, 1, 2, 3, 9, 4, 0])
    out = group_by(degree, 3)
    assert out.names == ['none (cold)', '1', '2 to 3', '4 to 9']
    assert out.index.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 0]
    assert group_by(np.array([5, 5, 5])).names == ['5']
    assert group_by(np.array([0, 0])).names == ['none (cold)']


def test_tables_of_groups():
    # Users 1 and 4 have two positives each, of which others are found.
    positives = {'user': np.array([1, 1, 3, 4, 4]),
                 'user_degree': np.array([2, 2, 0, 2, 2]),
                 'item_degree': np.array([0, 5, 0, 5, 5])}
    entry = Entry('A', 'ease', {'role': 'baseline'})
    result = Result(entry, [], None)
    result.positives = positives
    result.users = {'recall': np.array([0.5, 1., 0.])}
    result.found = np.array([1., 0., 0.5, 0., 1.])
    summary = Summary('fake', {}, [result], [], {}, [])
    table = group_table(summary, by_users(summary))
    assert table.header == ['Model', 'none (cold) (1 users)', '2 (2 users)']
    assert table.rows == [['A', '1.000', '0.250']]
    table = group_table(summary, by_items(summary))
    assert table.header[1:] == ['none (cold) (2 pairs)', '5 (3 pairs)']
    assert table.rows == [['A', '0.750', '0.333']]


def test_spread_moves_as_little_as_needed():
    assert spread([0., 5., 1.], 1) == pytest.approx([0, 5, 1])
    assert spread([2., 2., 9.], 1) == pytest.approx([1.5, 2.5, 9])
    assert spread([0., .5, .9, 3.], 1) == pytest.approx(
        [-0.53333, 0.46667, 1.46667, 3], abs=1e-4)
    assert spread([2., 2., 9.], 1, 2, 9) == pytest.approx([2, 3, 9])
    assert spread([8., 9., 9.], 1, 0, 9) == pytest.approx([7, 8, 9])


def test_names_of_points_do_not_overlap():
    plt = import_pyplot()
    fig, ax = plt.subplots(figsize=(8, 6))
    rng = np.random.default_rng(0)
    look = Look('black', 'o', '-')
    points = [(x, y, f'a model, {i}', look)
              for i, (x, y) in enumerate(rng.random((15, 2)))]
    ax.set(xlim=(-0.2, 1.2), ylim=(-0.2, 1.2))
    label_points(ax, points)
    fig.canvas.draw()
    boxes = [plt.Text.get_window_extent(text) for text in ax.texts]
    plt.close(fig)
    assert len(boxes) == 15
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_documents():
    blocks = [Heading(2, 'A < B'), Bullets(['x & y']),
              Table(['Model', 'Value'], [['a|b', '1'], ['<c>', '']], [0],
                    'Why & how.'),
              Figure(b'<svg/>', 'A "picture"')]
    text = to_html('T', blocks)
    for part in ['<h2>A &lt; B</h2>', '<li>x &amp; y</li>',
                 '<tr class="strong"><td>a|b</td><td>1</td></tr>',
                 '<td>&lt;c&gt;</td>', 'alt="A &quot;picture&quot;"',
                 'base64,PHN2Zy8+', '<p class="note">Why &amp; how.</p>']:
        assert part in text
    assert to_markdown(blocks, 'r.html') == (
        '## A < B\n\n- x & y\n\n| Model | Value |\n| --- | ---: |\n'
        '| **a\\|b** | **1** |\n| <c> |  |\n\nWhy & how.\n\n'
        '*Picture, see [r.html](r.html): A "picture"*\n')
