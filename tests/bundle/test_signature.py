"""Signing a bundle and checking who signed it, with keys as OpenSSL and OpenSSH write them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgecompress.bundle import verify_bundle
from edgecompress.bundle.digests import SIGNATURES, list_text
from edgecompress.bundle.packing import pack_bundle, unpack_bundle
from edgecompress.bundle.signature import (
    read_private_key,
    read_public_key,
    sign_bundle,
    verify_signed,
)
from edgecompress.cli.bundle import bundle as command
from edgecompress.cli.main import cli
from edgecompress.errors import BundleError, DataError, EdgeCompressError
from edgecompress.installing import install_extra
from edgecompress.values import Candidate, file_digest

MakeBundle = Callable[..., Path]
Key = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PASSWORD = b"open sesame"
RAW = form.NoEncryption()


def write_keys(folder: Path, name: str, key: Key, style: str, password: bytes = b"") -> None:
    """Write ``NAME`` and ``NAME.pub``; `style` is ``pem`` or ``ssh``."""
    assert isinstance(
        key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    )
    ssh = style == "ssh"
    encryption = form.BestAvailableEncryption(password) if password else RAW
    private = form.PrivateFormat.OpenSSH if ssh else form.PrivateFormat.PKCS8
    text = key.private_bytes(form.Encoding.PEM, private, encryption)
    (folder / name).write_bytes(text)
    public = (
        (form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        if ssh
        else (form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(*public))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of keys, right and wrong ones."""
    folder = tmp_path_factory.mktemp("keys")
    make = ed25519.Ed25519PrivateKey.generate
    write_keys(folder, "pem", make(), "pem")
    write_keys(folder, "ssh", make(), "ssh")
    write_keys(folder, "other", make(), "pem")
    write_keys(folder, "locked-pem", make(), "pem", PASSWORD)
    write_keys(folder, "locked-ssh", make(), "ssh", PASSWORD)
    write_keys(folder, "rsa", rsa.generate_private_key(65537, 2048), "pem")
    write_keys(folder, "ec", ec.generate_private_key(ec.SECP256R1()), "ssh")
    (folder / "text").write_text("no key")
    (folder / "empty").touch()
    (folder / "password").write_bytes(PASSWORD + b"\r\nand more\n")
    (folder / "wrong-password").write_text("abracadabra\n")
    return folder


@pytest.fixture
def bundle(tagger: Candidate, make_bundle: MakeBundle) -> Path:
    return make_bundle(tagger, report_html="<p>")


