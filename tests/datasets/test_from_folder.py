import numpy as np
import pytest

from diffmm_pyg.data import check_data, data_hash, modalities
from diffmm_pyg.datasets import hetero_data_from_folder, node_ids
from diffmm_pyg.errors import DataError
from diffmm_pyg.typing import INTERACTS

pytestmark = pytest.mark.filterwarnings('ignore:Merged')

SPLIT = '''user,item,split
bob,i2,train
ann,i9,train
ann,i2,test
bob,i5,valid
cat,i5,Test
ann,i9,train
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'items.csv').write_text('item,title\ni9,A\ni2,B\ni5,C\n')
    (tmp_path / 'interactions.csv').write_text(SPLIT)
    np.save(tmp_path / 'features_text.npy', np.ones((3, 2), np.float16))
    np.save(tmp_path / 'features_image.npy', np.arange(9.).reshape(3, 3))
    return tmp_path


def load(folder, *args, **kwargs):
    return hetero_data_from_folder(str(folder), *args, **kwargs)


def labels(data):
    users, items = node_ids(data, 'user'), node_ids(data, 'item')
    pairs = data[INTERACTS].edge_label_index.t().tolist()
    return {(users[u], items[i]) for u, i in pairs}


@pytest.mark.filterwarnings('ignore:1 of the .* users of .test.')
def test_folder_with_splits(folder):
    train, val, test = load(folder)
    for data in [train, val, test]:
        check_data(data)
        assert node_ids(data, 'user') == ['ann', 'bob', 'cat']
        assert node_ids(data, 'item') == ['i9', 'i2', 'i5']
        assert modalities(data) == ['image', 'text']
        assert data['item'].x_image[1].tolist() == [3, 4, 5]
    assert labels(train) == {('bob', 'i2'), ('ann', 'i9')}
    assert labels(val) == {('bob', 'i5')}
    assert labels(test) == {('ann', 'i2'), ('cat', 'i5')}


@pytest.mark.filterwarnings('ignore:1 of the .* users of .test.')
def test_folder_counts_duplicates_once(folder):
    rows = 'bob,i5,val\nann,i2,test\nann,i2,TEST\n'
    (folder / 'interactions.csv').write_text(SPLIT + rows)
    with pytest.warns(UserWarning, match='Merged 4 of 9 interactions'):
        splits = load(folder)
    sizes = [data[INTERACTS].edge_label_index.size(1) for data in splits]
    assert sizes == [2, 1, 2]


@pytest.mark.parametrize('given, path, names', [
    ('data', 'data/tiktok', 'tiktok'),
    ('data/baby', 'data/baby', 'baby'),
    ('data', 'data', 'tiktok|baby|sports'),
])
def test_folder_in_the_published_format(tmp_path, given, path, names):
    folder = tmp_path / given
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / 'trnMat.pkl').touch()
    with pytest.raises(DataError) as info:
        load(folder)
    assert f'use --data {names} --source {folder} (Mult' in str(info.value)


def test_folder_reports_users_without_training(folder):
    with pytest.warns(UserWarning, match="1 of the 2 users of 'test' have no"):
        load(folder)


def write(folder, rows, header='user,item'):
    text = '\n'.join([header] + [','.join(map(str, row)) for row in rows])
    (folder / 'interactions.csv').write_text(text)


ROWS = [(user, item) for user in range(20) for item in range(10)]


@pytest.fixture
def numbered(folder):
    r"""No list of items, and ids that are numbers."""
    (folder / 'items.csv').unlink()
    for name in ['image', 'text']:
        np.save(folder / f'features_{name}.npy', np.ones((10, 2)))
    write(folder, ROWS)
    return folder


def test_folder_without_splits(numbered):
    splits = load(numbered)
    sizes = [len(labels(data)) for data in splits]
    assert sizes == [160, 20, 20]
    assert set.union(*map(labels, splits)) == set(ROWS)
    assert node_ids(splits[0], 'user') == list(range(20))
    assert node_ids(splits[0], 'item') == list(range(10))


def test_folder_split_depends_on_seed_and_not_on_rows(numbered):
    a, b = load(numbered)[2], load(numbered, seed=1)[2]
    write(numbered, ROWS[::-1] + ROWS[:50])  # Other order, and duplicates
    assert data_hash(load(numbered)[2]) == data_hash(a) != data_hash(b)


def test_folder_split_by_time(numbered):
    rows = [(u, i, (i * 7 + u) % 10) for u, i in ROWS]
    # That item 3 was seen again later does not count:
    rows += [(u, 3, 100) for u in range(20)]
    write(numbered, rows, 'user,item,timestamp')
    _, val, test = load(numbered)
    first = [row for row in rows if row[2] < 100]
    assert labels(test) == {(u, i) for u, i, t in first if t == 9}
    assert labels(val) == {(u, i) for u, i, t in first if t == 8}


def test_folder_ratios(numbered):
    sizes = [len(labels(data)) for data in load(numbered, None, 0., 0.5)]
    assert sizes == [100, 0, 100]


def test_folder_ids_that_only_look_like_numbers(numbered):
    write(numbered, [('10', 1), ('9', 0), ('007', 2)])
    assert node_ids(load(numbered)[0], 'user') == ['007', '10', '9']
    write(numbered, [('10', 1), ('9', 0), ('-7', 2)])
    assert node_ids(load(numbered)[0], 'user') == [-7, 9, 10]


def test_folder_parquet_and_csv_agree(numbered):
    pa = pytest.importorskip('pyarrow')
    import pyarrow.parquet as pq
    expected = load(numbered)
    (numbered / 'interactions.csv').unlink()
    users, items = zip(*ROWS)
    pq.write_table(pa.table({'user': users, 'item': items}),
                   numbered / 'interactions.parquet')
    for data, other in zip(load(numbered), expected):
        assert data_hash(data) == data_hash(other)
        assert node_ids(data, 'user') == node_ids(other, 'user')


def test_folder_masks_missing_features(numbered):
    x = np.ones((10, 2))
    x[[2, 5]] = np.nan
    np.save(numbered / 'features_image.npy', x)
    data = load(numbered)[0]
    assert (~data['item'].has_image).nonzero().view(-1).tolist() == [2, 5]
    assert data['item'].x_image.sum(dim=1)[[1, 2, 5]].tolist() == [2, 0, 0]
    assert 'has_text' not in data['item']


def test_folder_modalities(numbered):
    assert modalities(load(numbered, ['text', 'image'])[0]) == [
        'text', 'image'
    ]
    assert modalities(load(numbered, ['text'])[0]) == ['text']
    with pytest.raises(DataError, match="'features_audio.npy' is missing .*"
                       "--modalities image text"):
        load(numbered, ['audio'])


def change(folder, name, old, new):
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize('damage, match', [
    (lambda f: (f / 'interactions.csv').unlink(),
     "no 'interactions.csv', '.tsv' or '.parquet' and no '.inter' file"),
    (lambda f: (f / 'interactions.csv').write_text('user,item\n'),
     "interactions.csv' holds no interaction"),
    (lambda f: (f / 'interactions.csv').write_text('user,item\na,i7\n'),
     "interactions.csv', line 2, column 'item': no item has a feature row; "
     "items are called 'i7' here, and 'i9' in"),
    (lambda f: (f / 'interactions.tsv').touch(),
     "holds both 'interactions.csv' and 'interactions.tsv'; remove one"),
    (lambda f: (f / 'text_feat.npy').touch(),
     "features_text.npy' and 'text_feat.npy' are both features of 'text'"),
    (lambda f: (f / 'items.csv').unlink(),
     r"line 2, column 'item': the item 'i2' is unknown.*0\.\.2"),
    (lambda f: change(f, 'interactions.csv', 'valid', 'dev?'),
     "line 5, column 'split': 'dev\\?' is no split"),
    (lambda f: change(f, 'items.csv', 'i2', 'i9'),
     "items.csv', line 3, column 'item': the item 'i9' is listed a second"),
    (lambda f: change(f, 'items.csv', 'i5,C\n', ''),
     "features_image.npy' has 3 rows, but .*items.csv' has 2 items"),
    (lambda f: np.save(f / 'features_text.npy', np.ones((4, 2))),
     "features_text.npy' has 4 rows, but .*items.csv' has 3 items"),
    (lambda f: np.save(f / 'features_text.npy', [[1], [np.inf], [1]]),
     "features_text.npy', row 1: NaN or infinite"),
    (lambda f: [p.unlink() for p in f.glob('*.npy')], 'no feature file'),
    (lambda f: (f / 'features_text.npy').write_bytes(b'\x93NUMPY\x01'),
     "features_text.npy' is truncated"),
    (lambda f: (f / 'interactions.csv').write_text(
        'user,item,split\na,i2,test\n'), 'training split has no interaction'),
])
@pytest.mark.filterwarnings('ignore:.*have no training edge')
def test_folder_errors(folder, damage, match):
    damage(folder)
    with pytest.raises(DataError, match=match):
        load(folder)


def test_folder_of_mmrec(tmp_path):
    rows = ['0\t1\t5.0\t9\t0', '0\t0\t3.0\t9\t1', '1\t1\t1.0\t9\t0',
            '1\t2\t1.0\t9\t2']
    header = 'userID\titemID\trating\ttimestamp\tx_label'
    (tmp_path / 'baby.inter').write_text('\n'.join([header, *rows]))
    (tmp_path / 'u_id_mapping.csv').write_text('user_id\tuserID\nA1\t0\n')
    np.save(tmp_path / 'image_feat.npy', np.ones((3, 2)))
    np.save(tmp_path / 'text_feat.npy', np.ones((3, 4)))
    train, val, test = load(tmp_path)
    assert modalities(train) == ['image', 'text']
    assert labels(train) == {(0, 1), (1, 1)}
    assert labels(val) == {(0, 0)}
    assert labels(test) == {(1, 2)}


def test_folder_missing(tmp_path):
    with pytest.raises(DataError, match="folder '.*nowhere' does not exist"):
        load(tmp_path / 'nowhere')


def test_folder_is_not_written_to(folder):
    before = sorted(folder.iterdir())
    with pytest.warns(UserWarning):
        load(folder)
    assert sorted(folder.iterdir()) == before
