"""HBase's shell syntax, `scan 't1', {LIMIT => 10}`, translated to Python's `scan('t1', {'LIMIT': 10})`.

Only statements that begin with a command's name and have its arguments after a space are translated; all else
is Python and stays as it is, so both may be mixed, in blocks too. Lines keep their numbers. No I/O.

Ruby's literals mean what they mean there: '…' knows \\' and \\\\ only, "…" knows escapes and #{…} and is
bytes once it has an \\xNN, nil, true, false and :symbol; hashes are {KEY => value} or {key: value}, and their
braces may be left out at the end. Other values may be any Python expression. A Ruby block behind a statement,
`scan('t') { |row, cells| … }` or `list.each do |t| … end`, becomes a for loop over its values, and so does
`for i in 1..3 do … end`.
"""

import keyword
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# After these a line goes on as Python, though a command's name stood first: `count in seen`.
PYTHON = frozenset(
    ["in", "is", "and", "or", "not", "if", "else", "for", "as", "from", "import", "async", "await"]
)
BLOCKS = frozenset(["for", "while", "if", "elif", "else", "try", "except", "finally", "with", "async"])
CONSTANTS = {"nil": "None", "true": "True", "false": "False"}
CLOSING = {"(": ")", "[": "]", "{": "}"}

_HEAD = re.compile(r"(?:([^\W\d]\w*)[ \t]*=[ \t]*)?([^\W\d]\w*)(?:\.([^\W\d]\w*))?")
_DEFINED = re.compile(r"(?:for|def|class)[ \t]+([^\W\d]\w*)")
_WORD = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"\d[\w.]*")
_PREFIX = re.compile(r"(?:[rRbBfFuU]|[rR][bBfF]|[bBfF][rR])?(?='|\")")
_STRING = re.compile(
    r"'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\""
    r"|'(?!'')(?:[^'\\\n]|\\.)*'|\"(?!\"\")(?:[^\"\\\n]|\\.)*\"",
    re.DOTALL,
)
_COMMENT = re.compile(r"#[^\n]*")
_NO_CODE = re.compile(f"{_STRING.pattern}|{_COMMENT.pattern}", re.DOTALL)
# The beginning of Ruby's block, up to its parameters: { |a, b| … }, do |a, b| … end, for a, b in … do … end.
_OPENING = re.compile(
    r"\bfor[ \t]+(?P<names>[\w, \t]+?)[ \t]+in[ \t]+(?P<values>[^\n;:]+?)[ \t]+do\b[ \t]*;?"
    r"|(?P<begin>\{|\bdo\b)[ \t]*\|(?P<given>[^|\n]*)\|"
)
_DO = re.compile(r"\bdo\b")
_END = re.compile(r"(?<!\.)\bend\b(?![ \t]*[=.(])")
# Ruby's ways to count, and Python's: first, last or end, and whether the last one is left out.
_COUNTED = (
    (re.compile(r"(?P<last>\w+)\.times"), "upto(0, {last}, True)"),
    (re.compile(r"(?P<first>\w+)\.upto\((?P<last>[^()]+)\)"), "upto({first}, {last})"),
    (re.compile(r"\(?(?P<first>[^()]+?)\.\.\.(?P<last>[^()]+?)\)?"), "upto({first}, {last}, True)"),
    (re.compile(r"\(?(?P<first>[^()]+?)\.\.(?P<last>[^()]+?)\)?"), "upto({first}, {last})"),
)
_LOOP = re.compile(r"for\b")
_CONTINUED = re.compile(r"(?:else|elif|except|finally|end)\b|[)\]}]")
# Commands whose value is a table, with commands as methods.
TABLES = frozenset(["create", "get_table"])
_ASSIGNED = re.compile(r"([^\W\d]\w*)[ \t]*=(?!=)")
_ARROW = re.compile(r"\s*=>")
_COLON = re.compile(r":(?!:)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "e": "\x1b",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "s": " ",
}