def ask(*arguments: str | Path) -> tuple[int, str]:
    """Run ``edgecompress bundle``; give the exit code and what was said."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, EdgeCompressError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


@pytest.mark.parametrize("kind", ["pem", "ssh"])
def test_what_was_signed_verifies(bundle: Path, keys: Path, kind: str) -> None:
    before = {path: file_digest(path) for path in bundle.rglob("*") if path.is_file()}
    code, said = ask("sign", bundle, "--key", keys / kind)
    assert (code, said) == (0, f"{bundle}: signed (core.sha256.sig, evidence.sha256.sig)\n")
    assert ask("verify", bundle, "--key", keys / f"{kind}.pub") == (
        0,
        f"{bundle}: whole and signed (core and evidence)\n",
    )
    assert ask("verify", bundle)[0] == 0
    assert all((bundle / name).stat().st_size == 64 for name in SIGNATURES)
    # The bundle is the bundle it was, and signing again gives the same bytes.
    assert before == {path: file_digest(path) for path in before}
    signatures = [(bundle / name).read_bytes() for name in SIGNATURES]
    assert ask("sign", bundle, "--key", keys / kind)[0] == 0
    assert signatures == [(bundle / name).read_bytes() for name in SIGNATURES]
    assert {path.name for path in bundle.iterdir()} >= set(SIGNATURES)
    assert not list(bundle.glob(".*"))


@pytest.mark.debian("openssl")
def test_openssl_checks_it_too(bundle: Path, keys: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the Debian package openssl")
    sign_bundle(bundle, read_private_key(keys / "pem"))
    both = bundle.parent / "both"
    both.write_bytes(
        (bundle / "core.sha256").read_bytes() + (bundle / "evidence.sha256").read_bytes()
    )
    check = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(keys / "pem.pub"), "-rawin"]
    for signed, name in ((bundle / "core.sha256", SIGNATURES[0]), (both, SIGNATURES[1])):
        done = subprocess.run([*check, "-in", str(signed), "-sigfile", str(bundle / name)])
        assert done.returncode == 0


@pytest.mark.parametrize("kind", ["locked-pem", "locked-ssh"])
def test_a_locked_key_needs_its_password(bundle: Path, keys: Path, kind: str) -> None:
    key = keys / kind
    assert "give its password with --password-file" in ask("sign", bundle, "--key", key)[1]
    wrong = ask("sign", bundle, "--key", key, "--password-file", keys / "wrong-password")
    assert "is the password the right one?" in wrong[1]
    assert ask("sign", bundle, "--key", key, "--password-file", keys / "password")[0] == 0
    assert ask("verify", bundle, "--key", keys / f"{kind}.pub")[0] == 0
    needless = ask("sign", bundle, "--key", keys / "pem", "--password-file", keys / "password")
    assert "is not encrypted; leave --password-file out" in needless[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pem.pub", "is a public key"),
        ("ssh.pub", "is a public key"),
        ("rsa", "must be Ed25519"),
        ("ec", "must be Ed25519"),
        ("text", "no private key in PEM or OpenSSH's form"),
        ("empty", "no private key in PEM or OpenSSH's form"),
        ("missing", "cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_sign_is_refused_in_words(
    bundle: Path, keys: Path, name: str, words: str
) -> None:
    code, said = ask("sign", bundle, "--key", keys / name)
    assert code == 2
    assert said.startswith(f"{keys / name}: ")
    assert words in said
    assert "\n" not in said
    assert not any((bundle / signature).exists() for signature in SIGNATURES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pem", "is a private key"),
        ("ssh", "is a private key"),
        ("rsa.pub", "must be Ed25519"),
        ("ec.pub", "must be Ed25519"),
        ("text", "no public key in PEM or OpenSSH's form"),
        ("missing", "cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_verify_is_refused_in_words(
    bundle: Path, keys: Path, name: str, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        verify_signed(bundle, read_public_key(keys / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def refused(bundle: Path, key: Path) -> str:
    code, said = ask("verify", bundle, "--key", key)
    assert code == 1
    assert "\n" not in said
    return said


def test_another_key_does_not_fit(bundle: Path, keys: Path) -> None:
    sign_bundle(bundle, read_private_key(keys / "pem"))
    said = refused(bundle, keys / "other.pub")
    assert said.startswith(f"{bundle}/core.sha256.sig: was not made with this key")


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_missing_signature_is_told(bundle: Path, keys: Path, name: str) -> None:
    assert "core.sha256.sig: missing; the bundle is not signed" in refused(bundle, keys / "pem.pub")
    sign_bundle(bundle, read_private_key(keys / "pem"))
    (bundle / name).unlink()
    assert f"{name}: missing" in refused(bundle, keys / "pem.pub")
    assert ask("verify", bundle)[0] == 0


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_damaged_signature_is_told(bundle: Path, keys: Path, name: str) -> None:
    sign_bundle(bundle, read_private_key(keys / "pem"))
    good = (bundle / name).read_bytes()
    for place in (0, 31, 63):
        damaged = bytearray(good)
        damaged[place] ^= 1
        (bundle / name).write_bytes(damaged)
        assert f"{name}: was not made with this key" in refused(bundle, keys / "pem.pub")
    (bundle / name).write_bytes(good[:-1])
    assert f"{name}: no signature, which has 64 bytes" in refused(bundle, keys / "pem.pub")
    with pytest.raises(BundleError, match="no signature"):  # without a key, too
        verify_bundle(bundle)


@pytest.mark.parametrize("changed", ["manifest.json", "evidence/report.html"])
def test_who_changes_a_file_and_its_list_is_found(bundle: Path, keys: Path, changed: str) -> None:
    sign_bundle(bundle, read_private_key(keys / "pem"))
    file = bundle / changed
    old = file_digest(file)
    file.write_bytes(file.read_bytes() + b"\n")
    assert "differs from its digest" in refused(bundle, keys / "pem.pub")
    for listing in (bundle / "core.sha256", bundle / "evidence.sha256"):
        listing.write_text(listing.read_text().replace(old, file_digest(file)))
    assert ask("verify", bundle)[0] == 0  # the lists are consistent again
    name = SIGNATURES[changed.startswith("evidence/")]
    assert f"{name}: was not made with this key" in refused(bundle, keys / "pem.pub")


def test_evidence_cannot_move_to_another_core(
    tagger: Candidate, classifier: Candidate, make_bundle: MakeBundle, keys: Path
) -> None:
    one = make_bundle(tagger, "one", report_html="<p>good")
    two = make_bundle(classifier, "two", report_html="<p>bad")
    for bundle in (one, two):
        sign_bundle(bundle, read_private_key(keys / "pem"))
    shutil.rmtree(two / "evidence")
    shutil.copytree(one / "evidence", two / "evidence")
    for name in ("evidence.sha256", "evidence.sha256.sig"):
        shutil.copyfile(one / name, two / name)
    assert ask("verify", two)[0] == 0
    assert "evidence.sha256.sig: was not made with this key" in refused(two, keys / "pem.pub")


def test_a_core_alone_is_signed_too(bundle: Path, keys: Path, tmp_path: Path) -> None:
    sign_bundle(bundle, read_private_key(keys / "ssh"))
    for core in (False, True):
        packed = pack_bundle(bundle, tmp_path / f"{core}.tar.zst", core=core)
        assert ask("verify", packed, "--key", keys / "ssh.pub")[0] == 0
        assert ask("verify", packed, "--key", keys / "pem.pub")[0] == 1
        unpacked = unpack_bundle(packed, tmp_path / f"unpacked-{core}")
        assert (unpacked / SIGNATURES[0]).is_file()
        assert (unpacked / SIGNATURES[1]).is_file() is not core
        assert ask("verify", unpacked, "--core-only", "--key", keys / "ssh.pub")[0] == 0


def test_a_damaged_bundle_is_not_signed(bundle: Path, keys: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"{}")
    code, said = ask("sign", bundle, "--key", keys / "pem")
    assert code == 1
    assert "manifest.json: differs from its digest" in said
    assert not any((bundle / name).exists() for name in SIGNATURES)


def test_a_missing_extra_names_the_pip_line(bundle: Path, keys: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from edgecompress.cli.main import main; main(['bundle', *sys.argv[1:]])"
    )
    for arguments in (["sign", "--key", keys / "pem"], ["verify", "--key", keys / "pem.pub"]):
        command = [sys.executable, "-c", code, *map(str, arguments), str(bundle)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == (
            f"edgecompress: cryptography is needed for this; {install_extra('sign')}\n"
        )


USES = ("predict {bundle} sannu", "serve {bundle} --port 0", "image {bundle} --context-only {out}")
"""Commands that use a bundle's directory and take ``--key``."""


