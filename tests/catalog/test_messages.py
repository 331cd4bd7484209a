"""Texts that operators write: read strictly, filled with whatever comes, never too long, never cut in an address."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.errors import CatalogError
from consumer.catalog.messages import (
    LONGEST,
    PLACEHOLDERS,
    ROOM,
    USUAL,
    USUAL_TEXTS,
    Placeholder,
    Value,
    read_message,
)
from consumer.catalog.templates import Catalog
from consumer.catalog.wording import clipped
from schemas.events import Resource
from schemas.outbound import NOTIFICATION_LIMIT, Outcome

WAYS_IN = PLACEHOLDERS[Outcome.PROVISIONED]


def filled(text: str, **values: str) -> str:
    given = {Placeholder(name): Value((value,)) for name, value in values.items()}
    return read_message(text, frozenset(Placeholder)).filled(given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{resource} until {until}", "GPU until 10:00 UTC"),
        ("{ resource }:{until}.", "GPU:10:00 UTC."),
        ("  on\n several\tlines  ", "on several lines"),
        ("{{resource}} [[{until}]]", "{resource} [10:00 UTC]"),
        ("{resource}[ at {url}]!", "GPU!"),
        ("{resource}[ at {url}][ with {ssh}]", "GPU with ssh u@h"),
        ("[{resource} ][{until}]", "GPU 10:00 UTC"),
        ("[{ssh} and {url}]x", "x"),
        ("{url}", ""),
        ("${resource} %s %(until)s", "$GPU %s %(until)s"),
    ],
)
def test_a_text_is_filled(text: str, message: str) -> None:
    assert filled(text, resource="GPU", until="10:00 UTC", ssh="ssh u@h") == message


def test_what_is_filled_in_is_not_read_again() -> None:
    assert (
        filled("{resource} {until}", resource="{until} [x] {0.__class__}", until="ten")
        == "{until} [x] {0.__class__} ten"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("{resorce}", 'has "{resorce}", which stands for nothing; did you mean "resource"?'),
        ("{}", 'has "{}", which stands for nothing; known here: access'),
        ("{resource.__class__}", 'has "{resource.__class__}", which stands for nothing'),
        ("{resource!r:>9999}", "which stands for nothing"),
        ("{reason}", "has {reason}, of which there is nothing to tell here; known here: access"),
        ("{resource", "has a { too many: write {{ for the character itself"),
        ("resource}", "has a } too many: write }} for the character itself"),
        ("[{url}", "has a [ that is not closed: write [[ for the character itself"),
        ("{url}]", "has a ] too many: write ]] for the character itself"),
        ("[a [{url}] b]", "has a [ too many"),
        ("{res[0]}", "has a { too many"),
        ("[always]", "has brackets without a placeholder in them"),
        ("{ssh} or {ssh}", "has {ssh} twice"),
        ("x\x00y", "holds characters that cannot be seen"),
        ("x\u202ey", "holds characters that cannot be seen"),
        ("x" * 501, "comes to 501 characters: shorten it to 500"),
        ("x" * 261 + "{url}", "comes to 261 characters: shorten it to 260, which leaves room for {url}"),
        ("{resource}" * 9, "comes to 540 characters with the longest names and times: shorten it to 500"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_message(text, WAYS_IN)


@pytest.mark.parametrize("outcome", Outcome)
def test_the_usual_texts_are_texts_like_any_other(outcome: Outcome) -> None:
    assert read_message(USUAL_TEXTS[outcome], PLACEHOLDERS[outcome]) == USUAL[outcome]


def test_what_matters_most_gets_the_room() -> None:
    message = read_message("{notes} {access} {url}", WAYS_IN)
    values = {
        Placeholder.ACCESS: Value(("a" * 300,)),
        Placeholder.URL: Value(("u" * 190,)),
        Placeholder.NOTES: Value(("n" * 20, "m" * 8)),
    }
    assert message.filled(values) == f"{'m' * 8} {'a' * 300} {'u' * 190}"


def test_brackets_go_as_a_whole_when_there_is_no_room_for_what_is_in_them() -> None:
    message = read_message("[Go to {url}] [or type {ssh}]", WAYS_IN)
    values = {Placeholder.SSH: Value(("s" * 480,)), Placeholder.URL: Value(("u" * 15,))}
    assert message.filled(values) == "or type " + "s" * 480


@pytest.mark.parametrize(
    ("text", "limit", "clip"),
    [
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two…"),
        ("one two  \n three", 9, "one two…"),
        ("onetwothree", 6, "onetw…"),
        ("see http://h/ and more", 16, "see http://h/ …"),
        ("see http://h/a and more", 14, "see…"),
        ("http://host/path", 9, "…"),
        ("nginx:1.27", 9, "…"),
        ("word", 1, "…"),
        ("word", 0, ""),
        ("word", -1, ""),
        ("", 0, ""),
        ("a\x1b[31m\x00b\u202ec\u200bd\u2028e", 40, "a [31m bcd e"),
    ],
)
def test_long_texts_are_cut_between_words_and_addresses_never(text: str, limit: int, clip: str) -> None:
    assert clipped(text, limit) == clip


words = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=20)
anything = st.text(max_size=700)
values = st.builds(Value, st.lists(anything, max_size=5).map(tuple), st.sampled_from([" ", " · "]), st.booleans())


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Texts without a mistake, but that they may be empty or too long."""
    text = ""
    for placeholder in draw(st.lists(st.sampled_from(Placeholder), max_size=8, unique=True)):
        before, after = (re.sub(r"([][{}])", r"\1\1", draw(words)) for _ in range(2))
        written = f"{before}{{{placeholder}}}{after}"
        text += f"[{written}]" if draw(st.booleans()) else written
    return text


