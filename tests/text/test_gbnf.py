"""GBNF as llama.cpp's README has it, and its awkward corners."""

from __future__ import annotations

import pytest

from tests.engine.grammar.follow import ROW, accepts, allowed, feed, masker
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Grammar
from trunkline.text.gbnf_lark import gbnf_to_lark

# After grammars/json.gbnf of llama.cpp; white space by recursion, as older versions spell it.
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space
ws ::= ([ \t\n] ws)?
"""
LIST = 'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ "\\n"'
ARITHMETIC = """root  ::= (expr "=" ws term "\\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \\t\\n]*"""


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        (JSON, '{"a": [1, -2.5e3, {"b": null}],\n "c\\u00e9": "x"} ', '{"a": }'),
        (LIST, "- one\n- twö\n", "- one\n-two\n"),
        (ARITHMETIC, "(a+1)*2=x\n", "(a+1=x\n"),
        ('root ::= "a" "b" "x" | "ab" "y"', "abx", "abz"),
        ('root ::= [a-z]+ "x" | "(" root ")"', "((abx))", "((ab))"),
        ("root ::= [ab]* [b]", "aab", "aa"),
        ('root ::= "a"{2,3} b{2} "c"{1,}\nb ::= "b"', "aaabbcc", "abbc"),
        ('root ::= "x" | root "," "x"', "x,x,x", "x,"),
        ('root ::= "x" ("," root)?', "x,x,x", "x,"),
        ('root ::= ( | "a") "b"', "b", "a"),
        ('root ::= "<" root ">" | " "? " x"', "< x>", "<x>"),
        ("root ::= [^\\]a-c] [\\]^-] .", "d]\n", "a]x"),
        ('root ::= [a&&b~~c-] "/"', "&/", "d/"),
        ('root ::= "é\\U0001F600\\x41"', "é😀A", "é"),
        ('root ::= A-b a-B\nA-b ::= "1"\na-B ::= "2"', "12", "21"),
        ('root ::= 1st # the first\n1st ::= "y" |\n "z"\n', "z", "x"),
    ],
)
def test_a_grammar_means_the_same(source: str, good: str, bad: str) -> None:
    assert accepts(Grammar("gbnf", source), good)
    assert not accepts(Grammar("gbnf", source), bad)


def test_a_special_token_stands_between_texts() -> None:
    of = masker(Grammar("gbnf", 'root ::= "a" <|im_start|> "b"'))
    assert feed(of, "a")
    assert allowed(of) == {256}
    assert of.accept(ROW, 256) is None
    assert allowed(of) == {ord("b")}
    of.shutdown()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no rule 'root'"),
        ('start ::= "a"', "no rule 'root'"),
        ("root ::= a", "'a' is used but not defined"),
        ('root ::= "a"\nroot ::= "b"', "line 2: the rule 'root' is defined twice"),
        ('root = "a"', "line 1: expected '::='"),
        ('root ::= "a', "not closed"),
        ("root ::= [a", "not closed"),
        ("root ::= []", "empty"),
        ("root ::= [z-a]", "backwards"),
        ('root ::= ("a"', "expected ')'"),
        ('root ::= "a" )', "expected the end of the line"),
        ('root ::= "\\q"', "no escape sequence"),
        ('root ::= "\\uD800"', "no character"),
        ('root ::= "a"{3,2}', "m <= n"),
        ('root ::= "a"{99999}', "2000"),
        ('root ::= "a"{x}', "{m,n}"),
        ("root ::= !<x>", "negated tokens"),
        ("root ::= " + "(" * 99 + '"a"' + ")" * 99, "more than 64 parentheses"),
    ],
)
def test_a_malformed_grammar_is_refused(source: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        gbnf_to_lark(source)
    assert reason in caught.value.message
    assert caught.value.param == "gbnf"


def test_what_is_regular_becomes_one_terminal() -> None:
    lark = gbnf_to_lark('root ::= a "b" a\na ::= "x" a | "y"')
    assert lark.splitlines()[0] == "start: T0"
    assert not [line for line in lark.splitlines() if line.startswith("r")]


def test_a_string_is_one_terminal_within_a_recursive_grammar() -> None:
    assert "| T4 |" in gbnf_to_lark(JSON)
