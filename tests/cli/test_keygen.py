"""`p2pdl keygen`: keys for whoever has none, a list of all, and never a secret overwritten by accident."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pdl.cli import program
from p2pdl.config import load
from p2pdl.keys import AllowedKey, AllowList, allow, read_allowed, read_secret, write_secret
from p2pdl.transport.curve import load_identity, make_keypair, public_of

FILE = """\
cluster:
  name: lab
nodes:
  - name: alpha
    address: 127.0.0.1:7101
  - name: beta
    address: 192.0.2.7:7101
  - name: gamma
    address: gpu.example:7101
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "peers.yaml").write_text(FILE)


def keygen(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["keygen", *arguments])


def secrets() -> dict[str, str]:
    """What every file of a secret holds, by its name."""
    return {path.name: path.read_text() for path in Path("keys").glob("*.secret")}


def states(*arguments: str) -> dict[str, str]:
    """What has been done about each key."""
    result = keygen("--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return {key["name"]: key["state"] for key in json.loads(result.stdout)["keys"]}


def test_every_node_gets_a_secret_and_a_line_in_the_list() -> None:
    result = keygen()
    assert result.exit_code == 0
    allowed = AllowList(Path("keys"))
    assert list(allowed.entries) == ["alpha", "beta", "gamma"]
    for name in ("alpha", "beta", "gamma"):
        assert load_identity(Path("keys"), name, allowed).name == name
        assert stat.S_IMODE(Path(f"keys/{name}.secret").stat().st_mode) == 0o600
    assert len({entry.public for entry in allowed.entries.values()}) == 3


def test_which_file_belongs_where_is_told_and_no_secret_is() -> None:
    result = keygen()
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "alpha, beta, gamma: a new pair",
        "",
        "keys/allowed to every machine, into the folder of the same name",
        "keys/alpha.secret stays on this machine",
        "keys/beta.secret to 192.0.2.7 and nowhere else; then remove it here",
        "keys/gamma.secret to gpu.example and nowhere else; then remove it here",
    ]
    for name in ("alpha", "beta", "gamma"):
        assert read_secret(Path("keys"), name) not in result.stdout + keygen("--json").stdout


def test_second_run_leaves_everything_as_it_is() -> None:
    keygen()
    before = secrets(), Path("keys/allowed").read_bytes()
    assert states() == {"alpha": "kept", "beta": "kept", "gamma": "kept"}
    assert (secrets(), Path("keys/allowed").read_bytes()) == before


def test_node_whose_secret_is_on_another_machine_keeps_its_key() -> None:
    keygen()
    before = Path("keys/allowed").read_bytes()
    Path("keys/beta.secret").unlink()
    assert states() == {"alpha": "kept", "beta": "elsewhere", "gamma": "kept"}
    result = keygen()
    assert "beta: on the list already, with its secret on another machine" in result.stdout
    assert "beta.secret" not in result.stdout
    assert Path("keys/allowed").read_bytes() == before and not Path("keys/beta.secret").exists()
    named = keygen("--name", "beta")
    assert named.exit_code == 2
    assert "beta is on the list already, and" in named.stderr and "--force" in named.stderr
    assert Path("keys/allowed").read_bytes() == before


def test_new_node_is_added_and_the_others_stay() -> None:
    keygen()
    before = secrets()
    Path("peers.yaml").write_text(FILE + "  - name: delta\n    address: 192.0.2.8:7101\n")
    assert states() == {"alpha": "kept", "beta": "kept", "gamma": "kept", "delta": "made"}
    assert {name: text for name, text in secrets().items() if name != "delta.secret"} == before
    assert list(read_allowed(Path("keys"))) == ["alpha", "beta", "gamma", "delta"]


def test_secret_that_is_not_listed_yet_is_listed() -> None:
    secret, public = make_keypair()
    write_secret(Path("keys"), "beta", secret)
    assert states() == {"alpha": "made", "beta": "listed", "gamma": "made"}
    assert read_allowed(Path("keys"))["beta"] == AllowedKey("beta", public)


def test_named_nodes_alone_get_keys() -> None:
    assert states("--name", "gamma", "--name", "alpha") == {"alpha": "made", "gamma": "made"}
    assert sorted(secrets()) == ["alpha.secret", "gamma.secret"]
    assert list(read_allowed(Path("keys"))) == ["alpha", "gamma"]