@given(st.lists(texts() | st.text(max_size=20) | st.sampled_from(list("[]{}")), max_size=4).map("".join))
def test_whatever_the_text_is_it_is_read_or_its_mistake_named(text: str) -> None:
    try:
        message = read_message(text, frozenset(Placeholder))
    except ValueError as error:
        assert str(error).partition(" ")[0] in {"is", "has", "holds", "comes"}  # noqa: PT017 - one of two good ends
    else:
        assert message.parts


@given(texts(), st.dictionaries(st.sampled_from(Placeholder), values))
def test_every_text_that_is_accepted_fits_whatever_is_filled_in(text: str, given: dict[Placeholder, Value]) -> None:
    try:
        message = read_message(text, frozenset(Placeholder))
    except ValueError as error:
        assert re.match("is empty|comes to", str(error))  # noqa: PT017 - rare, and tested above
        return
    said = message.filled(given)
    assert len(said) <= NOTIFICATION_LIMIT
    assert said.isprintable()
    assert said == " ".join(said.split())


@given(st.dictionaries(st.sampled_from(Placeholder), values), st.sampled_from(Outcome))
def test_items_are_told_whole_or_not_at_all(given: dict[Placeholder, Value], outcome: Outcome) -> None:
    whole = {each: Value(value.items, value.between) for each, value in given.items()}
    for each in (Placeholder.ACCESS, Placeholder.SSH, Placeholder.URL, Placeholder.PORTS, Placeholder.ADVICE):
        if each not in PLACEHOLDERS[outcome]:
            continue
        told = read_message(f"<[<{{{each}}}>]>", PLACEHOLDERS[outcome]).filled(whole)
        value = whole.get(each, Value())
        left = told.removeprefix("<").removesuffix(">").removeprefix("<").removesuffix(">").strip()
        for item in (clipped(item, 9999) for item in value.items):
            left = left.replace(item, "", 1) if item else left
        assert left.replace("·", "").strip() == ""


def test_the_longest_names_and_times_still_leave_room() -> None:
    for message in USUAL.values():
        if not set(message.placeholders) <= set(LONGEST):
            assert message.longest <= NOTIFICATION_LIMIT - ROOM


FILE = """
version: 1
messages:
  provisioned: "{resource} è pronta fino alle {until}.[ Accesso: {ssh}][ Pagina: {url}]"
  failed: "{resource}: {reason}"
templates:
  - {name: gpu, match: {type: GPU}, runtime: docker, image: nginx, messages: {failed: "GPU! {reason}"}}
  - {name: linux, match: {type: Linux container}, runtime: docker, image: nginx}
"""


def test_texts_of_a_template_count_more_than_those_of_the_file_and_those_more_than_the_usual_ones() -> None:
    catalog = Catalog.from_yaml(FILE, instance="test")
    why = {Placeholder.RESOURCE: Value(("R",)), Placeholder.REASON: Value(("No.",))}
    gpu, other = Resource("1", type="GPU"), Resource("2", type="Unknown")
    assert catalog.messages_for(None, gpu)[Outcome.FAILED].filled(why) == "GPU! No."
    assert catalog.messages_for(None, other)[Outcome.FAILED].filled(why) == "R: No."
    assert catalog.messages_for("gpu", other)[Outcome.FAILED].filled(why) == "GPU! No."
    assert catalog.messages_for("linux", gpu)[Outcome.FAILED].filled(why) == "R: No."
    assert catalog.messages_for("no longer there", gpu)[Outcome.FAILED].filled(why) == "GPU! No."
    ready = {Placeholder.RESOURCE: Value(("R",)), Placeholder.UNTIL: Value(("dieci",)), Placeholder.SSH: Value(("s",))}
    for template in ("gpu", "linux"):
        texts = catalog.messages_for(template, other)
        assert texts[Outcome.PROVISIONED].filled(ready) == "R è pronta fino alle dieci. Accesso: s"
        assert texts[Outcome.EXPIRED] == USUAL[Outcome.EXPIRED]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ('{faild: "x"}', 'templates.yaml:3: messages.faild: is not known; did you mean "failed"?'),
        (
            '\n  failed: "x"\n  updated: "{untl}"',
            'templates.yaml:5: messages.updated: has "{untl}", which stands for nothing; did you mean "until"?',
        ),
        ("{failed: [x]}", "templates.yaml:3: messages.failed: is not a text"),
        ("{failed: }", "templates.yaml:3: messages.failed: has no value"),
        ("x", "templates.yaml:3: messages: is not a set of keys"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(messages: str, problem: str) -> None:
    text = f"\nversion: 1\nmessages: {messages}\ntemplates: [{{name: a, runtime: docker, image: nginx}}]\n"
    with pytest.raises(CatalogError) as caught:
        Catalog.from_yaml(text, instance="test")
    (found,) = caught.value.problems
    assert found.startswith(problem)


def test_a_mistake_in_a_template_names_it() -> None:
    text = 'version: 1\ntemplates: [{name: a, runtime: docker, image: nginx, messages: {expired: "{ssh}"}}]\n'
    with pytest.raises(CatalogError, match=r'templates\[0\].messages.expired \(template "a"\): has \{ssh\}, of which'):
        Catalog.from_yaml(text, instance="test")
