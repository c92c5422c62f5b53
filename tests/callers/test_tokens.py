"""The file of tokens: creating them, reading them back, and what a broken file does."""

import json
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from pspsearch.callers.access import Access, Right
from pspsearch.callers.tokens import Tokens, create_token, read_tokens, revoke_token
from pspsearch.cli import commands
from pspsearch.errors import AlreadyExists, BadSettings, Forbidden, InvalidRequest, NotFound, Unauthenticated

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LIMITED = Access("shop", Right.WRITE, frozenset({"photos", "shoes"}), 2.5, 1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that does not exist yet."""
    return tmp_path / "tokens.json"


def test_token_is_known_by_its_text_alone(path: Path) -> None:
    """What it was given comes back whole; the file holds nothing that could be shown to a server."""
    text = create_token(path, LIMITED, None)
    other = create_token(path, Access("other"), None)

    tokens = Tokens(path)

    assert tokens.find(text).access == LIMITED
    assert tokens.find(other).access == Access("other")
    assert text.startswith("pspsearch_")
    assert len({text, other, create_token(path, Access("third"), None)}) == 3
    assert not any(part in path.read_text() for part in (text, text.removeprefix("pspsearch_")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "pspsearch_", "pspsearch_x", "ü", "\udc80", "x" * 100_000])
def test_other_text_is_refused(path: Path, text: str) -> None:
    """It is refused, whatever it is, and the error does not repeat it."""
    create_token(path, LIMITED, None)

    with pytest.raises(Unauthenticated, match=r"^the token is not one that the server knows$"):
        Tokens(path).find(text)


def test_digest_is_no_token(path: Path) -> None:
    """A thief of the file cannot come in with what stands in it."""
    create_token(path, LIMITED, None)
    (token,) = read_tokens(path)

    with pytest.raises(Unauthenticated):
        Tokens(path).find(token.sha256)


def test_token_ends_at_its_time(path: Path) -> None:
    """It ends exactly then, without any change of the file."""
    text = create_token(path, LIMITED, NOW)
    now = NOW - timedelta(microseconds=1)
    tokens = Tokens(path, now=lambda: now)

    assert tokens.find(text).access == LIMITED

    now = NOW
    with pytest.raises(Unauthenticated, match="the token shop has expired"):
        tokens.find(text)


def test_change_counts_from_the_next_look_on(path: Path) -> None:
    """The token is revoked, created again under the same name, and lost with its file."""
    old = create_token(path, LIMITED, None)
    tokens = Tokens(path)
    tokens.find(old)

    revoke_token(path, "shop")
    with pytest.raises(Unauthenticated):
        tokens.find(old)

    new = create_token(path, Access("shop", Right.READ), None)
    assert tokens.find(new).access.right is Right.READ
    with pytest.raises(Unauthenticated):
        tokens.find(old)

    content = path.read_bytes()
    path.unlink()
    with pytest.raises(Unauthenticated, match="cannot read its file of tokens"):
        tokens.find(new)

    path.write_bytes(content)
    assert tokens.find(new).access.right is Right.READ


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"tokens": {}, "more": 1',
        '{"tokens": [{}]}',
        '{"tokens": ["x"]}',
        '{"tokens": [["name", "sha256"]]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": 1, "created": "2030-01-01"}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "read", "created": "2030-01-01", "calls_per_s": -1}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "read", "created": "2030-01-01", "calls_per_s": NaN}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "everything", "created": "2030-01-01"}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "read", "created": "soon"}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "read", "created": "2030-01-01", "collections": []}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "read", "created": "2030-01-01", "collections": "ab"}]}',
        '{"tokens": [{"name": "a", "sha256": "b", "right": "read", "created": "2030-01-01", "expire": "2031-01-01"}]}',
    ],
)
def test_broken_file_lets_nobody_in(path: Path, content: str) -> None:
    """It lets nobody in, at the start or later; a misspelt bound is not taken for none."""
    text = create_token(path, LIMITED, None)
    tokens = Tokens(path)
    path.write_text(content)

    with pytest.raises(Unauthenticated, match="cannot read its file of tokens"):
        tokens.find(text)
    with pytest.raises(BadSettings, match=r"tokens\.json is no file of tokens"):
        Tokens(path)
    with pytest.raises(BadSettings):
        create_token(path, Access("new"), None)
    assert path.read_text() == content


def test_mistakes_are_sentences(path: Path) -> None:
    """The error names what was meant."""
    with pytest.raises(BadSettings, match=r"tokens\.json cannot be read: No such file"):
        Tokens(path)
    create_token(path, LIMITED, None)
    with pytest.raises(AlreadyExists, match="there is a token shop in"):
        create_token(path, Access("shop"), None)
    with pytest.raises(NotFound, match="there is no token nobody in"):
        revoke_token(path, "nobody")
    for name in ("", "-x", "a b", "a\nb", "x" * 65):
        with pytest.raises(InvalidRequest, match="a token's name is"):
            create_token(path, Access(name), None)
    assert [one.access.holder for one in read_tokens(path)] == ["shop"]


def test_changes_at_the_same_time_are_all_made(path: Path) -> None:
    """No token is overwritten by another one."""
    threads = [threading.Thread(target=create_token, args=(path, Access(f"t{n}"), None)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {one.access.holder for one in read_tokens(path)} == {f"t{n}" for n in range(20)}
    assert [found.name for found in path.parent.iterdir()] == ["tokens.json"]


@pytest.mark.parametrize(
    ("access", "right", "collection", "may"),
    [
        (Access("a", Right.READ), Right.READ, "photos", True),
        (Access("a", Right.READ), Right.READ, None, True),
        (Access("a", Right.READ), Right.WRITE, "photos", False),
        (Access("a", Right.WRITE), Right.READ, "photos", True),
        (Access("a", Right.WRITE), Right.ADMIN, "photos", False),
        (Access("a", Right.ADMIN), Right.ADMIN, None, True),
        (LIMITED, Right.WRITE, "shoes", True),
        (LIMITED, Right.READ, "default", False),
        (LIMITED, Right.READ, None, True),
        (LIMITED, Right.WRITE, None, False),
        (LIMITED, Right.ADMIN, "shoes", False),
    ],
)
def test_rights(access: Access, right: Right, collection: str | None, *, may: bool) -> None:
    """Each right includes those before it, and collections bound all of them."""
    if may:
        access.check(right, collection)
    else:
        with pytest.raises(Forbidden):
            access.check(right, collection)


def test_command_line(path: Path) -> None:
    """It creates tokens, lists them without secrets, and revokes them; it prints only the text, for pipes."""

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(commands, ["token", *arguments], env={"PSPSEARCH_TOKENS": str(path)})
        assert done.exit_code == 0, done.output
        return done.output

    text = run("create", "shop", "--right", "write", "--collection", "photos", "--days", "30").strip()
    run("create", "ops", "--right", "admin", "--calls-per-s", "5", "--max-request-bytes", "100")

    assert Tokens(path).find(text).access == Access("shop", Right.WRITE, frozenset({"photos"}))
    listed = run("list") + run("list", "--json")
    assert text not in listed
    assert read_tokens(path)[0].sha256 not in listed
    shop, ops = json.loads(run("list", "--json"))
    assert (shop["name"], shop["right"], shop["collections"], shop["good"]) == ("shop", "write", ["photos"], True)
    left = datetime.fromisoformat(shop["expires"]) - datetime.now(UTC)
    assert timedelta(days=29.9) < left < timedelta(days=30.1)
    assert (ops["name"], ops["expires"]) == ("ops", None)
    assert run("revoke", "shop") == "revoked shop\n"
    assert [one.access.holder for one in read_tokens(path)] == ["ops"]
