"""The template languages of prompt files: Semantic Kernel's own, rendered here as it does, and Jinja in its sandbox.

A template is cut into messages when its file is read, at the `<message role="…">` tags that its author wrote. What a row
puts in is never read as a tag or as a template, so that no escaping is needed and every value reaches the model as it was typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from html import unescape
from typing import TYPE_CHECKING, Literal, cast
from xml.etree import ElementTree

from nightshift.errors import BadInput

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

Role = Literal["system", "user", "assistant"]
Language = Literal["semantic-kernel", "jinja2"]
ROLES = ("system", "user", "assistant")
PROMPT = "prompt"  # the variable that stands for the row's text

VARIABLE = re.compile(r"\$([0-9A-Za-z_]+)")
QUOTED = re.compile(r"""(["'])((?:\\['"\\]|(?!\1).)*+)\1""", re.DOTALL)
ESCAPED = re.compile(r"""\\(['"\\])""")
OPENS_JINJA = re.compile(r"\{([{%#]|$)|\n$")  # by itself or with what follows; and a last line break, which Jinja drops
CODE = "\ue000"  # stands for a part that is code while tags are looked for; in no template itself


@dataclass(frozen=True)
class Code:
    """What a language reads between its marks: the name of a variable, or Jinja with its braces."""

    text: str


Part = str | Code


@dataclass(frozen=True)
class Turn:
    """One message of a prompt.

    :param parts: what is written and what is filled in, in order.
    :param bare: it stands outside of `<message>` tags: white space around its text is dropped.
    """

    role: Role
    parts: tuple[Part, ...]
    language: Language
    bare: bool

    @property
    def variables(self) -> set[str]:
        """The names that it takes values by."""
        if self.language == "jinja2":
            from jinja2.meta import find_undeclared_variables

            return find_undeclared_variables(environment().parse(self.jinja)) - set(environment().globals)
        return {part.text for part in self.parts if isinstance(part, Code)}

    @cached_property
    def jinja(self) -> str:
        """The message as a Jinja template that gives the same text."""
        return self._jinja(lambda text: not OPENS_JINJA.search(text))

    @property
    def tagged(self) -> str:
        """The message between its tags, as it stands in a Jinja template of several; white space around it stays."""
        plain = self._jinja(lambda text: text.replace("\n", "").isprintable() and not set(text) & set("&<{"))
        return f'<message role="{self.role}">{plain}</message>'

    def _jinja(self, is_plain: Callable[[str], bool]) -> str:
        written = (lambda name: f"{{{{ {name} }}}}") if self.language == "semantic-kernel" else str
        return "".join(
            written(part.text)
            if isinstance(part, Code)
            else part if is_plain(part)
            else f"{{{{ {literal(part)} }}}}"
            for part in self.parts
        )  # fmt: skip

    def text(self, values: Mapping[str, str]) -> str:
        """Return the message's text with values in place of its variables; one that is missing is empty.

        :raises BadInput: Jinja cannot compute it.
        """
        text = self._jinja_text(values) if self.language == "jinja2" else self._kernel_text(values)
        return text.strip() if self.bare else text

    def _kernel_text(self, values: Mapping[str, str]) -> str:
        return "".join(values.get(part.text, "") if isinstance(part, Code) else part for part in self.parts)

    def _jinja_text(self, values: Mapping[str, str]) -> str:
        from jinja2 import TemplateError

        try:
            return str(_compiled(self.jinja).render(values))
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise BadInput(f"the prompt's {self.role} message cannot be rendered: {error}") from error


@lru_cache(maxsize=1_000)
def turns_of(template: str, language: Language) -> tuple[Turn, ...]:
    """Return the messages of a template: those of its `<message>` tags, or one of the user where it has none.

    Text before the first tag is a system message, text behind one a user's, as Semantic Kernel reads it.

    :raises ValueError: the template is wrong; the text says where.
    """
    parts = list(_PARTS[language](template))
    marked = "".join(part if isinstance(part, str) else CODE for part in parts)
    codes = [part for part in parts if isinstance(part, Code)]
    messages = list(_messages(marked))
    if sum(text.count(CODE) for _, text, _ in messages) != len(codes):
        raise ValueError(f"it holds the character U+{ord(CODE):X}, which has no meaning; take it out")
    left = iter(codes)
    turns = tuple(Turn(role, tuple(_with_code(text, left)), language, bare) for role, text, bare in messages)
    if language == "jinja2":
        for turn in turns:
            _check(turn)
    return turns


def literal(value: bool | float | str) -> str:
    """Return a value in Jinja: JSON, whose escapes are those of Jinja's strings, and whose `true` and `false` are Jinja's."""
    return json.dumps(value, ensure_ascii=False)


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja's sandbox with its own defaults, as Semantic Kernel has it."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment()


@lru_cache(maxsize=100)
def _compiled(source: str) -> Template:
    return environment().from_string(source)


def _messages(marked: str) -> Iterator[tuple[Role, str, bool]]:
    try:
        root = ElementTree.fromstring(f"<root>{marked.strip()}</root>")  # noqa: S314  (a file of the team; no entities)
    except ElementTree.ParseError as error:
        if "<message" in marked:
            line = error.position[0]
            raise ValueError(
                f"line {line} of the template: not well-formed: {error}; beside <message> tags, write & and < as &amp; and &lt;"
            ) from None
        root = None
    if root is None or root.find("message") is None:
        yield "user", unescape(marked).strip(), True
        return
    yield from _outside("system", root.text)
    for element in root:
        role = element.get("role", "")
        if element.tag != "message" or role not in ROLES:
            raise ValueError(
                f'<{element.tag} role="{role}">: only <message> tags with the roles {", ".join(ROLES)} are read'
            )
        if len(element):
            raise ValueError(f"<{element[0].tag}> in a <message>: a message holds text alone; write < as &lt;")
        yield cast("Role", role), unescape(element.text or ""), False
        yield from _outside("user", element.tail)


def _outside(role: Role, text: str | None) -> Iterator[tuple[Role, str, bool]]:
    if text and text.strip():
        yield role, unescape(text).strip(), True


def _with_code(text: str, codes: Iterator[Code]) -> Iterator[Part]:
    """A message's text with the next parts that are code where they stood."""
    for number, written in enumerate(text.split(CODE)):
        if number:
            yield next(codes)
        if written:
            yield written


def _check(turn: Turn) -> None:
    from jinja2 import TemplateSyntaxError

    try:
        environment().parse(turn.jinja)
    except TemplateSyntaxError as error:
        raise ValueError(
            f"the {turn.role} message is no Jinja by itself: {error}; a block that begins in a message ends in it, and none "
            "stands around <message> tags: which messages there are is known when the file is read"
        ) from None


def _kernel_parts(template: str) -> Iterator[Part]:
    """A template in Semantic Kernel's language. A block begins with the last `{{` before it; quotes in it hide what ends it."""
    end, start, quote, at = 0, -1, "", 0
    while at < len(template) - 1:
        pair = template[at : at + 2]
        if not quote and pair == "{{":
            start = at
        if start >= 0:
            if quote:
                if ESCAPED.match(pair):
                    at += 1
                elif pair[0] == quote:
                    quote = ""
            elif pair[0] in "'\"":
                quote = pair[0]
            elif pair == "}}":
                if start > end:
                    yield template[end:start]
                yield _block(template[start : at + 2])
                end, start = at + 2, -1
        at += 1
    if end < len(template):
        yield template[end:]


def _block(block: str) -> Part:
    inside = block[2:-2].strip()
    if not inside:
        return block
    if found := VARIABLE.fullmatch(inside):
        return Code(found[1])
    if found := QUOTED.fullmatch(inside):
        return ESCAPED.sub(r"\1", found[2])
    raise ValueError(
        f"{block}: a block holds one variable, as {{{{$prompt}}}}, or one text in quotes; functions are called by nothing here"
    )


def _jinja_parts(template: str) -> Iterator[Part]:
    from jinja2 import TemplateSyntaxError

    code = ""
    try:
        for _, kind, value in environment().lex(template):
            if kind == "data":
                if code:
                    yield Code(code)
                code = ""
                yield value
            elif not kind.startswith(("comment", "raw")):
                code += value
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno} of the template: no Jinja: {error}") from None
    if code:
        yield Code(code)


_PARTS: dict[Language, Callable[[str], Iterator[Part]]] = {
    "semantic-kernel": _kernel_parts,
    "jinja2": _jinja_parts,
}
