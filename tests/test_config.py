import json
from collections.abc import Mapping
from typing import Any

import pytest
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax import config
from facerep_jax.config import (
    OPEN,
    build,
    build_with,
    difference,
    overridden,
    parse_arg,
    pick,
    plain,
    quoted,
    spec,
    taken,
)
from facerep_jax.models.vit import ViT


def call(open_argument, *, number: int | None = None, name: str | None = None, size: int = 3, nested=None, pair=(1, 2)):
    return open_argument, number, name, size, nested, pair


class Built:
    def __init__(self, value: float = 0.5):
        self.value = value


class Learnt(nnx.Module):  # a metaclass hides its signature
    def __init__(self, width: int = 4, *, rngs: nnx.Rngs):
        self.width = width


class Bare:
    pass


INNER = plain(spec(call, size=5))


class Given:
    def __init__(self, inner: Mapping[str, Any] = INNER):
        self.inner = inner


def test_a_spec_is_the_call_with_every_default_written_out():
    described = spec(call, size=5)
    assert described.to_dict() == {
        "call": f"{__name__}:call",
        "number": None,
        "name": None,
        "size": 5,
        "nested": None,
        "pair": (1, 2),
    }
    assert spec(Built).to_dict() == {"call": f"{__name__}:Built", "value": 0.5}
    assert spec(Learnt).to_dict() == {"call": f"{__name__}:Learnt", "width": 4}  # rngs come at run time
    assert spec(Bare).to_dict() == {"call": f"{__name__}:Bare"}


def test_a_none_in_a_default_that_is_a_spec_can_be_set_too_and_each_time_anew():
    """tried: one placeholder for all, so that one config's setting is in the next."""
    one, other = (spec(Given) for _ in range(2))
    one.lock()
    with pytest.raises(TypeError):
        one.inner.number = "x"
    one.inner.number = 7
    assert (build(one).inner["number"], build(other).inner["number"], INNER["number"]) == (7, None, None)


def test_a_none_can_be_set_later_to_its_own_type():
    """tried: a plain None, which a command line cannot override; placeholders of type object alone."""
    described = spec(call)
    described.lock()
    described.number = 7
    described.name = "x"
    described.nested = {"a": 1}
    assert (described.number, described.name) == (7, "x")
    with pytest.raises(TypeError):
        described.number = "seven"
    assert described.get_type("number") is int
    assert spec(ViT).get_type("width") is int


def test_an_unknown_keyword_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match=r"call has no argument 'sise'; did you mean 'size'\?"):
        spec(call, sise=3)
    with pytest.raises(ValueError, match="Built has no argument 'zzz'; known: value"):
        spec(Built, zzz=3)
    with pytest.raises(ValueError, match="Bare has no argument 'x'"):
        spec(Bare, x=1)


def test_build_calls_what_a_spec_names():
    assert build(spec(call, size=5), "given") == ("given", None, None, 5, None, (1, 2))
    assert build(spec(call, number=9), open_argument=1) == (1, 9, None, 3, None, (1, 2))
    assert build(spec(Built, value=2.0)).value == 2.0
    learnt = build(spec(Learnt, width=6), rngs=nnx.Rngs(0))
    assert isinstance(learnt, Learnt)
    assert learnt.width == 6


def test_build_with_gives_what_is_asked_for_and_left_open():
    """tried: what is offered to all; what is offered over what the spec says."""
    assert build_with(spec(call), {"open_argument": 1, "steps": 2}) == (1, None, None, 3, None, (1, 2))
    assert build_with(spec(call, size=5), {"size": 9, "steps": 2}, "given") == ("given", None, None, 5, None, (1, 2))
    assert build_with(spec(Built), {"steps": 2}).value == 0.5
    assert build_with(spec(Learnt), {"rngs": nnx.Rngs(0), "width": 9}).width == 4
    assert build_with(spec(Learnt), {"steps": 2}, rngs=nnx.Rngs(0)).width == 4


def test_nested_specs_reach_the_callable_as_plain_data_to_build_itself():
    described = spec(call, nested=dict(inner=spec(Built, value=3.0)))
    described.nested.inner.value = 4.0  # as a command line does
    nested = build(described, 0)[4]
    assert type(nested) is dict
    assert build(nested["inner"]).value == 4.0


def test_a_spec_that_was_json_is_built_alike():
    described = spec(call, nested=dict(inner=spec(Built, value=3.0)), pair=4)
    again = json.loads(json.dumps(plain(described)))
    assert build(again, 0) == build(described, 0)


