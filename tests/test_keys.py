"""The files of the keys: what is written can be read, only by its owner, and whatever is wrong has its own message."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl import files
from p2pdl.errors import EXIT_USAGE, StartupError
from p2pdl.keys import AllowedKey, AllowList, allow, read_allowed, read_secret, secret_path, write_secret
from tests.processes import no_descriptor_left

A, B, C = ("a1" * 32, "b2" * 32, "c3" * 32)

not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root can read and write everything")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def message_of(folder: Path, name: str = "alpha") -> str:
    """What is said of a secret that cannot be used."""
    with pytest.raises(StartupError) as caught:
        read_secret(folder, name)
    assert caught.value.remedy and caught.value.exit_code == EXIT_USAGE
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the secret of alpha and a list of two nodes and an operator."""
    path = tmp_path / "keys"
    write_secret(path, "alpha", A)
    allow(path, [AllowedKey("alpha", A), AllowedKey("beta", B), AllowedKey("olga", C, operator=True)])
    return path


def test_secret_that_was_written_is_read(folder: Path) -> None:
    assert read_secret(folder, "alpha") == A
    assert (folder / "alpha.secret").read_text() == f"alpha secret {A}\n"


def test_files_are_their_owners_alone_whatever_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        write_secret(tmp_path / "keys", "alpha", A)
        write_secret(tmp_path / "keys", "alpha", B, force=True)
        allow(tmp_path / "keys", [AllowedKey("alpha", A)])
    finally:
        os.umask(mask)
    assert mode(tmp_path / "keys") == 0o700
    assert mode(tmp_path / "keys" / "alpha.secret") == 0o600
    assert mode(tmp_path / "keys" / "allowed") == 0o644


def test_secret_is_never_readable_by_others_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    sync = os.fsync

    def look(descriptor: int) -> None:
        status = os.fstat(descriptor)
        seen.append((stat.S_IMODE(status.st_mode), status.st_size))
        sync(descriptor)

    make_empty = os.open

    def open_and_look(path: str | Path, flags: int, permissions: int = 0o777) -> int:
        descriptor = make_empty(path, flags, permissions)
        if str(path).endswith(".secret"):
            assert flags & os.O_EXCL
            seen.append((stat.S_IMODE(os.fstat(descriptor).st_mode), 0))
        return descriptor

    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / ".gitignore").touch()
    monkeypatch.setattr(files.os, "fsync", look)
    monkeypatch.setattr(files.os, "open", open_and_look)
    write_secret(tmp_path / "keys", "alpha", A)
    assert seen == [(0o600, 0), (0o600, len(f"alpha secret {A}\n"))]


def test_secrets_are_kept_out_of_repositories(folder: Path) -> None:
    assert (folder / ".gitignore").read_text() == "*.secret\n"
    (folder / ".gitignore").write_text("mine\n")
    write_secret(folder, "beta", B)
    assert (folder / ".gitignore").read_text() == "mine\n"


def test_secret_that_is_there_is_replaced_only_by_force(folder: Path) -> None:
    with pytest.raises(StartupError, match="alpha.secret is there already and was left as it is") as caught:
        write_secret(folder, "alpha", B)
    assert "--force" in caught.value.remedy
    assert read_secret(folder, "alpha") == A
    write_secret(folder, "alpha", B, force=True)
    assert read_secret(folder, "alpha") == B
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "allowed", "alpha.secret"]


@pytest.mark.parametrize("permissions", [0o640, 0o604, 0o660, 0o620, 0o610, 0o777])
def test_secret_that_others_can_get_at_is_refused_with_the_line_to_run(folder: Path, permissions: int) -> None:
    (folder / "alpha.secret").chmod(permissions)
    text = message_of(folder)
    assert f"others can read the secret key {folder / 'alpha.secret'} (mode {permissions:04o})" in text
    assert text.endswith(f"-> chmod 600 {folder / 'alpha.secret'}")
    (folder / "alpha.secret").chmod(0o400)
    assert read_secret(folder, "alpha") == A


