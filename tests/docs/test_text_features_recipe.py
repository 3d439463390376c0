import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffmm_pyg.datasets import hetero_data_from_tables

PATH = Path(__file__).parents[2] / 'docs' / 'recipes' / 'text_features.py'
WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] red blue shoe hat . ##s'.split()


@pytest.fixture
def recipe():
    return runpy.run_path(str(PATH))


@pytest.fixture
def items(tmp_path):
    path = tmp_path / 'items.csv'
    path.write_text('item,title,kind\nB1,red shoes,shoe\nB2,,\nB3,blue hat,\n'
                    'B4,red shoes,shoe\n')
    return path


def test_texts_of_several_columns(recipe, items):
    assert recipe['read_texts'](items, ['title', 'kind']) == [
        'red shoes. shoe', '', 'blue hat', 'red shoes. shoe']


@pytest.mark.parametrize('content, match', [
    ('item,name\nB1,red\n', r"has no column 'title', but .*'name'\]"),
    ('', r"has no column 'title', but \[\]"),
    ('item,title\nB1,red\nB2\n', "items.csv', line 3: values are missing"),
])
def test_bad_tables(recipe, items, content, match):
    items.write_text(content)
    with pytest.raises(SystemExit, match=match) as info:
        recipe['read_texts'](items, ['title'])
    assert '\n' not in str(info.value)


@pytest.fixture
def model(tmp_path):
    r"""A folder with a tiny language model whose parameters are random."""
    pytest.importorskip('sentence_transformers')
    import transformers
    folder = tmp_path / 'model'
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(WORDS))
    transformers.BertTokenizerFast(
        str(folder / 'vocab.txt')).save_pretrained(folder)
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32)).save_pretrained(folder)
    return folder


def mean_of_words(folder, text):
    import transformers
    tokens = [WORDS.index(word) for word in ['[CLS]', *text, '[SEP]']]
    bert = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = bert(torch.tensor([tokens])).last_hidden_state
    return out[0].mean(dim=0).numpy()


def test_features_of_texts(items, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [
        str(PATH), str(items), str(tmp_path / 'text.npy'), '--model',
        str(model), '--device', 'cpu'])
    runpy.run_path(str(PATH), run_name='__main__')
    assert '4 items, 8 features, 1 without text' in capsys.readouterr().out

    (tmp_path / 'log.csv').write_text('user,item\nann,B1\nann,B2\n')
    data, _, _ = hetero_data_from_tables(
        tmp_path / 'log.csv', {'text': tmp_path / 'text.npy'}, items)
    assert data['item'].has_text.tolist() == [True, False, True, True]
    x = data['item'].x_text.numpy()
    for row, text in [(0, ['red', 'shoe', '##s']), (2, ['blue', 'hat'])]:
        assert np.allclose(x[row], mean_of_words(model, text), atol=1e-5)
    assert np.allclose(x[3], x[0], atol=1e-6)
    assert np.abs(x[0] - x[2]).max() > 1e-2
