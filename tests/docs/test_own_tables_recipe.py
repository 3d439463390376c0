import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / 'docs' / 'recipes' / 'own_tables.py'


def liked(user, item):
    r"""Users like every other item: those as even or odd as they are."""
    return (int(user[4:]) + int(item[3:])) % 2 == 0


@pytest.fixture
def files(tmp_path):
    users = [f'ann-{u}' for u in range(30)]
    items = [f'B0-{i}' for i in range(20)]
    rows = [f'{item};{user};2024-01-{i + 1:02}' for user in users
            for i, item in enumerate(items) if liked(user, item)]
    (tmp_path / 'log.csv').write_text('\n'.join(['sku;who;when', *rows]))
    order = np.random.default_rng(0).permutation(20)
    (tmp_path / 'items.csv').write_text(
        '\n'.join(['sku', *(items[i] for i in order)]))
    np.save(tmp_path / 'image.npy', np.eye(2)[order % 2])
    return tmp_path


COLUMNS = {'user': 'who', 'item': 'sku', 'timestamp': 'when'}


def test_recommends_what_was_withheld(files):
    recommend = runpy.run_path(str(PATH))['recommend']
    out = recommend(files / 'log.csv', files / 'items.csv',
                    {'image': files / 'image.npy'}, COLUMNS, k=2, epochs=15,
                    diffusion={'hidden_channels': 16})
    assert list(out) == sorted(out) and len(out) == 30
    # Of ten items that they like, two are withheld, and ten they do not like:
    hits = [liked(user, item) for user, items in out.items() for item in items]
    assert np.mean(hits) > 0.9


def test_command_line(files, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [
        str(PATH), str(files / 'log.csv'), str(files / 'items.csv'),
        f"image={files / 'image.npy'}", '--columns',
        *map('='.join, COLUMNS.items()), '--k', '3', '--epochs', '1'])
    runpy.run_path(str(PATH), run_name='__main__')
    header, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ['user', 'rank', 'item']
    assert len(rows) == 90 and rows[2][:2] == ['ann-0', '3']
    assert all(user[:4] == 'ann-' and item[:3] == 'B0-'
               for user, _, item in rows)