def test_line_to_run_is_quoted(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "my keys", "alpha", A)
    path.chmod(0o644)
    assert message_of(tmp_path / "my keys").endswith(f"-> chmod 600 '{path}'")


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "must be the one line `alpha secret KEY`, with 64 hexadecimal digits"),
        (f"alpha secret {A[:-1]}\n", "must be the one line"),
        (f"alpha secret {A}0\n", "must be the one line"),
        (f"alpha secret {A.upper()}\n", "must be the one line"),
        (f"alpha secret {A} operator\n", "must be the one line"),
        (f"alpha secret {A}\nbeta secret {B}\n", "must be the one line"),
        (f"{A}\n", "must be the one line"),
        ("\0\xff" * 100, "must be the one line"),
        (f"alpha secret {A}" + " " * 5000, "must be the one line"),
        (f"alpha public {A}\n", "holds a public key in the place of a secret one"),
        (f"alpha public {A}\nbeta public {B}\n", "holds a public key in the place of a secret one"),
        (f"beta secret {B}\n", "holds the secret of beta, not that of alpha"),
    ],
)
def test_file_that_holds_something_else_is_named_and_not_shown(folder: Path, content: str, expected: str) -> None:
    (folder / "alpha.secret").write_bytes(content.encode("latin-1"))
    text = message_of(folder)
    assert expected in text
    assert A[:8] not in text and B[:8] not in text