@pytest.mark.parametrize("call", ["no_such_module:Class", "facerep_jax.models.vit:NoSuchClass", "facerep_jax", ""])
def test_a_call_that_is_not_there_is_an_error(call):
    with pytest.raises(ValueError, match=rf"no callable '{call}' \(MODULE:NAME\): "):
        build({"call": call})


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (spec(call), f"{__name__}:call: missing a required argument: 'open_argument'"),
        ({"call": f"{__name__}:Built", "valeu": 1}, f"{__name__}:Built: got an unexpected keyword argument 'valeu'"),
        (spec(Learnt), f"{__name__}:Learnt: missing a required .*argument: 'rngs'"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(described, message):
    with pytest.raises(ValueError, match=message):
        build(described)


def test_arguments_take_the_types_of_their_defaults():
    defaults = dict(variant="B/16", steps=10, rate=0.5, smoke=False, fast=True)
    assert parse_arg(None, **defaults).to_dict() == defaults
    assert parse_arg("", **defaults).to_dict() == defaults
    args = parse_arg("variant=S/8,steps=20,rate=1e-3,smoke,fast=false", **defaults)
    assert args.to_dict() == dict(variant="S/8", steps=20, rate=1e-3, smoke=True, fast=False)
    assert type(args.rate) is float
    assert parse_arg("rate=1,smoke=1,fast=0", **defaults).to_dict() | defaults == defaults
    assert parse_arg("variant=a=b", **defaults).variant == "a=b"
    assert parse_arg("smoke=True", **defaults).smoke is True


def test_a_value_in_quotes_may_hold_commas_and_colons(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    defaults = dict(dataset="x", data_dir="data", size=48, smoke=False)
    drawn = "generated_faces:size=48,train=64"
    for quote in "'\"":
        args = parse_arg(f"dataset={quote}{drawn}{quote},size=32,smoke", **defaults)
        assert args.to_dict() == dict(dataset=drawn, data_dir="data", size=32, smoke=True)
    assert parse_arg("data_dir='a,b',dataset=\"it's, mine\"", **defaults).data_dir == "a,b"
    assert parse_arg("data_dir='a,b',dataset=\"it's, mine\"", **defaults).dataset == "it's, mine"
    assert parse_arg("data_dir=/o'brien/a:b", **defaults).data_dir == "/o'brien/a:b"
    assert parse_arg("data_dir=''", **defaults).data_dir == ""
    assert parse_arg("data_dir=~/a", **defaults).data_dir == parse_arg("data_dir='~/a'", **defaults).data_dir
    assert parse_arg("data_dir=~/a", **defaults).data_dir == "/home/ada/a"
    for value in (drawn, "plain", "it's", "it's, mine", "'quoted'", "", "a=b"):
        assert parse_arg(f"dataset={quoted(value)},size=3", **defaults).dataset == value


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        (
            "variant=generated_faces:size=48,train=64",
            "config argument 'train' is not known; known: smoke, steps, variant; if it belongs to variant, "
            "put that value in quotes: variant='...'",
        ),
        ("variant='a,b", "config argument variant: the quote is not closed in 'a"),
        ("variant='a'b", "config argument variant: the quote is not closed in 'a'b"),
        ("variant='", "config argument variant: the quote is not closed in '"),
        ("vriant=S/8", "config argument 'vriant' is not known; did you mean 'variant'?"),
        ("qqq", "config argument 'qqq' is not known; known: smoke, steps, variant"),
        ("steps=many", "config argument steps is of type int, not 'many'"),
        ("steps=1.5", "config argument steps is of type int, not '1.5'"),
        ("steps", "config argument steps needs a value: steps=10"),
        ("smoke=maybe", "config argument smoke is true or false, not 'maybe'"),
    ],
)
def test_a_bad_argument_is_an_error(arg, message):
    with pytest.raises(ValueError) as error:
        parse_arg(arg, variant="B/16", steps=10, smoke=False)
    assert str(error.value) == message


def test_pick_gives_a_choice_or_says_what_there_is():
    assert pick("mode", "a", {"a": 1, "b": 2}) == 1
    with pytest.raises(ValueError, match="mode is a or b, not 'c'"):
        pick("mode", "c", {"a": 1, "b": 2})


def test_plain_is_what_json_gives_back():
    nested = ConfigDict(dict(a=(1, ConfigDict(dict(b=2))), none=config.config_dict.placeholder(int), text="x"))
    assert plain(nested) == {"a": [1, {"b": 2}], "none": None, "text": "x"}
    assert json.loads(json.dumps(plain(nested))) == plain(nested)
    assert plain({"a": [ConfigDict(dict(b=(3,)))]}) == {"a": [{"b": [3]}]}
    assert plain(3.5) == 3.5


def test_difference_names_each_place():
    old = {"a": {"b": 1, "c": [1, 2]}, "gone": 0, "same": "x"}
    new = {"a": {"b": 2, "c": [1, 3]}, "same": "x", "new": {"d": 1}}
    assert difference(old, new) == [
        "a.b: 1 -> 2",
        "a.c: [1, 2] -> [1, 3]",
        "gone: 0 -> None",
        "new: None -> {'d': 1}",
    ]
    assert difference(old, old) == []
    assert difference(plain(spec(Built)), plain(spec(Built, value=1.0))) == ["value: 0.5 -> 1.0"]


def test_an_argument_with_a_default_can_be_left_to_run_time():
    described = spec(call, size=OPEN, pair=OPEN)
    assert set(described) == {"call", "number", "name", "nested"}
    offered = {"size": 9, "number": 3, "unknown": 1}
    assert taken(described, offered) == {"size": 9}  # the others are said, or not taken
    assert build_with(described, offered, 1) == (1, None, None, 9, None, (1, 2))


def test_nested_defaults_are_overridden_by_name():
    defaults = {"a": 1, "b": {"c": 2, "d": {"e": (3,)}}}
    assert overridden(defaults, {"e": (), "a": 5}) == {"a": 5, "b": {"c": 2, "d": {"e": ()}}}
    assert overridden(defaults, {}) == defaults
    with pytest.raises(ValueError, match="configs have no 'b'"):
        overridden(defaults, {"b": {}})
