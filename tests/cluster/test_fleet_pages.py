"""fleet's page tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.api.pages import LIMIT, Page

pages = st.builds(
    Page,
    st.integers(1, 65535),
    st.dictionaries(st.sampled_from(["machineID", "unitName"]), st.text(min_size=1)),
)


@given(pages)
def test_a_token_names_its_page(page: Page) -> None:
    assert Page.parse(page.token) == page


@given(st.text())
def test_anything_else_is_a_value_error(token: str) -> None:
    try:
        assert Page.parse(token).number > 0
    except ValueError:
        pass


def test_tokens_are_fleets() -> None:
    assert Page(2).token == "ZAACAA=="
    assert Page.parse("ZABMLg==") == Page(11852)


@given(st.integers(0, 3 * LIMIT))
def test_pages_make_the_list(length: int) -> None:
    values, found, page = list(range(length)), [], Page()
    while True:
        part, token = page.cut(values)
        assert len(part) == LIMIT or token is None
        found += part
        if token is None:
            break
        page = Page.parse(token)
    assert found == values


@pytest.mark.parametrize("length", [LIMIT, 2 * LIMIT])
def test_a_full_page_can_be_the_last(length: int) -> None:
    assert Page(length // LIMIT).cut(range(length))[1] is None
