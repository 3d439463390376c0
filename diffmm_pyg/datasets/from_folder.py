import os
import os.path as osp
import re
from typing import Dict, Optional, Sequence

from diffmm_pyg.datasets.from_arrays import Splits
from diffmm_pyg.datasets.from_tables import hetero_data_from_tables
from diffmm_pyg.datasets.published import find_names
from diffmm_pyg.errors import DataError

# Ours, and those of MMRec:
INTERACTIONS = re.compile(r'interactions\.(csv|tsv|parquet)|.+\.inter')
ITEMS = re.compile(r'items\.(csv|tsv|parquet)')
FEATURES = re.compile(r'features_(\w+)\.npy|(\w+)_feat\.npy')


def hetero_data_from_folder(
    folder: str,
    modalities: Optional[Sequence[str]] = None,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    seed: int = 0,
) -> Splits:
    r"""Reads a dataset of one's own from a folder with

    * :obj:`interactions.csv`, :obj:`.tsv` or :obj:`.parquet`, or one
      :obj:`.inter` file of RecBole or MMRec, with the columns :obj:`user` and
      :obj:`item`, and, if there is a split already, :obj:`split`
      (:obj:`train`, :obj:`val`, :obj:`test`). Otherwise, the interactions of
      every user are split, the latest into the test split if there is a
      column :obj:`timestamp`, at random if not (:meth:`split_edges`). Other
      columns are not read;
    * :obj:`items.csv`, :obj:`.tsv` or :obj:`.parquet` with the column
      :obj:`item`: the items in the order of the feature rows. Without this
      file, items are named by the number of their row, from 0;
    * :obj:`features_<modality>.npy` or :obj:`<modality>_feat.npy` for one or
      more modalities, with one row per item. A row that is NaN throughout
      says that the item lacks this modality.

    This is :meth:`hetero_data_from_tables` for files with these names.

    Args:
        folder (str): The folder.
        modalities (List[str], optional): The modalities to use, in this
            order. If set to :obj:`None`, will use all, by name.
            (default: :obj:`None`)
        val_ratio (float, optional): The share of interactions for
            validation, if there is no split. (default: :obj:`0.1`)
        test_ratio (float, optional): The share of interactions for testing,
            if there is no split. (default: :obj:`0.1`)
        seed (int, optional): The seed of a random split.
            (default: :obj:`0`)

    Raises:
        DataError: If a file is missing, damaged, or does not fit the others;
            the message names the file, and the line or row.
    """
    folder = osp.expanduser(folder)
    if not osp.isdir(folder):
        raise DataError(f"The folder '{folder}' does not exist; check its "
                        f"name")
    interactions = find_table(folder, INTERACTIONS)
    published = find_names(folder)
    if interactions is None and len(published) > 0:
        raise DataError(f"The folder '{folder}' holds no 'interactions.csv', "
                        f"but the files of a published dataset; use --data "
                        f"{'|'.join(published)} --source {folder} "
                        f"(MultiModalRec(..., source='{folder}'))")
    if interactions is None:
        raise DataError(f"The folder '{folder}' holds no 'interactions.csv', "
                        f"'.tsv' or '.parquet' and no '.inter' file; put one "
                        f"there")
    return hetero_data_from_tables(interactions,
                                   feature_paths(folder, modalities),
                                   find_table(folder, ITEMS),
                                   val_ratio=val_ratio, test_ratio=test_ratio,
                                   seed=seed)


def find_table(folder: str, pattern: "re.Pattern[str]") -> Optional[str]:
    r"""Returns the file of a folder that is named like :obj:`pattern`.

    Raises:
        DataError: If there are several.
    """
    names = sorted(filter(pattern.fullmatch, os.listdir(folder)))
    if len(names) > 1:
        raise DataError(f"The folder '{folder}' holds both '{names[0]}' and "
                        f"'{names[1]}'; remove one of them")
    return osp.join(folder, names[0]) if len(names) > 0 else None


def feature_paths(folder: str, modalities: Optional[Sequence[str]] = None,
                  ) -> Dict[str, str]:
    r"""Returns the feature file of every modality.

    Raises:
        DataError: If one is missing or there twice, or there is none.
    """
    paths: Dict[str, str] = {}
    for match in filter(None, map(FEATURES.fullmatch,
                                  sorted(os.listdir(folder)))):
        modality = match[1] or match[2]
        if modality in paths:
            raise DataError(f"'{paths[modality]}' and '{match[0]}' are both "
                            f"features of '{modality}'; remove one of them")
        paths[modality] = osp.join(folder, match[0])
    if len(paths) == 0:
        raise DataError(f"The folder '{folder}' holds no feature file; put "
                        f"one there as 'features_<modality>.npy'")
    names = sorted(paths)
    for modality in modalities or []:
        if modality not in names:
            raise DataError(f"The file 'features_{modality}.npy' is missing "
                            f"in '{folder}'; put it there, or go without it "
                            f"by modalities={names} (--modalities "
                            f"{' '.join(names)})")
    return {modality: paths[modality] for modality in modalities or names}
