r"""The closed-form check: on noise-free blocks, a trained model returns
exactly the withheld item, for every user.
"""
import pytest
from small import small_fit, small_model

from diffmm_pyg.datasets import checkerboard
from diffmm_pyg.nn import weighted_adj
from diffmm_pyg.typing import INTERACTS


def returned_and_withheld(data, preset, **kwargs):
    # Without a validation split there is no choice of an epoch.
    run = small_fit(data[:1], small_model(data, preset), top_k=1, **kwargs)
    withheld = {
        user: [item]
        for split in data[1:]
        for user, item in split[INTERACTS].edge_label_index.t().tolist()
    }
    result = run.recommend(k=1)
    return dict(zip(result.user, result.item, strict=True)), withheld


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_checkerboard(preset, sparse, monkeypatch):
    backend = 'torch-sparse' if sparse else 'torch'
    monkeypatch.setattr(weighted_adj, 'sparse_backend', lambda _: backend)
    data = checkerboard(60, 40, num_blocks=8)
    returned, withheld = returned_and_withheld(data, preset, epochs=12,
                                               lr=1e-2)
    assert len(withheld) == 60 and returned == withheld
    # It is training that does it:
    returned, _ = returned_and_withheld(data, preset, epochs=1, lr=0.)
    assert returned != withheld
