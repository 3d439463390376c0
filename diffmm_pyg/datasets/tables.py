r"""Readers of tables of interactions and items: CSV and Parquet files whose
columns have names.
"""
import csv
import os.path as osp
from dataclasses import dataclass
from typing import (
    Any,
    Dict,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from diffmm_pyg.errors import DataError, MissingExtraError

SEPARATORS = [',', '\t', ';', '|', ' ']


@dataclass
class Table:
    r"""The columns of a table: text, or what a Parquet file holds.

    Args:
        path (str): The file.
        columns (Mapping[str, sequence]): The values of every column.
        lines (List[int], optional): The line of every row in a text file.
            (default: :obj:`None`)
    """
    path: str
    columns: Mapping[str, Sequence[Any]]
    lines: Optional[List[int]] = None

    def fail(self, row: int, column: str, message: str) -> NoReturn:
        r"""Raises a :class:`DataError` that names the place of a value."""
        place = f'row {row}'
        if self.lines is not None:
            place = f'line {self.lines[row]}'
        raise DataError(f"'{self.path}', {place}, column '{column}': "
                        f"{message}")

    def ids(self, column: str) -> List[str]:
        r"""Returns a column of ids as text, so that the number 7 of a
        Parquet file and the text of a CSV file are the same id.

        Raises:
            DataError: If an id is empty, or neither an integer nor text.
        """
        values = self.columns[column]
        for row, value in enumerate(values):
            if value == '' or value is None:
                self.fail(row, column, 'the id is empty; fill it in, or '
                          'remove the row')
            if type(value) not in [int, str]:
                self.fail(row, column, f'the id {value!r} is neither an '
                          f'integer nor text; store it as one of them')
        return list(map(str, values))

    def times(self, column: str) -> np.ndarray:
        r"""Returns a column of times as numbers that can be compared.

        Raises:
            DataError: If a value is neither a number nor an ISO 8601 time.
        """
        values = np.asarray(self.columns[column])
        if values.dtype.kind not in 'iufM':
            values = np.char.rstrip(values.astype(str), 'Z')
        out = _to_times(values)
        if out is not None:
            return out
        for row in range(values.size):
            if _to_times(values[row:row + 1]) is None:
                self.fail(row, column, f"'{values[row]}' is no time; give a "
                          f"number, or a time like 2024-01-31T12:00:00")
        raise DataError(f"'{self.path}', column '{column}': numbers and dates "
                        f"are mixed; use one of them throughout")


def _to_times(values: np.ndarray) -> Optional[np.ndarray]:
    dtypes: List[Any] = [values.dtype]
    if values.dtype.kind == 'U':
        dtypes = ['int64', 'float64', 'datetime64[us]']
    for dtype in dtypes:
        try:
            out = values.astype(dtype)
        except (OverflowError, ValueError):
            continue
        is_time = out.dtype.kind == 'M'
        if is_time and values.dtype.kind == 'U':
            # NumPy takes any number for a year:
            is_iso = np.char.find(values, '-') == 4
            out[~is_iso] = np.datetime64('NaT')
        if np.isfinite(out).all():
            return out.view(np.int64) if is_time else out
    return None


def read_table(folder: str, stem: str, required: Sequence[str],
               optional: Sequence[str] = ()) -> Optional[Table]:
    r"""Reads :obj:`<stem>.csv` or :obj:`<stem>.parquet`, or returns
    :obj:`None` if the folder has neither.

    Raises:
        DataError: If the folder has both, the file is damaged, or a required
            column is missing.
    """
    path = osp.join(folder, stem)
    has_csv, has_parquet = [
        osp.isfile(f'{path}.{ending}') for ending in ['csv', 'parquet']
    ]
    if has_csv and has_parquet:
        raise DataError(f"The folder '{folder}' holds both '{stem}.csv' and "
                        f"'{stem}.parquet'; remove one of them")
    if has_parquet:
        return read_parquet(f'{path}.parquet', required, optional)
    return read_csv(f'{path}.csv', required, optional) if has_csv else None


def read_csv(path: str, required: Sequence[str],
             optional: Sequence[str] = ()) -> Table:
    r"""Reads the named columns of a text file in UTF-8 with a header. The
    separator is the one that makes the header hold the required columns.

    Raises:
        DataError: If there is none, or a line has too few or many values.
    """
    columns: Dict[str, List[str]] = {}
    lines: List[int] = []
    try:
        with open(path, newline='', encoding='utf-8-sig') as f:
            first = f.readline()
            separator, header = sniff_header(first, required, path)
            reader = csv.reader(f, delimiter=separator, strict=True)
            wanted = [
                (i, columns.setdefault(name, []))
                for i, name in enumerate(header)
                if name in [*required, *optional] and name not in columns
            ]
            for row in reader:
                if len(row) == len(header):
                    for i, column in wanted:
                        column.append(row[i].strip())
                    lines.append(reader.line_num + 1)
                elif len(row) > 0:  # Blank lines are left out.
                    raise DataError(f"'{path}', line {reader.line_num + 1}: "
                                    f"{len(row)} values, but the header has "
                                    f"{len(header)}; mend the line")
    except csv.Error as e:
        raise DataError(f"'{path}', line {reader.line_num + 1}: {e}; mend "
                        f"the line") from e
    except UnicodeDecodeError as e:
        raise DataError(f"'{path}' is not encoded in UTF-8 ({e.reason} at "
                        f"byte {e.start}); save it again as UTF-8") from e
    return Table(path, columns, lines)


def sniff_header(line: str, required: Sequence[str],
                 path: str) -> Tuple[str, List[str]]:
    for separator in SEPARATORS:
        try:
            names = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            continue
        header = [name.strip().lower() for name in names]
        if set(required) <= set(header):
            return separator, header
    raise DataError(f"'{path}', line 1: the header '{line.strip()[:80]}' "
                    f"lacks the columns {', '.join(required)}; give the names "
                    f"of the columns in the first line")


def read_parquet(path: str, required: Sequence[str],
                 optional: Sequence[str] = ()) -> Table:
    r"""Reads the named columns of a Parquet file.

    Raises:
        DataError: If the file is damaged, or lacks a required column.
        MissingExtraError: If :obj:`pyarrow` is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise MissingExtraError('pyarrow', 'parquet',
                                'to read Parquet files') from e
    try:
        names = pq.read_schema(path).names
        missing = [name for name in required if name not in names]
        if missing:
            raise DataError(f"'{path}' has no column '{missing[0]}' (but "
                            f"{', '.join(names)}); rename the one meant")
        wanted = [name for name in [*required, *optional] if name in names]
        table = pq.read_table(path, columns=wanted)
        columns: Dict[str, Sequence[Any]] = {
            name: table.column(name).to_pylist()
            for name in wanted if name != 'timestamp'
        }
        if 'timestamp' in wanted:
            columns['timestamp'] = table.column('timestamp').to_numpy()
    except (pa.ArrowException, OSError) as e:
        raise DataError(f"'{path}' is damaged or no Parquet file "
                        f"({str(e).splitlines()[0]}); save it again") from e
    return Table(path, columns)