@pytest.mark.parametrize("line", USES)
@pytest.mark.parametrize("kind", ["unsigned", "other", "changed"])
def test_nothing_of_a_bundle_is_used_before_its_signature(
    tagger: Candidate, make_bundle: MakeBundle, keys: Path, tmp_path: Path, line: str, kind: str
) -> None:
    bundle = make_bundle(tagger)
    if kind != "unsigned":
        signer = "other" if kind == "other" else "pem"
        sign_bundle(bundle, read_private_key(keys / signer))
    if kind == "changed":  # and the list is made again, as who changes a bundle would
        (bundle / "preprocessor" / "tokenizer.json").write_text("{}")
        names = [row.split("  ")[1] for row in (bundle / "core.sha256").read_text().splitlines()]
        (bundle / "core.sha256").write_bytes(list_text(bundle, names))
    words = line.format(bundle=bundle, out=tmp_path / "context").split()
    found = CliRunner().invoke(cli, [*words, "--key", str(keys / "pem.pub")])
    assert isinstance(found.exception, BundleError), found.output
    assert "core.sha256" in str(found.exception)
    assert not (tmp_path / "context").exists()


def test_a_signed_bundle_is_used(
    tagger: Candidate, make_bundle: MakeBundle, keys: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tagger)
    sign_bundle(bundle, read_private_key(keys / "pem"))
    key = ["--key", str(keys / "pem.pub")]
    found = CliRunner().invoke(cli, ["predict", str(bundle), "Buhari", *key, "--no-verify"])
    assert found.exit_code == 0, found.output
    packed = pack_bundle(bundle)
    there = tmp_path / "there"
    found = CliRunner().invoke(cli, ["bundle", "unpack", str(packed), "-o", str(there), *key])
    assert (found.exit_code, found.output) == (0, f"{there}: whole and signed (core)\n")
    shutil.rmtree(there)
    key = ["--key", str(keys / "other.pub")]
    found = CliRunner().invoke(cli, ["bundle", "unpack", str(packed), "-o", str(there), *key])
    assert isinstance(found.exception, BundleError)
    assert str(found.exception).startswith(f"{packed}: ")
    assert not there.exists()