def test_secret_that_is_missing_says_how_to_get_one(folder: Path, tmp_path: Path) -> None:
    text = message_of(folder, "beta")
    assert f"there is no secret key for beta on this machine: {folder / 'beta.secret'} does not exist" in text
    assert "p2pdl keygen --name beta" in text
    assert "does not exist" in message_of(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "cannot be read: Not a directory" in message_of(tmp_path / "file")


def test_folder_in_the_place_of_a_secret_cannot_be_read(folder: Path) -> None:
    (folder / "beta.secret").mkdir()
    assert "beta.secret cannot be read: Is a directory" in message_of(folder, "beta")


@not_root
def test_files_of_somebody_else_cannot_be_read_or_written(folder: Path) -> None:
    (folder / "alpha.secret").chmod(0)
    assert "cannot be read: Permission denied" in message_of(folder)
    (folder / "allowed").chmod(0)
    with pytest.raises(StartupError, match="allowed cannot be read: Permission denied"):
        read_allowed(folder)
    folder.chmod(0o500)
    with pytest.raises(StartupError, match="cannot be written: Permission denied"):
        write_secret(folder, "beta", B)
    folder.chmod(0o700)


@pytest.mark.parametrize("name", ["", "../alpha", "a/b", "Alpha", "-a", "a" * 64, "älpha", "a b", ".", "a\n"])
def test_name_that_could_lead_elsewhere_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(StartupError, match="is no name for a key"):
        secret_path(folder, name)
    with pytest.raises(StartupError, match="is no name for a key"):
        write_secret(folder, name, A)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(StartupError, match="keys cannot be written: File exists") as caught:
        write_secret(tmp_path / "keys", "alpha", A)
    assert "security.keys" in caught.value.remedy


def test_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_secret(tmp_path / "keys", "alpha", A)
    allow(tmp_path / "keys", [AllowedKey("alpha", A)])
    before = {path.name: path.read_text() for path in (tmp_path / "keys").iterdir()}
    monkeypatch.setattr(files.os, "fsync", disk_full)
    with pytest.raises(StartupError, match="cannot be written: No space left on device"):
        write_secret(tmp_path / "keys", "beta", B)
    with pytest.raises(StartupError, match="cannot be written: No space left on device"):
        write_secret(tmp_path / "keys", "alpha", B, force=True)
    with pytest.raises(StartupError, match="cannot be written: No space left on device"):
        allow(tmp_path / "keys", [AllowedKey("beta", B)])
    assert {path.name: path.read_text() for path in (tmp_path / "keys").iterdir()} == before


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
KEYS = st.binary(min_size=32, max_size=32).map(bytes.hex)
ENTRIES = st.lists(
    st.builds(AllowedKey, NAMES, KEYS, st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=(lambda entry: entry.name, lambda entry: entry.public),
)


@given(ENTRIES, st.integers(0, 8))
def test_list_that_was_written_is_read_in_order(
    tmp_path_factory: pytest.TempPathFactory, entries: list[AllowedKey], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    allow(folder, entries[:cut])
    allow(folder, entries)
    assert list(read_allowed(folder).values()) == entries


def test_list_keeps_what_people_wrote_and_replaces_keys_in_place(folder: Path) -> None:
    path = folder / "allowed"
    path.write_text(f"# ours\n\nalpha   public {A}   # the big one\n  beta public {B}\nolga public {C} operator\n# end")
    path.chmod(0o640)
    new = "d4" * 32
    allow(folder, [AllowedKey("beta", new), AllowedKey("gamma", "e5" * 32)])
    assert path.read_text() == (
        f"# ours\n\nalpha   public {A}   # the big one\nbeta public {new}\nolga public {C} operator\n# end\n"
        f"gamma public {'e5' * 32}\n"
    )
    assert mode(path) == 0o640


def test_list_with_comments_alone_can_be_added_to(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text("# nobody yet\n")
    allow(tmp_path, [AllowedKey("alpha", A)])
    assert (tmp_path / "allowed").read_text() == f"# nobody yet\nalpha public {A}\n"


@pytest.mark.parametrize(
    "line, expected",
    [
        ("gamma", "the line is not `NAME public KEY`"),
        (f"gamma {C}", "the line is not"),
        (f"gamma public {C[:-2]}", "the line is not"),
        (f"gamma public {'d4' * 32} boss", "the line is not"),
        (f"gamma public {'d4' * 32} operator operator", "the line is not"),
        (f"GAMMA public {'d4' * 32}", "the line is not"),
        (f"gamma secret {'d4' * 32}", "a secret key among the public ones"),
        (f"alpha public {'d4' * 32}", "alpha has a key already"),
        (f"gamma public {A}", "the key of gamma is that of alpha"),
    ],
)
def test_line_that_is_none_is_named_by_its_number_and_nothing_is_changed(
    folder: Path, line: str, expected: str
) -> None:
    path = folder / "allowed"
    good = path.read_text()
    path.write_text(good + line + "\n")
    with pytest.raises(StartupError) as caught:
        read_allowed(folder)
    assert caught.value.message.startswith(f"{path}:{len(good.splitlines()) + 1}: {expected}")
    assert caught.value.remedy
    assert "d4d4" not in str(caught.value), "it could be a secret"
    with pytest.raises(StartupError):
        allow(folder, [AllowedKey("delta", "e5" * 32)])
    assert path.read_text() == good + line + "\n"


def test_key_of_somebody_else_cannot_be_added(folder: Path) -> None:
    before = (folder / "allowed").read_text()
    with pytest.raises(StartupError, match="the key of gamma is that of beta"):
        allow(folder, [AllowedKey("gamma", B)])
    assert (folder / "allowed").read_text() == before


def test_list_that_cannot_be_used_as_a_whole(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="does not exist") as caught:
        read_allowed(tmp_path / "nowhere")
    assert "p2pdl keygen" in caught.value.remedy
    path = folder / "allowed"
    path.chmod(0o646)
    with pytest.raises(StartupError, match="everybody on this machine can write") as caught:
        read_allowed(folder)
    assert caught.value.remedy == f"chmod o-w {path}"
    path.chmod(0o600)
    path.write_text("# nobody\n")
    with pytest.raises(StartupError, match="lists no key at all"):
        read_allowed(folder)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="cannot be read: it is not text"):
        read_allowed(folder)
    with pytest.raises(StartupError, match="cannot be read: it is not text"):
        allow(folder, [AllowedKey("alpha", A)])


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_has_a_message(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "allowed").write_text(text)
    with pytest.raises(StartupError) as caught:
        read_allowed(folder)
    assert caught.value.remedy


def test_list_is_read_again_when_it_has_changed(folder: Path) -> None:
    allowed = AllowList(folder)
    of_nodes = allowed.node_keys
    assert of_nodes == {"alpha": A, "beta": B}
    assert allowed.entries["olga"] == AllowedKey("olga", C, operator=True)
    before = allowed.entries
    assert not allowed.reload() and allowed.entries is before
    (folder / "allowed").write_text(f"beta public {B}\ngamma public {'d4' * 32}\n")
    assert allowed.reload() and not allowed.reload()
    assert of_nodes is allowed.node_keys == {"beta": B, "gamma": "d4" * 32}
    assert list(allowed.entries) == ["beta", "gamma"]


def test_list_that_breaks_is_said_once_and_stays_as_it_was(folder: Path) -> None:
    allowed, path = AllowList(folder), folder / "allowed"
    good = path.read_text()
    for breaking in (lambda: path.write_text("x"), path.unlink, lambda: path.write_text(""), lambda: path.chmod(0o666)):
        breaking()
        with pytest.raises(StartupError):
            allowed.reload()
        assert not allowed.reload()
        assert allowed.node_keys == {"alpha": A, "beta": B} and "olga" in allowed.entries
    path.write_text(good)
    with pytest.raises(StartupError, match="everybody"):
        allowed.reload()
    path.chmod(0o644)
    assert allowed.reload()


def test_list_that_cannot_be_opened_for_a_while_is_followed_then(folder: Path) -> None:
    allowed = AllowList(folder)
    (folder / "allowed").write_text(f"beta public {B}\n")
    with no_descriptor_left():
        with pytest.raises(StartupError):
            allowed.reload()
        assert not allowed.reload()
    assert allowed.reload() and allowed.node_keys == {"beta": B}
