"""What the bytes of a body show to be harmless passes the look at its values, whatever it is made of."""

import json

import jiter
from hypothesis import given
from hypothesis import strategies as st

from kt import http
from kt.errors import Invalid

NUMBERS = [
    "0",
    "-0",
    "7",
    "1e5",
    "1E-9",
    "2e-400",
    "1e400",
    "-1e+999",
    "9" * 300,
    "9" * 309,
    "8" * 401,
    "0." + "1" * 400,
]
TEXTS = ["", "},{", "],[", "}, {", '"', "\\", "[[[[", "}}}}", "1e5", "9" * 320]

leaves = (
    st.sampled_from([f"<{place}>" for place in range(len(NUMBERS))])
    | st.sampled_from(TEXTS)
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abce"), inner, max_size=3)
    ),
    max_leaves=40,
)


@given(values, st.lists(st.sampled_from("[{"), max_size=40), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))  # fmt: skip
def test_what_looks_harmless_is(
    value: object, around: list[str], separators: tuple[str, str]
) -> None:
    for bracket in around:
        value = [value, "},{"] if bracket == "[" else {"a": "],[", "e": value}
    text = json.dumps(value, separators=separators)
    for place, number in enumerate(NUMBERS):
        text = text.replace(f'"<{place}>"', number)
    data = text.encode()
    if http.harmless(data):
        http.check(jiter.from_json(data))  # raises nothing


@given(st.integers(0, 40), st.sampled_from("[{"))
def test_what_nests_too_deep_is_refused(levels: int, bracket: str) -> None:
    data = (
        (b'{"a":' if bracket == "{" else b"[") * levels
        + b"0"
        + (b"}" if bracket == "{" else b"]") * levels
    )
    try:
        http.parse(data)
        assert levels <= http.DEPTH
    except Invalid:
        assert levels > http.DEPTH
