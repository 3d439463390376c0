import hashlib
import os
import os.path as osp
import re
import warnings
from typing import Callable, List, Optional, Sequence

from diffmm_pyg.datasets._splits import FORMAT, SplitDataset
from diffmm_pyg.datasets.download import (
    download_file,
    git_blob_id,
    unzip_file,
)
from diffmm_pyg.datasets.from_arrays import hetero_data_from_arrays
from diffmm_pyg.datasets.published import (
    MATRICES,
    PUBLISHED,
    URL,
    find_files,
)
from diffmm_pyg.datasets.raw import read_features, read_matrix
from diffmm_pyg.errors import ConfigError, DataError
from torch_geometric.data import HeteroData


class MultiModalRec(SplitDataset):
    r"""The multi-modal recommendation datasets of the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper: users, the items they interacted with, and features of the items
    in several modalities. :obj:`train, val, test = dataset`.

    The files come from a local folder, where they are read and nothing is
    written, or from an address. Files that differ from the published ones
    are refused when downloaded, and reported when local.

    Args:
        root (str): The folder for downloaded and processed files, which lie
            in :obj:`<root>/<name>`.
        name (str): The name of the dataset (:obj:`"tiktok"`, :obj:`"baby"`,
            :obj:`"sports"`).
        source (str, optional): The local folder that holds the files, or
            the folder :obj:`<name>` with them, or the address of such a
            folder. If set to :obj:`None`, files that are not in
            :obj:`<root>/<name>/raw` are downloaded from the repository of
            the authors; :obj:`"sports"` cannot be. (default: :obj:`None`)
        modalities (List[str], optional): The modalities to use, in this
            order. If set to :obj:`None`, will use all that the dataset has.
            (default: :obj:`None`)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.HeteroData` object and returns a
            transformed version. The data object will be transformed before
            every access. (default: :obj:`None`)
        pre_transform (callable, optional): The same, but before the data
            object is saved to disk. (default: :obj:`None`)
        force_reload (bool, optional): Whether to re-process the dataset.
            (default: :obj:`False`)

    Raises:
        ConfigError: If :obj:`name` or a modality is unknown.
        DataError: If a file is missing, damaged or does not fit the others.

    **STATS:**

    .. list-table::
        :widths: 10 10 10 15 30
        :header-rows: 1

        * - Name
          - #users
          - #items
          - #training edges
          - Modalities
        * - TikTok
          - 9,308
          - 6,710
          - 59,541
          - image (128), text (768), audio (128)
        * - Baby
          - 19,445
          - 7,050
          - 118,551
          - image (4,096), text (1,024)
        * - Sports
          - 35,598
          - 18,357
          - 218,409
          - image (4,096), text (1,024)
    """
    def __init__(
        self,
        root: str,
        name: str,
        source: Optional[str] = None,
        modalities: Optional[Sequence[str]] = None,
        transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        pre_transform: Optional[Callable[[HeteroData], HeteroData]] = None,
        force_reload: bool = False,
    ) -> None:
        if name not in PUBLISHED:
            raise ConfigError(f"There is no dataset '{name}'; choose one of "
                              f"{', '.join(PUBLISHED)}")
        self.name = name
        self.published = PUBLISHED[name]
        if isinstance(modalities, str):
            modalities = [modalities]
        self.modalities = list(modalities or self.published.modalities)
        for modality in self.modalities:
            if modality not in self.published.modalities:
                raise ConfigError(
                    f"'{name}' has no modality '{modality}'; choose among "
                    f"{', '.join(self.published.modalities)}")

        self.root = osp.expanduser(root)
        self._raw_paths: List[str] = []
        self._blob_ids: List[str] = []
        self.url: Optional[str] = None
        self.local: Optional[str] = None
        if source is not None and '://' not in str(source):
            self.local = find_files(str(source), name)
            self._check_local()
        elif source is not None or self.published.downloadable:
            self.url = f"{(source or URL).rstrip('/')}/{name}"
        else:
            self._check_raw()
        super().__init__(self.root, transform, pre_transform,
                         force_reload=force_reload)
        self._load_or_process()

    @property
    def raw_dir(self) -> str:
        return osp.join(self.root, self.name, 'raw')

    @property
    def processed_dir(self) -> str:
        return osp.join(self.root, self.name, 'processed')

    @property
    def raw_file_names(self) -> List[str]:
        return MATRICES + [f'{m}_feat.npy' for m in self.modalities]

    @property
    def raw_paths(self) -> List[str]:
        if len(self._raw_paths) == 0:
            self._raw_paths = [self._raw_path(n) for n in self.raw_file_names]
        return self._raw_paths

    def _raw_path(self, file_name: str) -> str:
        if self.local is None:
            return osp.join(self.raw_dir, file_name)
        path = osp.join(self.local, file_name)
        if osp.exists(path) or not osp.exists(f'{path}.zip'):
            return path
        # Where to unpack it, as nothing is written to a source:
        return osp.join(self.raw_dir, git_blob_id(f'{path}.zip'), file_name)

    @property
    def processed_file_names(self) -> str:
        # The name depends on the content of the source, so that what was
        # built from another one is not used.
        if len(self._blob_ids) == 0:
            self._blob_ids = [git_blob_id(path) for path in self.raw_paths]
        key = hashlib.sha1(' '.join(self._blob_ids).encode()).hexdigest()
        return f'v{FORMAT}-{"-".join(self.modalities)}-{key[:12]}.pt'

    def _check_local(self) -> None:
        missing = [
            name for name, path in zip(self.raw_file_names, self.raw_paths)
            if not osp.exists(path) and osp.dirname(path) == self.local
        ]
        if len(missing) == 0:
            return
        left = [m for m in self.modalities if f'{m}_feat.npy' not in missing]
        advice = 'put it there'
        if missing[0] not in MATRICES and len(left) > 0:
            advice += (f", or go without it by modalities={left} "
                       f"(--modalities {' '.join(left)})")
        raise DataError(f"The file '{missing[0]}' is missing in "
                        f"'{self.local}'; {advice}")

    def _check_raw(self) -> None:
        if not all(osp.exists(path) for path in self.raw_paths):
            raise DataError(
                f"'{self.name}' has no stable address; get "
                f"{', '.join(self.raw_file_names)} by the link at "
                f"https://github.com/HKUDS/DiffMM, put them into a folder, "
                f"and give that folder as 'source' (--source)")

    def _download(self) -> None:
        # PyG's makes `raw_dir` before there is a file to put into it.
        self.download()

    def download(self) -> None:
        for name, path in zip(self.raw_file_names, self.raw_paths):
            if osp.exists(path):
                continue
            zip_name = f'{name}.zip'
            if self.local is not None:
                unzip_file(osp.join(self.local, zip_name), path)
            elif zip_name in self.published.blob_ids:
                self._download_file(zip_name, f'{path}.zip')
                unzip_file(f'{path}.zip', path)
                os.remove(f'{path}.zip')
            else:
                self._download_file(name, path)

    def _download_file(self, name: str, path: str) -> None:
        download_file(f'{self.url}/{name}', path,
                      blob_id=self.published.blob_ids.get(name))

    def process(self) -> None:
        paths = dict(zip(self.raw_file_names, self.raw_paths))
        processed_path = self.processed_paths[0]
        self._warn_unpublished()
        train, val, test = [read_matrix(paths[name]) for name in MATRICES]
        for name, matrix in zip(MATRICES, [train, val, test]):
            if matrix.shape != train.shape:
                raise DataError(f"'{paths[name]}' has shape "
                                f"{list(matrix.shape)}, but '{MATRICES[0]}' "
                                f"has {list(train.shape)}; give files that "
                                f"belong together")
        features, masks = {}, {}
        for modality in self.modalities:
            path = paths[f'{modality}_feat.npy']
            features[modality], mask = read_features(path, train.shape[1])
            if mask is not None:
                masks[modality] = mask

        num_users, num_items = train.shape
        splits: Sequence[HeteroData] = hetero_data_from_arrays(
            num_users, num_items, train, val, test, features=features,
            masks=masks)
        if self.pre_transform is not None:
            splits = [self.pre_transform(data) for data in splits]
        self.save(splits, processed_path, self._describe())

    def _warn_unpublished(self) -> None:
        for path, blob_id in zip(self.raw_paths, self._blob_ids):
            known = self.published.blob_ids.get(osp.basename(path), blob_id)
            if blob_id != known:
                warnings.warn(f"'{path}' differs from the published file; "
                              f"results will differ, too", stacklevel=2)

    def _describe(self) -> str:
        # Without addresses, which change from one process to the next:
        return re.sub(r' at 0x[0-9a-fA-F]+', '', repr(self.pre_transform))

    def _process(self) -> None:
        # PyG's reads `pre_transform.pt` by an unsafe `torch.load`.
        if self.force_reload or not osp.exists(self.processed_paths[0]):
            self.process()

    def _load_or_process(self) -> None:
        path = self.processed_paths[0]
        try:
            pre_transform = self.load(path)
        except DataError:
            warnings.warn(f"'{path}' is damaged or was not written by this "
                          f"package; building it anew", stacklevel=3)
            self.process()
            pre_transform = self.load(path)
        if pre_transform != self._describe():
            warnings.warn(
                f"'{path}' was built with pre_transform={pre_transform}; pass "
                f"force_reload=True to use pre_transform={self._describe()}",
                stacklevel=3)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.name}, {len(self)})'