class SyntaxMistake(ValueError):
    """A syntax error; `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class Incomplete(SyntaxMistake):
    """An unfinished statement: a bracket is open, or a comma is last."""


def translate(source: str, known: Callable[[str, str], bool]) -> str:
    """Translate the statements in HBase's syntax to Python calls.

    `known(name, method)` returns whether a name is a command (the method is empty then), or an object that
    has a command as a method, and not a name that the user has defined.

    Raises SyntaxMistake, Incomplete.
    """
    return _Reader(_without_blocks(source, known), known).read()


def statements(source: str) -> Iterator[tuple[int, str]]:
    """Split a source into statements at its top level: the number of lines before each, and its text.

    A script is run statement by statement, for what one defines decides how the next one is read. A statement
    ends before a line that is neither indented, nor goes on with a block, nor stands in open brackets or
    strings.
    """
    lines = source.splitlines(keepends=True)
    begin = 0
    for at, line in enumerate(lines):
        if at == begin or not line.strip() or line[0] in " \t#" or _CONTINUED.match(line):
            continue
        text = "".join(lines[begin:at])
        if (text.lstrip().startswith("@") and text.count("\n") == 1) or _unfinished(text):
            continue
        yield begin, text
        begin = at
    if begin < len(lines):
        yield begin, "".join(lines[begin:])


def _unfinished(text: str) -> bool:
    """Return whether brackets or a long string are open, or the last line goes on."""
    depth, at, last = 0, 0, ""
    while at < len(text):
        if text.startswith(("'''", '"""'), at) and not _STRING.match(text, at):
            return True
        if found := _STRING.match(text, at) or _COMMENT.match(text, at):
            last = last if text[at] == "#" else "string"
            at = found.end()
            continue
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if not text[at].isspace():
            last = text[at - 1 : at + 1] if text[at] == ">" else text[at]
        at += 1
    code = _code(text)
    blocks = sum(found["begin"] != "{" for found in _OPENING.finditer(code))
    opened = blocks - len(_END.findall(code)) if blocks else 0
    return depth > 0 or opened > 0 or last in (",", "\\", "=>")


def _code(source: str) -> str:
    """Blank out strings and comments, so that what is found in the rest is code; places stay."""
    return _NO_CODE.sub(lambda found: re.sub(r"[^\n]", "\0", found.group()), source)


def _without_blocks(source: str, known: Callable[[str, str], bool], lines: int = 0) -> str:
    """Write Ruby's blocks as loops: of one line if they stand on one and have none in them.

    `lines` counts those before the source, for errors.
    """
    code = _code(source)
    found = _OPENING.search(code)
    if found is None:
        return source
    end, body_end = _block_end(code, found)
    if end < 0:
        line = code.count("\n", 0, found.start())
        column = found.start() - code.rfind("\n", 0, found.start())
        raise Incomplete("the block is not closed", lines + line + 1, column)
    begin = max(code.rfind("\n", 0, found.start()), code.rfind(";", 0, found.start())) + 1
    if found["begin"]:
        head, given = source[begin : found.start()].strip(), found["given"].split(",")
        values = head.removesuffix(".each")
    else:
        values, given = source[slice(*found.span("values"))].strip(), found["names"].split(",")
    indent = re.split(r"[^ \t]", source[source.rfind("\n", 0, begin) + 1 :], maxsplit=1)[0]
    names = ", ".join(name.strip() for name in given)
    loop = f"for {names or '_'} in each({len(given)}, {_values(values, known)}):"
    inside = source[found.end() : body_end].rstrip(" \t")
    body = _without_blocks(inside.lstrip(" \t"), known, lines + code.count("\n", 0, found.end()))
    before, after = source[:begin], source[end:]
    if before.endswith(";"):
        before = before[:-1] + "\n"
    if following := re.match(r"[ \t]*;[ \t]*(?=[^\s#])", after):
        after = f"\n{indent}{after[following.end() :]}"
    rest = _without_blocks(after, known, lines + code.count("\n", 0, end))
    return f"{before}{indent}{loop}{_body(body, indent)}{rest}"


def _block_end(code: str, found: re.Match[str]) -> tuple[int, int]:
    """Return where a block ends, and where what is in it does; -1 where it does not."""
    if found["begin"] == "{":
        end = _bracket_end(code, found.start())
        return end, end - 1
    depth, at = 1, found.end()
    while closing := _END.search(code, at):
        depth += len(_DO.findall(code, at, closing.start())) - 1
        at = closing.end()
        if not depth:
            return closing.end(), closing.start()
    return -1, -1


