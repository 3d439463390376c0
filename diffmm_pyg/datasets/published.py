r"""What is known of the datasets that the authors of DiffMM published."""
import os.path as osp
from dataclasses import dataclass, field
from typing import Dict, List, Tuple

from diffmm_pyg.errors import DataError

URL = ('https://raw.githubusercontent.com/HKUDS/DiffMM/'
       'fae20e642aeeaad4284be6f7fb3432ebb551da8e/Datasets')
# The training, validation and test interactions:
MATRICES = ['trnMat.pkl', 'valMat.pkl', 'tstMat.pkl']


@dataclass(frozen=True)
class Published:
    r"""A published dataset: its modalities, and the ids that git gives to
    its files. Without ids, it cannot be downloaded.
    """
    modalities: Tuple[str, ...]
    blob_ids: Dict[str, str] = field(default_factory=dict)

    @property
    def downloadable(self) -> bool:
        return len(self.blob_ids) > 0


PUBLISHED = {
    'tiktok':
    Published(
        modalities=('image', 'text', 'audio'),
        blob_ids={
            'trnMat.pkl': 'e2592cf4a18e9ddcd6a0814679d4faf34d08a373',
            'valMat.pkl': '88e3722afb991c295d7987866e2284877a46ddde',
            'tstMat.pkl': '1daea6b69c98210371168e1965aaa1d135e0d0ea',
            'image_feat.npy': '27ac000dc2feaefdfa06d238d588793dd8ea80ba',
            'text_feat.npy': 'f056985c131d90c19c5265af033b095f525e5ce2',
            'audio_feat.npy': '1d0671948dfc54756f5f20a0dbc3026e40f74452',
        },
    ),
    'baby':
    Published(
        modalities=('image', 'text'),
        blob_ids={
            'trnMat.pkl': 'a85d1b509e17b06f707c0c5aa188b27c35896b0f',
            'valMat.pkl': '27506c1d026183daecfbc99988ab012da578af9e',
            'tstMat.pkl': '0a99cff43d2564d6d381eccc406314e8c539cfe6',
            'image_feat.npy.zip': 'be2d0255ae3f9347f63ab72b2f9e7531c0530532',
            'text_feat.npy': '1fb92223ae114c3cc7df7c8d52c5ae8d76064296',
        },
    ),
    'sports':
    Published(modalities=('image', 'text')),
}


def find_files(source: str, name: str) -> str:
    r"""Returns the local folder that holds the files of a dataset: either
    :obj:`<source>/<name>`, or :obj:`source` itself.

    Raises:
        DataError: If there is no such folder.
    """
    source = osp.expanduser(source)
    if not osp.isdir(source):
        raise DataError(f"The folder '{source}' does not exist; give the "
                        f"folder that holds '{name}/{MATRICES[0]}'")
    folder = osp.join(source, name)
    if osp.isdir(folder):
        return folder
    if osp.isfile(osp.join(source, MATRICES[0])):
        return source
    raise DataError(f"The folder '{source}' holds neither a folder '{name}' "
                    f"nor a file '{MATRICES[0]}'; give the folder that does")


def find_names(folder: str) -> List[str]:
    r"""Returns the names of the published datasets whose files a local folder
    may hold.
    """
    names = [
        name for name in PUBLISHED
        if osp.isfile(osp.join(folder, name, MATRICES[0]))
    ]
    if osp.isfile(osp.join(folder, MATRICES[0])):
        own = osp.basename(osp.abspath(folder))
        names += [own] if own in PUBLISHED else list(PUBLISHED)
    return names