def test_force_makes_new_keys_for_those_that_are_named() -> None:
    keygen()
    before, listed = secrets(), read_allowed(Path("keys"))
    assert states("--name", "beta", "--force") == {"beta": "made"}
    after, now = secrets(), read_allowed(Path("keys"))
    assert {name for name in before if before[name] != after[name]} == {"beta.secret"}
    assert {name for name in listed if listed[name] != now[name]} == {"beta"}
    assert now["beta"].public == public_of(read_secret(Path("keys"), "beta"))
    assert states("--force") == {"alpha": "made", "beta": "made", "gamma": "made"}
    assert not set(secrets().values()) & set(after.values())


def test_operator_may_look_and_is_told_apart() -> None:
    keygen()
    assert states("--operator", "olga") == {"olga": "made"}
    assert read_allowed(Path("keys"))["olga"].operator
    assert states("--operator", "olga") == {"olga": "kept"}
    assert sorted(AllowList(Path("keys")).node_keys) == ["alpha", "beta", "gamma"]
    text = keygen("--operator", "olga").stdout
    assert "to the machine from which olga looks" in " ".join(text.split())


def test_name_cannot_be_a_nodes_and_an_operators() -> None:
    result = keygen("--operator", "alpha")
    assert result.exit_code == 2 and "alpha is a node of" in result.stderr
    keygen("--operator", "delta")
    Path("peers.yaml").write_text(FILE + "  - name: delta\n    address: 192.0.2.8:7101\n")
    result = keygen()
    assert result.exit_code == 2 and "lists delta as an operator" in result.stderr
    assert sorted(secrets()) == ["delta.secret"], "nothing is made before all is known to be right"


def test_unknown_node_is_answered_with_the_nearest_and_nothing_is_made() -> None:
    result = keygen("--name", "alpa")
    assert result.exit_code == 2 and "did you mean --name alpha?" in result.stderr
    assert not Path("keys").exists()


@pytest.mark.parametrize("name", ["../up", "Olga", ""])
def test_operator_with_a_name_that_cannot_be_is_refused(name: str) -> None:
    result = keygen("--operator", name)
    assert result.exit_code == 2 and "is no name for a key" in result.stderr
    assert not Path("keys").exists()


def test_secret_that_does_not_belong_to_its_line_is_told() -> None:
    keygen()
    write_secret(Path("keys"), "beta", make_keypair()[0], force=True)
    result = keygen()
    assert result.exit_code == 2 and "does not belong to the public key that" in result.stderr


def test_folder_is_the_one_that_the_file_says() -> None:
    Path("peers.yaml").write_text(FILE + "security:\n  keys: elsewhere/keys\n")
    said = json.loads(keygen("--json").stdout)
    assert said["folder"] == str(Path.cwd() / "elsewhere" / "keys")
    assert said["allowed"] == f"{said['folder']}/allowed"
    assert {key["secret"] for key in said["keys"]} == {
        f"{said['folder']}/{name}.secret" for name in ("alpha", "beta", "gamma")
    }
    assert all(Path(key["secret"]).exists() and key["operator"] is False for key in said["keys"])
    keygen("--set", "security.keys=third")
    assert Path("third/allowed").exists()


def test_those_who_are_not_in_the_file_are_named() -> None:
    keygen()
    allow(Path("keys"), [AllowedKey("former", make_keypair()[1])])
    assert "former: on the list, but not in peers.yaml" in keygen().stdout
    assert json.loads(keygen("--json").stdout)["unknown"] == ["former"]


def test_file_that_wants_no_keys_is_told_so() -> None:
    Path("peers.yaml").write_text(FILE + "security: none\n")
    assert "says `security: none`: change that, or no key is used" in keygen().stdout


def test_file_that_is_missing_is_wrong_usage() -> None:
    Path("peers.yaml").unlink()
    assert keygen().exit_code == 2


def test_init_makes_both_in_one_step() -> None:
    result = CliRunner().invoke(program, ["init", "new.yaml", "--keys"])
    assert result.exit_code == 0
    assert "node1, node2, node3, node4: a new pair" in result.stdout and "p2pdl up --config new.yaml" in result.stdout
    assert list(read_allowed(Path("keys"))) == list(load("new.yaml").names)
    before = secrets()
    assert CliRunner().invoke(program, ["init", "new.yaml", "--keys"]).exit_code == 2
    again = CliRunner().invoke(program, ["init", "new.yaml", "--keys", "--force"])
    assert again.exit_code == 0 and secrets() == before
