r"""Readers of tables of interactions and items: text files (CSV, TSV, and the
:obj:`.inter` and :obj:`.item` files of RecBole and MMRec), Parquet files, and
data frames.
"""
import csv
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from diffmm_pyg.datasets.parquet import PARQUET, read_parquet
from diffmm_pyg.datasets.raw import check_exists
from diffmm_pyg.datasets.table import Table, find_columns, match_columns
from diffmm_pyg.errors import DataError

SEPARATORS = [',', '\t', ';', '|', ' ']
# The first bytes of what is mistaken for a table of text:
FOREIGN = {
    b'\x1f\x8b': 'compressed; unpack it first',
    b'PK\x03\x04': 'a ZIP archive or a workbook; save its table as CSV',
    b'\x80': "a pickle; 'read_matrix' reads pickled SciPy matrices",
    b'\xff\xfe': 'encoded in UTF-16; save it again as UTF-8',
    b'\xfe\xff': 'encoded in UTF-16; save it again as UTF-8',
}


def read_table(
    source: Any,
    required: Sequence[str],
    optional: Sequence[str] = (),
    columns: Optional[Mapping[str, str]] = None,
    name: str = 'table',
) -> Table:
    r"""Reads a table from a file or a data frame.

    Args:
        source (str, os.PathLike or data frame): The file, or anything with
            named columns that turn into arrays (pandas, polars, Arrow).
        required (List[str]): The columns that there must be, by what they
            mean: :obj:`"user"`, :obj:`"item"`, :obj:`"timestamp"` or
            :obj:`"split"`.
        optional (List[str], optional): The columns to read if they are there.
            (default: :obj:`()`)
        columns (Dict[str, str], optional): What these columns are called in
            the table, if not as usual. (default: :obj:`None`)
        name (str, optional): What messages call a data frame.
            (default: :obj:`"table"`)

    Raises:
        DataError: If the file is missing or damaged, or a required column is
            missing.
        MissingExtraError: If :obj:`pyarrow` is not installed, for Parquet.
    """
    if not isinstance(source, (str, os.PathLike)):
        return read_frame(source, required, optional, columns, name)
    path = os.path.expanduser(os.fspath(source))
    check_exists(path)
    with open(path, 'rb') as f:
        start = f.read(4)
    if len(start) == 0:
        raise DataError(f"'{path}' is empty; give a table with a header")
    if start == PARQUET or path.lower().endswith('.parquet'):
        return read_parquet(path, required, optional, columns)
    for magic, message in FOREIGN.items():
        if start.startswith(magic):
            raise DataError(f"'{path}' is {message}")
    return read_csv(path, required, optional, columns)


def read_csv(
    path: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    columns: Optional[Mapping[str, str]] = None,
) -> Table:
    r"""Reads the named columns of a text file in UTF-8 with a header. The
    separator is the one that makes the header hold the required columns.

    Raises:
        DataError: If there is none, or a line has too few or many values.
    """
    values: Dict[str, List[str]] = {}
    lines: List[int] = []
    try:
        with open(path, newline='', encoding='utf-8-sig') as f:
            separator, header = sniff_header(f.readline(), required, columns)
            positions = find_columns(f"'{path}', line 1", header, required,
                                     optional, columns)
            values = {column: [] for column in positions}
            wanted = [(i, values[column]) for column, i in positions.items()]
            reader = csv.reader(f, delimiter=separator, strict=True)
            for row in reader:
                if len(row) == len(header):
                    for i, column in wanted:
                        column.append(row[i].strip())
                    lines.append(reader.line_num + 1)
                elif len(row) > 0:  # Blank lines are left out.
                    raise DataError(
                        f"'{path}', line {reader.line_num + 1}: {len(row)} "
                        f"values, but the header has {len(header)}, separated "
                        f"by {separator!r}; mend the line")
    except csv.Error as e:
        raise DataError(f"'{path}', line {reader.line_num + 1}: {e}; mend "
                        f"the line") from e
    except UnicodeDecodeError as e:
        raise DataError(f"'{path}', line {undecodable_line(path)}: not "
                        f"encoded in UTF-8 ({e.reason}); save it again as "
                        f"UTF-8") from e
    names = {column: header[i] for column, i in positions.items()}
    return Table(path, values, names, lines)


def undecodable_line(path: str) -> int:
    r"""Returns the number of the first line that is not encoded in UTF-8."""
    with open(path, encoding='utf-8', errors='surrogateescape') as f:
        return next(number for number, line in enumerate(f, 1)
                    if any('\udc80' <= c <= '\udcff' for c in line))


def sniff_header(line: str, required: Sequence[str],
                 columns: Optional[Mapping[str, str]] = None,
                 ) -> Tuple[str, List[str]]:
    r"""Returns the separator of a header and its names."""
    headers = {}
    for separator in SEPARATORS:
        try:
            names = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            continue
        headers[separator] = [name.strip() for name in names]

    def num_found(separator: str) -> int:
        found = match_columns(headers[separator], required, columns)
        return sum(len(positions) > 0 for positions in found.values())

    best = max(headers, key=num_found, default=',')
    return best, headers.get(best, [line.strip()])


def read_frame(
    frame: Any,
    required: Sequence[str],
    optional: Sequence[str] = (),
    columns: Optional[Mapping[str, str]] = None,
    name: str = 'table',
) -> Table:
    r"""Reads the named columns of a data frame.

    Raises:
        DataError: If it is none, or lacks a required column.
    """
    header = frame_header(frame)
    if header is None:
        raise DataError(f"'{name}' is no table, but a "
                        f"'{type(frame).__name__}'; give the name of a file, "
                        f"or a data frame")
    positions = find_columns(f"'{name}'", header, required, optional, columns)
    names = {column: header[i] for column, i in positions.items()}
    values = {c: np.asarray(frame[label]) for c, label in names.items()}
    return Table(name, values, names)


def frame_header(frame: Any) -> Optional[List[Any]]:
    r"""Returns the names of the columns of a data frame (pandas, polars) or
    an Arrow table, :obj:`None` if it is none.
    """
    for attribute in ['column_names', 'columns']:
        if hasattr(frame, attribute):
            return list(getattr(frame, attribute))
    return None
