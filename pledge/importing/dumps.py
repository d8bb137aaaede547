"""The rows of a table in a MySQL dump, read as data: no statement of it is ever run."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from pledge.importing.errors import SourceError
from pledge.importing.mapping import SourceRule
from pledge.importing.rows import Row, UnreadableRow, row_of

_TEXTS = frozenset({TokenType.STRING, TokenType.NUMBER, TokenType.TRUE, TokenType.FALSE})
_NO_COLUMN = frozenset(
    {
        *("PRIMARY", "FOREIGN", "UNIQUE", "KEY", "INDEX", "CONSTRAINT"),
        *("FULLTEXT", "SPATIAL", "CHECK"),
    }
)


class DumpTable:
    """One table of a dump: its columns and the rows that are inserted into it.

    Raises:
        SourceError: the dump cannot be read, or holds no such table.
    """

    def __init__(self, path: Path, rule: SourceRule) -> None:
        self._tokens = _tokens(path, path.stat().st_mtime_ns, rule.encoding)
        self._table = rule.table or ""
        columns = self._declared() or next((found for found, _ in self._inserts()), [])
        if not columns:
            raise SourceError(
                f"{path} neither creates nor fills a table {self._table!r}; "
                f"it has {', '.join(self._tables()) or 'none'}"
            )
        self.columns: Sequence[str] = columns

    def rows(self) -> Iterator[Row | UnreadableRow]:
        """Every row that is inserted, in the order of the dump."""
        end = len(self._tokens) or 1
        for columns, at in self._inserts():
            named = columns or self.columns
            for line, cells, reached in self._groups(at):
                if isinstance(cells, str):
                    yield UnreadableRow(line, reached / end, [], cells)
                else:
                    yield row_of(line, reached / end, named, cells)

    def _after_name(self, at: int) -> int | None:
        """The place after this table's name, which may have its database's before it."""
        tokens = self._tokens
        if at + 2 < len(tokens) and tokens[at + 1].token_type is TokenType.DOT:
            at += 2
        if at < len(tokens) and tokens[at].text.lower() == self._table.lower():
            return at + 1
        return None

    def _tables(self) -> list[str]:
        names = [
            self._tokens[at + 1].text
            for at, token in enumerate(self._tokens[:-1])
            if token.token_type is TokenType.INTO
        ]
        return list(dict.fromkeys(names))

    def _declared(self) -> list[str]:
        words = [token.text.upper() for token in self._tokens]
        for at in range(len(words) - 3):
            if words[at : at + 2] == ["CREATE", "TABLE"]:
                named = at + 5 if words[at + 2 : at + 5] == ["IF", "NOT", "EXISTS"] else at + 2
                after = self._after_name(named)
                if after is not None:
                    return self._columns_from(after)
        return []

    def _columns_from(self, at: int) -> list[str]:
        columns: list[str] = []
        depth, begins = 0, False
        for token in self._tokens[at:]:
            kind = token.token_type
            if kind is TokenType.SEMICOLON:
                break
            if kind is TokenType.L_PAREN:
                depth += 1
                begins = depth == 1
            elif kind is TokenType.R_PAREN:
                depth -= 1
            elif kind is TokenType.COMMA and depth == 1:
                begins = True
            else:
                quoted = kind is TokenType.IDENTIFIER
                if begins and (quoted or token.text.upper().split()[0] not in _NO_COLUMN):
                    columns.append(token.text)
                begins = False
        return columns

    def _inserts(self) -> Iterator[tuple[list[str], int]]:
        """The columns that each INSERT names, and where its rows begin."""
        for at, token in enumerate(self._tokens):
            if token.token_type is not TokenType.INTO:
                continue
            after = self._after_name(at + 1)
            if after is None:
                continue
            columns: list[str] = []
            for place in range(after, len(self._tokens)):
                kind = self._tokens[place].token_type
                if kind is TokenType.VALUES or self._tokens[place].text.upper() == "VALUE":
                    yield columns, place + 1
                    break
                if kind is TokenType.SEMICOLON:
                    break
                if kind not in (TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA):
                    columns.append(self._tokens[place].text)

    def _groups(self, at: int) -> Iterator[tuple[int, list[str] | str, int]]:
        """Rows from a place on: the line, the cells or why they cannot be read, the place after."""
        while at < len(self._tokens) and self._tokens[at].token_type is TokenType.L_PAREN:
            line, cells, cell, strange = self._tokens[at].line, [], "", ""
            depth, at = 1, at + 1
            while at < len(self._tokens) and depth:
                token = self._tokens[at]
                match token.token_type:
                    case TokenType.L_PAREN:
                        depth, strange = depth + 1, strange or f"{cell}(…) is not a plain value"
                    case TokenType.R_PAREN:
                        depth -= 1
                    case TokenType.COMMA if depth == 1:
                        cells.append(cell)
                        cell = ""
                    case TokenType.NULL:
                        cell = ""
                    case TokenType.DASH:
                        cell = "-"
                    case kind if kind in _TEXTS:
                        cell = cell + token.text.strip()
                    case _:
                        cell, strange = token.text, strange or f"{token.text} is not a plain value"
                at += 1
            cells.append(cell)
            yield line, strange or cells, at
            if at < len(self._tokens) and self._tokens[at].token_type is TokenType.COMMA:
                at += 1


@lru_cache(maxsize=1)
def _tokens(path: Path, _changed: int, encoding: str) -> list[Token]:
    try:
        return MySQL().tokenize(path.read_text(encoding))
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not {encoding}; name the file's encoding in the mapping, for example "
            'encoding = "cp1252"'
        ) from error
    except TokenError as error:
        raise SourceError(f"{path} is no MySQL dump: {error}") from error
