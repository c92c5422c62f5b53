"""Page tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.errors import InvalidRequest
from pspsearch.rpc.page_token import read_token, write_token


@given(st.integers(0, 2**63 - 1), st.text(), st.text())
def test_token_is_read_as_it_was_written(last_key: int, collection: str, matching: str) -> None:
    """The token is for the same list, and fit for a URL."""
    token = write_token(last_key, collection, matching)

    assert read_token(token, collection, matching) == last_key
    assert token.replace("-", "").replace("_", "").isalnum()


def test_first_page_needs_no_token() -> None:
    """It begins before every key."""
    assert read_token("", "birds", "") == 0


@pytest.mark.parametrize(("collection", "matching"), [("fish", "wings = 2"), ("birds", ""), ("birds", "wings = 3")])
def test_token_of_another_list_is_refused(collection: str, matching: str) -> None:
    """A page of one list must not go on in another."""
    token = write_token(7, "birds", "wings = 2")

    with pytest.raises(InvalidRequest, match="another collection or filter"):
        read_token(token, collection, matching)


@given(st.text(min_size=1))
def test_what_is_no_token_is_refused(token: str) -> None:
    """Any such text gets the same one sentence."""
    with pytest.raises(InvalidRequest, match="page_token"):
        read_token(token, "birds", "")
