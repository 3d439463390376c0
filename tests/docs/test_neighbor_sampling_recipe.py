import re
import runpy
from pathlib import Path

import pytest

from diffmm_pyg.datasets import FakeMultiModalRec
from diffmm_pyg.evaluation import evaluate
from diffmm_pyg.nn.models import Popularity
from diffmm_pyg.typing import INTERACTS, WITH_TORCH_SPARSE
from diffmm_pyg.utils import SparseRows

PATH = Path(__file__).parents[2] / 'docs/recipes/neighbor_sampling.py'


@pytest.mark.skipif(not WITH_TORCH_SPARSE,
                    reason="'torch-sparse' is not installed")
@pytest.mark.filterwarnings("ignore:.*without a 'pyg-lib'")
def test_recommends_what_is_not_just_popular(capsys):
    runpy.run_path(str(PATH), run_name='__main__')
    lines = capsys.readouterr().out.strip().split('\n')
    recall = [float(re.fullmatch(r'Epoch \d: recall@20 (0\.\d{4})', line)[1])
              for line in lines]
    assert len(recall) == 3

    train, val, _ = FakeMultiModalRec(num_users=1000, num_items=500)
    seen = SparseRows.from_edge_index(train[INTERACTS].edge_index, 1000, 500)
    popular = evaluate(*Popularity(1000, 500).embed(train),
                       val[INTERACTS].edge_label_index, seen)
    assert min(recall) > 3 * popular['recall@20'] > 0