def _values(source: str, known: Callable[[str, str], bool]) -> str:
    """Translate what a block is run for."""
    for counted, python in _COUNTED:
        if found := counted.fullmatch(source):
            return python.format(**found.groupdict())
    return _Reader(source, known).read()


def _body(body: str, indent: str) -> str:
    """Indent a block's body below its loop, unless it is; one of a single statement stays on the line."""
    written = [line for line in body.splitlines() if line.strip()]
    if len(written) == 1 and "\n" not in body and not _LOOP.match(body):
        return f" {body}"
    if all(line.startswith((f"{indent} ", f"{indent}\t")) for line in written):
        return body
    return ("" if body.startswith("\n") else "\n") + textwrap.indent(body, f"{indent}    ")


@dataclass(slots=True)
class _Open:
    """An open bracket: which, where, and what must be closed at the end of the present element."""

    bracket: str
    at: int
    subscript: bool = False
    pending: str = ""


@dataclass(slots=True)
class _Reader:
    source: str
    known: Callable[[str, str], bool]
    at: int = 0
    out: list[str] = field(default_factory=list)
    # Names that are a person's own from here on.
    own: set[str] = field(default_factory=set)
    # Names that are a table's from here on.
    tables: set[str] = field(default_factory=set)

    def read(self) -> str:
        while self.at < len(self.source):
            self._statement()
        return "".join(self.out)

    def value(self) -> str:
        """Translate one value in parentheses."""
        self._arguments(parenthesis=True)
        return "".join(self.out)

    def _statement(self) -> None:
        """Translate one logical line, or a part of one between semicolons."""
        self._copy(re.compile(r"[ \t\n;]*"))
        head = _HEAD.match(self.source, self.at)
        if head is None or not self._spaced(head):
            self._python()

    def _spaced(self, head: re.Match[str]) -> bool:
        target, name, method = head.group(1), head.group(2), head.group(3) or ""
        table = bool(method) and name in self.tables and self.known(method, "")
        if name in self.own or not (table or self.known(name, method)):
            return False
        end = head.end()
        gap = re.compile(r"[ \t]*").match(self.source, end)
        start = gap.end() if gap else end
        following = self.source[start : start + 1]
        if target and name in TABLES and not method:
            self.tables.add(target)
        call = f"{target} = " if target else ""
        call += f"{name}.{method}" if method else name
        if following in ("", "\n", ";", "#"):
            self.out.append(f"{call}()")
            self.at = end
            return True
        if following == "(":
            # Python's own call, unless it has Ruby's arrows.
            close = _bracket_end(self.source, start)
            if close < 0 or not _has_arrow(self.source[start:close]):
                return False
            self.out.append(call)
            self.at = start
            self._arguments(parenthesis=True)
            return True
        if following == "=" and self.source[start + 1 : start + 2] != "=":
            self.own.add(name)
        if start == end or not self._argument_at(start):
            return False
        self.out.append(f"{call}(")
        self.at = start
        self._arguments(parenthesis=False)
        return True

    def _argument_at(self, at: int) -> bool:
        character = self.source[at]
        if character in "'\"{[" or character.isdigit():
            return True
        if character == ":":
            return _WORD.match(self.source, at + 1) is not None
        word = _WORD.match(self.source, at)
        return word is not None and word.group() not in PYTHON

    def _python(self) -> None:
        """Copy Python to the end of its logical line, or to where another statement may begin."""
        if defined := _DEFINED.match(self.source, self.at):
            self.own.add(defined.group(1))
        if assigned := _ASSIGNED.match(self.source, self.at):
            self.tables.discard(assigned.group(1))
        word = _WORD.match(self.source, self.at)
        block = word is not None and word.group() in BLOCKS
        depth = 0
        while self.at < len(self.source):
            character = self.source[self.at]
            if self._copy_string() or (character == "#" and self._copy(re.compile(r"#[^\n]*"))):
                continue
            if self._copy(_WORD) or self._copy(re.compile(r"\\\n")):
                continue
            self._take(1)
            if character in CLOSING:
                depth += 1
            elif character in ")]}":
                depth = max(0, depth - 1)
            elif depth == 0 and (character in "\n;" or (character == ":" and block)):
                return

    def _arguments(self, *, parenthesis: bool) -> None:
        """Translate arguments; with `parenthesis` they are enclosed in one."""
        stack = [_Open("(", self.at)]
        if parenthesis:
            self._take(1)
        last = "("  # what stood last, spaces and comments apart
        end = len(self.out)  # where the last of it ended, for the parenthesis that closes
        while self.at < len(self.source):
            character = self.source[self.at]
            top = stack[-1]
            if not parenthesis and len(stack) == 1 and last not in (",", "=>"):
                if character in "\n;":
                    break
                if character == "#":
                    break
            if self._copy(re.compile(r"[ \t\n]+|#[^\n]*|\\\n")):
                continue
            last = self._element(stack, top, last)
            end = len(self.out)
            if not stack:
                return
        if len(stack) > 1 or parenthesis:
            raise self._error(Incomplete, f"{stack[-1].bracket} is not closed", stack[-1].at)
        if last in (",", "=>"):
            raise self._error(Incomplete, "something is missing at the end", self.at)
        self.out.insert(end, stack[0].pending + ")")

    def _element(self, stack: list[_Open], top: _Open, last: str) -> str:
        """Translate one token. Return its kind."""
        character = self.source[self.at]
        if _PREFIX.match(self.source, self.at):
            return self._string(top, last)
        if character in CLOSING:
            subscript = (
                character == "[" and last in ("name", ")", "]") and self.source[self.at - 1] not in " \t"
            )
            stack.append(_Open(character, self.at, subscript))
            self._take(1)
            return character
        if character in ")]}":
            if CLOSING[top.bracket] != character:
                raise self._error(SyntaxMistake, f"{character} closes nothing", self.at)
            self.out.append(top.pending)
            self._take(1)
            stack.pop()
            return character
        if character == ",":
            self.out.append(top.pending)
            top.pending = ""
            self._take(1)
            return ","
        if self.source.startswith("::", self.at) and last == "name":
            self.out.append(".")  # Ruby's Class::CONSTANT
            self.at += 2
            return "."
        if self.source.startswith("=>", self.at):
            raise self._error(SyntaxMistake, "=> needs a name or a string before it", self.at)
        if word := _WORD.match(self.source, self.at):
            return self._word(top, word, last)
        if number := _NUMBER.match(self.source, self.at):
            self.at = number.end()
            return self._value(top, number.group(), last)
        symbol = _WORD.match(self.source, self.at + 1) if character == ":" else None
        if symbol and not top.subscript and last in ("(", "[", "{", ",", "=>", "key"):
            self.at = symbol.end()
            return self._value(top, repr(symbol.group()), last, symbol.group())
        self._take(1)
        return character

    def _word(self, top: _Open, word: re.Match[str], last: str) -> str:
        text = word.group()
        self.at = word.end()
        colon = _COLON.match(self.source, self.at)
        if colon and top.bracket in "({" and last in ("(", "{", ",") and not top.subscript:
            self.at = colon.end()
            self._key(top, text)
            return "key"
        if text == "new" and last == ".":
            self.out.pop()  # Ruby's Class.new(…) is Python's Class(…), Class.new is Class()
            if self.source[self.at : self.at + 1] != "(":
                self.out.append("()")
            return "name"
        if _ARROW.match(self.source, self.at):
            return self._value(top, repr(text), last, text)
        self.out.append(CONSTANTS.get(text, text) if last != "." else text)
        return "name"

    def _string(self, top: _Open, last: str) -> str:
        string = _STRING.match(self.source, self.at)
        prefix = _PREFIX.match(self.source, self.at)
        prefixed = prefix is not None and prefix.end() > self.at
        if prefixed:
            string = _STRING.match(self.source, prefix.end() if prefix else self.at)
        if string is None:
            # Not Incomplete: on one line it is a typing mistake, and waiting for its end would help nobody.
            kind = Incomplete if self.source[self.at : self.at + 3] in ("'''", '"""') else SyntaxMistake
            raise self._error(kind, "the string is not closed", self.at)
        if prefixed or string.group()[:3] in ("'''", '"""'):
            self.out.append(self.source[self.at : string.end()])
            self.at = string.end()
            return "string"
        if string.group()[0] == '"' and "#{" in string.group():
            python = self._interpolated(string.group()[1:-1])
            self.at = string.end()
            return self._value(top, python, last)
        value = self._ruby(string.group(), self.at)
        self.at = string.end()
        return self._value(top, repr(value), last, value if isinstance(value, str) else "")

    def _interpolated(self, inner: str) -> str:
        """Write a string with #{…} in it as a call that joins its parts."""
        parts = []
        while inner:
            text, opened, inner = inner.partition("#{")
            if text:
                parts.append(repr(self._ruby(f'"{text}"', self.at)))
            if opened:
                end = _bracket_end("{" + inner, 0)
                if end < 0:
                    raise self._error(SyntaxMistake, "the #{ is not closed: quotes in it are '…'", self.at)
                parts.append(_Reader(f"({inner[: end - 2].strip() or 'nil'})", self.known).value())
                inner = inner[end - 1 :]
        return f"joined({', '.join(parts)})"

    def _value(self, top: _Open, python: str, last: str, name: str = "") -> str:
        """Write a value, or the key of a pair if an arrow follows; `name` is the key as a keyword, if it can
        be one."""
        arrow = _ARROW.match(self.source, self.at)
        if arrow is None:
            self.out.append(python)
            return "value"
        if top.bracket == "[":
            raise self._error(SyntaxMistake, "a pair with => belongs in { }", self.at)
        if last not in ("(", "{", ","):
            raise self._error(SyntaxMistake, "a comma is missing before this pair", self.at)
        self.at = arrow.end()
        self._key(top, name, python)
        return "=>"

    def _key(self, top: _Open, name: str, python: str = "") -> None:
        if top.bracket == "{":
            self.out.append(f"{python or repr(name)}:")
        elif name.isidentifier() and not keyword.iskeyword(name):
            self.out.append(f"{name}=")
        else:
            self.out.append(f"**{{{python or repr(name)}:")
            top.pending = "}"

    def _ruby(self, text: str, at: int) -> str | bytes:
        """Return the value of a Ruby string."""
        inner = text[1:-1]
        if text[0] == "'":
            return re.sub(r"\\([\\'])", r"\1", inner)
        parts: list[bytes] = []
        binary = False
        done = 0
        for escape in _ESCAPE.finditer(inner):
            parts.append(inner[done : escape.start()].encode())
            done = escape.end()
            code = escape.group(1)
            if code[0] == "x":
                binary = True
                parts.append(bytes([int(code[1:], 16)]))
            elif code[0] == "u" and len(code) > 1:
                parts.append(self._character(code[1:].strip("{}"), at))
            elif code.isdigit() and int(code, 8) < 256:
                binary = True
                parts.append(bytes([int(code, 8)]))
            else:
                parts.append(_ESCAPES.get(code, code).encode())
        parts.append(inner[done:].encode())
        value = b"".join(parts)
        return value if binary else value.decode()

    def _character(self, digits: str, at: int) -> bytes:
        try:
            return chr(int(digits, 16)).encode()
        except (ValueError, OverflowError):
            raise self._error(SyntaxMistake, f"\\u{digits} is no character", at) from None

    def _error(self, kind: type[SyntaxMistake], message: str, at: int) -> SyntaxMistake:
        before = self.source[:at]
        return kind(message, before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1)

    def _take(self, length: int) -> None:
        self.out.append(self.source[self.at : self.at + length])
        self.at += length

    def _copy(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.source, self.at)
        if found is None or found.end() == self.at:
            return False
        self._take(found.end() - self.at)
        return True

    def _copy_string(self) -> bool:
        prefix = _PREFIX.match(self.source, self.at)
        string = _STRING.match(self.source, prefix.end()) if prefix else None
        if string is None:
            return False
        self._take(string.end() - self.at)
        return True


def _bracket_end(source: str, at: int) -> int:
    """Return the position behind the matching bracket; -1 where there is none."""
    depth = 0
    while at < len(source):
        if string := _STRING.match(source, at):
            at = string.end()
            continue
        depth += (source[at] in "([{") - (source[at] in ")]}")
        at += 1
        if depth == 0:
            return at
    return -1


def _has_arrow(source: str) -> bool:
    return "=>" in _STRING.sub("", source)
