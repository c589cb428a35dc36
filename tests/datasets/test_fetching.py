"""Archives come to the cache checked, appear unpacked whole, and leave nothing when they fail."""

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import socket
import stat
import struct
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from urllib.parse import quote, unquote

import pooch
import pytest

from segbench.datasets import fetching
from segbench.datasets.fetching import Archive, locate_files
from segbench.errors import InputError

PAGE = "https://example.org/pets"
LIMIT = 10_000_000
FILES = {"images/a.png": b"a" * 5000, "images/b.png": b"b" * 5000}
Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def zipped(files: Mapping[str, bytes] = FILES) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tarred_members(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tarred(files: Mapping[str, bytes] = FILES) -> bytes:
    return tarred_members(*(member(name, content) for name, content in files.items()))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# What a server may do.


def ok(request: BaseHTTPRequestHandler, content: bytes, promised: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(promised or len(content)))
    request.end_headers()
    request.wfile.write(content)


def truncated(request: BaseHTTPRequestHandler, content: bytes) -> None:
    ok(request, content[: len(content) // 2], len(content))
    request.close_connection = True


def hanging(request: BaseHTTPRequestHandler, content: bytes) -> None:
    ok(request, content[: len(content) // 2], len(content))
    request.wfile.flush()
    time.sleep(2)
    request.close_connection = True


def slow(request: BaseHTTPRequestHandler, content: bytes) -> None:
    time.sleep(0.3)
    ok(request, content)


def page(request: BaseHTTPRequestHandler, content: bytes) -> None:
    ok(request, b"<html>please log in</html>")


def called_gzip(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """As some servers do for .tar.gz, if the client accepts it."""
    request.send_response(200)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        request.send_header("Content-Encoding", "gzip")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def status(code: int, location: str | None = None) -> Reply:
    def reply(request: BaseHTTPRequestHandler, content: bytes) -> None:
        request.send_response(code)
        if location:
            request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return reply


class Server:
    """Files by path, each with what is done at the first, second, ... request; the last stays."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.replies: dict[str, list[Reply]] = {}
        self.requests: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path)
                outer.requests[path] += 1
                replies = outer.replies.get(path, [status(404)])
                number = min(outer.requests[path], len(replies)) - 1
                replies[number](self, outer.contents.get(path, b""))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{quote(path)}"

    def put(self, path: str, content: bytes, *replies: Reply) -> str:
        self.contents[path] = content
        self.replies[path] = list(replies) or [ok]
        return self.url(path)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the dataset "pets" in the cache."""
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "PAUSES", (0.01, 0.01))
    return tmp_path / "cache" / "pets"


def get(
    *archives: Archive,
    source: Path | None = None,
    checksums: Mapping[str, str] | None = None,
    limit: int = LIMIT,
) -> Path:
    return locate_files("pets", archives, str(source) if source else None, checksums or {}, limit)


def refused(*args: Any, **kwargs: Any) -> str:
    """The one line that `get` ends with."""
    with pytest.raises(InputError) as caught:
        get(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    return line


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != ".lock")


# Fetching.


@pytest.mark.parametrize("checksum", [md5, sha256])
def test_archives_are_fetched_once_and_unpacked_into_one_folder(
    server: Server, cache: Path, checksum: Callable[[bytes], str]
) -> None:
    images, masks = gzip.compress(tarred()), zipped({"masks/a.png": b"mask"})
    archives = (
        Archive("images.tar.gz", (server.put("/i", images),), checksum(images), PAGE),
        Archive("masks.zip", (server.put("/m", masks),), checksum(masks), PAGE),
    )
    folder = get(*archives)
    assert tree(folder) == {**FILES, "masks/a.png": b"mask"}
    assert folder.parent == cache
    assert re.fullmatch("unpacked-[0-9a-f]{12}", folder.name)
    assert kept(cache) == ["images.tar.gz", "masks.zip", folder.name]
    assert get(*archives) == folder
    assert server.requests == {"/i": 1, "/m": 1}


def test_the_unpacked_folder_outlives_the_archive_and_the_archive_the_folder(
    server: Server, cache: Path
) -> None:
    content = zipped()
    archive = Archive("pets.zip", (server.put("/a", content),), sha256(content), PAGE)
    folder = get(archive)
    (cache / "pets.zip").unlink()
    assert get(archive) == folder
    (cache / "pets.zip").write_bytes(content)
    for path in folder.rglob("*.png"):
        path.unlink()
    (folder / "images").rmdir()
    folder.rmdir()
    assert tree(get(archive)) == FILES
    assert server.requests["/a"] == 1


def test_the_cache_is_the_users_without_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server
) -> None:
    monkeypatch.delenv("SEGBENCH_CACHE")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "user" / name)
    content = zipped()
    folder = get(Archive("pets.zip", (server.put("/a", content),), sha256(content), PAGE))
    assert folder.parent == tmp_path / "user" / "segbench" / "pets"


def test_a_file_in_the_cache_is_as_readable_as_any_other(server: Server, cache: Path) -> None:
    content = zipped()
    get(Archive("pets.zip", (server.put("/a", content),), sha256(content), PAGE))
    (cache / "other").touch()
    assert (cache / "pets.zip").stat().st_mode == (cache / "other").stat().st_mode


@pytest.mark.parametrize("first", [status(404), status(503), truncated, page, status(301, "/gone")])
def test_a_mirror_is_used_when_the_first_address_fails(
    server: Server, cache: Path, first: Reply
) -> None:
    content = zipped()
    urls = (server.put("/first", content, first), server.put("/mirror", content))
    folder = get(Archive("pets.zip", urls, md5(content), PAGE))
    assert tree(folder) == FILES
    assert kept(cache) == ["pets.zip", folder.name]
    assert server.requests["/mirror"] == 1


@pytest.mark.parametrize("fault", [status(503), status(429), truncated])
def test_what_may_pass_is_tried_again(server: Server, fault: Reply) -> None:
    content = zipped()
    url = server.put("/a", content, fault, fault, ok)
    assert tree(get(Archive("pets.zip", (url,), md5(content), PAGE))) == FILES
    assert server.requests["/a"] == 3


def test_a_redirect_is_followed(server: Server) -> None:
    content = zipped()
    server.put("/new", content)
    url = server.put("/old", b"", status(302, "/new"))
    assert tree(get(Archive("pets.zip", (url,), md5(content), PAGE))) == FILES


def test_a_tar_gz_that_the_server_calls_gzip_encoded_stays_as_published(server: Server) -> None:
    content = gzip.compress(tarred())
    url = server.put("/a", content, called_gzip)
    assert tree(get(Archive("pets.tar.gz", (url,), sha256(content), PAGE))) == FILES


def test_what_cannot_be_fetched_says_why_and_what_to_do(server: Server, cache: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
    urls = (server.url("/a"), dead, server.put("/half", zipped(), truncated))
    line = refused(Archive("pets.zip", urls, md5(zipped()), PAGE))
    assert f"{urls[0]}: 404 Client Error: Not Found |" in line
    assert re.search(re.escape(dead) + ": .*refused", line)
    assert re.search(re.escape(urls[2]) + ": .*more expected", line)
    assert line.startswith("pets.zip: could not be fetched (")
    assert line.endswith(
        f"get it from {PAGE} and put it into {cache}, or set dataset.source to a folder that holds "
        "the unpacked files"
    )
    assert "never tried" not in line
    assert server.requests == {"/a": 1, "/half": 3}
    assert kept(cache) == []
    assert "never tried" in refused(Archive("pets.zip", (server.url("/a"),), None, PAGE, False))


def test_a_wrong_checksum_leaves_nothing(server: Server, cache: Path) -> None:
    url = server.put("/a", zipped())
    line = refused(Archive("pets.zip", (url,), md5(b"other"), PAGE))
    assert f"{url}: " in line
    assert f"the checksum is {md5(zipped())}, not {md5(b'other')}" in line
    assert "set dataset.checksums.pets.zip" in line
    assert kept(cache) == []
    assert server.requests["/a"] == 1


def test_a_checksum_in_the_params_goes_before_the_published_one(server: Server) -> None:
    archive = Archive("pets.zip", (server.put("/a", zipped()),), md5(b"other"), PAGE)
    assert tree(get(archive, checksums={"pets.zip": sha256(zipped())})) == FILES


@pytest.mark.parametrize("text", ["abc", "md5:12", "sha1:" + "0" * 40, "md5:" + "0" * 32 + "\n"])
def test_what_is_no_checksum_is_refused_before_anything_is_fetched(
    server: Server, text: str
) -> None:
    archive = Archive("pets.zip", (server.put("/a", zipped()),), None, PAGE)
    line = refused(archive, checksums={"pets.zip": text})
    assert line.startswith("dataset.checksums.pets.zip: ")
    assert not server.requests


def test_an_unknown_checksum_is_measured_and_must_be_set(server: Server, cache: Path) -> None:
    contents = {"a.zip": zipped(), "b.zip": zipped({"c": b"c"})}
    archives = [Archive(n, (server.put(f"/{n}", c),), None, PAGE) for n, c in contents.items()]
    for _ in range(2):
        line = refused(*archives)
        for name, content in contents.items():
            assert f"set dataset.checksums.{name} to {sha256(content)}" in line
        assert kept(cache) == ["a.zip", "b.zip"]
    sums = {name: sha256(content) for name, content in contents.items()}
    assert tree(get(*archives, checksums=sums)) == {**FILES, "c": b"c"}
    assert server.requests == {"/a.zip": 1, "/b.zip": 1}


def test_a_web_page_is_not_offered_as_a_file_of_unknown_checksum(
    server: Server, cache: Path
) -> None:
    archive = Archive("pets.zip", (server.put("/a", b"", page),), None, PAGE)
    assert "what came is no zip and no tar file" in refused(archive)
    assert kept(cache) == []


def test_a_file_behind_a_login_is_asked_for_and_then_used(cache: Path) -> None:
    archive = Archive("pets.zip", (), md5(zipped()), PAGE, tried=False)
    line = refused(archive)
    assert line.startswith("pets.zip: cannot be fetched without a login; get it from " + PAGE)
    assert f"put it into {cache}, or set dataset.source" in line
    (cache / "pets.zip").write_bytes(b"half of it")
    assert f"{cache / 'pets.zip'}: the checksum is {md5(b'half of it')}" in refused(archive)
    (cache / "pets.zip").write_bytes(zipped())
    assert tree(get(archive)) == FILES


def test_a_bad_file_in_the_cache_is_replaced(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "pets.zip").write_bytes(b"bad")
    archive = Archive("pets.zip", (server.put("/a", zipped()),), md5(zipped()), PAGE)
    assert tree(get(archive)) == FILES
    assert (cache / "pets.zip").read_bytes() == zipped()


def test_a_server_that_hangs_is_given_up(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    monkeypatch.setattr(fetching, "PAUSES", ())
    archive = Archive("pets.zip", (server.put("/a", zipped(), hanging),), md5(zipped()), PAGE)
    assert "timed out" in refused(archive)
    assert kept(cache) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_an_interrupted_download_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def download(self: object, url: str, output_file: str, pooch: object) -> None:
        Path(output_file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    with pytest.raises(type(error)):
        get(Archive("pets.zip", ("http://127.0.0.1/a",), md5(zipped()), PAGE))
    assert kept(cache) == []


def test_what_a_killed_run_left_is_cleared(server: Server, cache: Path) -> None:
    (cache / ".partial-unpacked-of-another").mkdir(parents=True)
    (cache / ".partial-unpacked-of-another" / "file").touch()
    (cache / ".partial-other.zip").touch()
    folder = get(Archive("pets.zip", (server.put("/a", zipped()),), md5(zipped()), PAGE))
    assert kept(cache) == ["pets.zip", folder.name]


def test_progress_is_shown_on_a_terminal_only(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, terminal in (("a", False), ("b", True)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        content = zipped({name: b"content"})
        get(Archive(name, (server.put("/" + name, content),), md5(content), PAGE))
        assert bool(capsys.readouterr().err) is terminal


CHILD = """
import sys
from segbench.datasets.fetching import Archive, locate_files
archive = Archive("pets.zip", (sys.argv[1],), sys.argv[2], "page")
print(locate_files("pets", [archive], None, {}, 10**7))
"""


def test_two_processes_fetch_and_unpack_once(server: Server, cache: Path) -> None:
    arguments = [sys.executable, "-c", CHILD, server.put("/a", zipped(), slow), md5(zipped())]
    children = [Popen(arguments, stdout=PIPE, text=True) for _ in range(2)]
    outputs = [child.communicate()[0].strip() for child in children]
    assert outputs[0] == outputs[1]
    assert tree(Path(outputs[0])) == FILES
    assert server.requests["/a"] == 1
    assert kept(cache) == ["pets.zip", Path(outputs[0]).name]


def test_two_threads_unpack_once(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive("pets.zip", (server.put("/a", zipped(), slow),), md5(zipped()), PAGE)
    unpacked: list[Path] = []
    unpack = fetching._unpack_zip

    def counted(path: Path, folder: Path, room: fetching.UnpackBudget) -> None:
        unpacked.append(path)
        unpack(path, folder, room)

    monkeypatch.setattr(fetching, "_unpack_zip", counted)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(get(archive))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(unpacked) == 1
    assert server.requests["/a"] == 1


# dataset.source.


def test_a_folder_is_used_as_it_is(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    archive = Archive("pets.zip", (), None, PAGE)
    assert get(archive, source=folder) == folder
    (folder / "pets.zip").write_bytes(zipped())
    assert get(archive, source=folder) == folder
    assert get(source=tmp_path) == tmp_path
    assert not cache.exists()


def test_a_folder_of_archives_is_unpacked_into_the_cache(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "data"
    (source / ".hidden").mkdir(parents=True)
    (source / "a.zip").write_bytes(zipped())
    archives = (Archive("a.zip", (), md5(zipped()), PAGE), Archive("b.tar", (), None, PAGE))
    assert get(*archives, source=source) == source
    (source / "b.tar").write_bytes(tarred({"b": b"b"}))
    before = kept(source)
    folder = get(*archives, source=source)
    assert folder.parent == cache
    assert tree(folder) == {**FILES, "b": b"b"}
    assert kept(source) == before
    assert get(*archives, source=source) == folder
    (source / "b.tar").write_bytes(tarred({"b": b"new"}))
    assert tree(get(*archives, source=source))["b"] == b"new"


def test_a_source_that_is_read_only_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    (source / "a.zip").write_bytes(zipped())
    source.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(source, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert tree(get(Archive("a.zip", (), None, PAGE), source=source)) == FILES


def test_a_cache_once_filled_may_be_read_only(server: Server, cache: Path) -> None:
    archive = Archive("pets.zip", (server.put("/a", zipped()),), md5(zipped()), PAGE)
    folder = get(archive)
    (cache / ".lock").unlink(missing_ok=True)
    before = cache.stat().st_mtime_ns
    assert get(archive) == folder
    assert cache.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pets.zip", zipped()),
        ("pets.tar", tarred()),
        ("pets.tar.gz", gzip.compress(tarred())),
        ("pets.tgz", gzip.compress(tarred())),
        ("pets.tar.bz2", bz2.compress(tarred())),
        ("pets.tar.xz", lzma.compress(tarred())),
        ('dogs \'n "cats" á żółw.zip', zipped()),
    ],
)
def test_an_archive_as_source(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    folder = get(source=path)
    assert tree(folder) == FILES
    assert get(source=path) == folder
    path.write_bytes(zipped({"new": b"new"}))
    assert tree(get(source=path)) == {"new": b"new"}


def test_an_archive_as_source_is_checked_if_its_checksum_is_known(tmp_path: Path) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zipped())
    for known in (
        {"archives": [Archive("pets.zip", (), md5(b"other"), PAGE)], "checksums": {}},
        {"archives": [], "checksums": {"pets.zip": md5(b"other")}},
    ):
        line = refused(*known["archives"], source=path, checksums=known["checksums"])
        assert line.startswith(f"{path}: the checksum is {md5(zipped())}, not {md5(b'other')}")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    line = refused(source=tmp_path / "gone")
    assert line.startswith(f"dataset.source: nothing at {tmp_path / 'gone'}; set it to")


def test_odd_names_work_everywhere(server: Server, cache: Path) -> None:
    name = 'dogs \'n "cats" á żółw #1 100%.tar.gz'
    files = {"a b/'c'\"d\".png": b"1", "żółw/ü.png": b"2", "a\nb": b"3"}
    members = [member(path, content) for path, content in files.items()]
    content = gzip.compress(tarred_members(*members, member("latin-\udcfc.png", b"4")))
    archive = Archive(name, (server.put("/" + name, content),), md5(content), PAGE)
    folder = locate_files("Pets, 'all' á żółw", [archive], None, {}, LIMIT)
    assert tree(folder) == {**files, "latin-\udcfc.png": b"4"}
    assert folder.parent == cache.parent / "Pets, 'all' á żółw"


def test_names_in_a_zip_without_a_known_encoding_work(tmp_path: Path) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zipped({"a_b": b"1"}).replace(b"a_b", b"a\xfcb"))
    assert list(tree(get(source=path)).values()) == [b"1"]


# Archives that mean harm or came to it.


def linked(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def zipped_link(target: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return out.getvalue()


ESCAPES = {
    "zip ..": ("../evil", zipped({"good": b"1", "../evil": b"2"})),
    "zip deep ..": ("a/../../evil", zipped({"a/../../evil": b"2"})),
    "zip absolute": ("/evil", zipped({"/evil": b"2"})),
    "zip link": ("link", zipped_link("/etc")),
    "tar ..": ("../evil", tarred({"good": b"1", "../evil": b"2"})),
    "tar absolute": ("/evil", tarred({"/evil": b"2"})),
    "tar link out": ("link", tarred_members(linked("link", "../.."), member("link/evil", b"2"))),
    "tar absolute link": ("link", tarred_members(linked("link", "/tmp"))),
    "tar hard link out": ("link", tarred_members(linked("link", "../a", tarfile.LNKTYPE))),
    "tar device": ("dev", tarred_members(member("dev", type=tarfile.CHRTYPE))),
    "tar fifo": ("fifo", tarred_members(member("fifo", type=tarfile.FIFOTYPE))),
    "newline": (r"../a\nb", zipped({"../a\nb": b""})),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_a_member_that_wants_out_is_refused(tmp_path: Path, cache: Path, case: str) -> None:
    name, content = ESCAPES[case]
    path = tmp_path / "pets"
    path.write_bytes(content)
    line = refused(source=path)
    assert line.startswith(f"{path}: member '{name}' wants out of its folder")
    assert kept(cache) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "pets"]


def test_a_link_by_one_archive_does_not_lead_the_next_one_out(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    inside = tarred_members(member("a/file", b"1"), linked("link", "a"))
    (source / "1.tar").write_bytes(inside)
    (source / "2.zip").write_bytes(zipped({"link/more": b"2"}))
    archives = [Archive(name, (), None, PAGE) for name in ("1.tar", "2.zip")]
    assert tree(get(*archives, source=source))["a/more"] == b"2"
    (source / "2.zip").write_bytes(zipped({"link/../../evil": b"2"}))
    assert "wants out of its folder" in refused(*archives, source=source)


def lying(content: bytes, size: int) -> bytes:
    """A zip of one member whose headers claim another size."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", changed, content.index(signature) + offset, size)
    return bytes(changed)


BOMB = {"zeros": bytes(200_000)}


@pytest.mark.parametrize("content", [zipped(BOMB), tarred(BOMB), gzip.compress(tarred(BOMB))])
def test_more_than_the_limit_is_not_unpacked(tmp_path: Path, cache: Path, content: bytes) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(content)
    assert f"{path}: unpacks to more than the limit of 199999 bytes" in refused(
        source=path, limit=199_999
    )
    assert kept(cache) == []
    assert tree(get(source=path, limit=200_000)) == BOMB


def test_a_zip_that_claims_less_than_it_holds_is_refused(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(lying(zipped(BOMB), 10))
    assert "unreadable as zip or tar" in refused(source=path, limit=1000)
    assert kept(cache) == []


def test_a_zip_that_claims_too_much_is_refused_by_its_headers(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(lying(zipped({"a": b"1"}), 1001))
    assert "more than the limit of 1000 bytes" in refused(source=path, limit=1000)
    assert kept(cache) == []


def test_written_bytes_count_whatever_the_headers_say(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped(BOMB))
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: [Shy(self.filelist[0])])
    assert "more than the limit of 1000 bytes" in refused(source=path, limit=1000)
    assert kept(cache) == []


class Shy(zipfile.ZipInfo):
    """A member that tells its size to nobody but the reader."""

    def __init__(self, real: zipfile.ZipInfo) -> None:
        for slot in zipfile.ZipInfo.__slots__:
            if hasattr(real, slot):
                setattr(self, slot, getattr(real, slot))
        self.asked = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "file_size":
            self.asked += 1
            return 0 if self.asked == 1 else super().__getattribute__(name)
        return super().__getattribute__(name)


def test_the_limit_is_for_all_archives_together(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    archives = [Archive(name, (), None, PAGE) for name in ("1.zip", "2.tar")]
    (tmp_path / "data" / "1.zip").write_bytes(zipped({"a": bytes(600)}))
    (tmp_path / "data" / "2.tar").write_bytes(tarred({"b": bytes(600)}))
    assert "2.tar: unpacks to more" in refused(*archives, source=tmp_path / "data", limit=1000)


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


STORED = gzip.compress(tarred(), 0)
BROKEN = {
    "half zip": zipped()[: len(zipped()) // 2],
    "half gz": gzip.compress(tarred())[:-30],
    "half bz2": bz2.compress(tarred())[:-30],
    "half xz": lzma.compress(tarred())[:-30],
    "half tar": tarred()[:3000],
    "tar up to a member": tarred()[: 512 + 5120],
    "tar with a torn header": flipped(tarred(), 512 + 5120 + 3),
    "gz without its checksum": gzip.compress(tarred())[:-8],
    "gz with a flipped bit": flipped(STORED, STORED.index(b"aaaa") + 100),
    "bz2 with a flipped byte": flipped(bz2.compress(tarred()), 40),
    "zip with a flipped byte": flipped(zipped(), 60),
    "zip with a name of no encoding": zipped({"żółw": b""}).replace(b"\xc5\xbc", b"\xff\xff"),
    "text": b"id,path\n1,a.png\n",
    "nothing": b"",
    "file and folder": tarred({"a": b"1", "a/b": b"2"}),
    "long name": zipped({"a" * 300: b"1"}),
    "unknown compression": zipped({"a": b"1"}).replace(b"\x08\0\0\0!\0", b"\x63\0\0\0!\0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_archive_is_refused(tmp_path: Path, cache: Path, case: str) -> None:
    path = tmp_path / "pets"
    path.write_bytes(BROKEN[case])
    assert refused(source=path).startswith(f"{path}: unreadable as zip or tar (")
    assert kept(cache) == []


def test_an_encrypted_zip_is_refused(tmp_path: Path, cache: Path) -> None:
    content = bytearray(zipped({"a": b"1"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path = tmp_path / "pets.zip"
    path.write_bytes(content)
    assert re.search(
        "encrypted.*; .*unpack it by hand and set dataset.source", refused(source=path)
    )
    assert kept(cache) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_errors_of_the_disk_pass_and_leave_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def take(self: object, archive: Path, size: int) -> None:
        raise OSError(number, "disk")

    monkeypatch.setattr(fetching.UnpackBudget, "take", take)
    path = tmp_path / "pets.tar"
    path.write_bytes(tarred())
    with pytest.raises(OSError, match="disk"):
        get(source=path)
    assert kept(cache) == []


def gzipped(*parts: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.open(out, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return out.getvalue()


def tar_header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse_without_end() -> bytes:
    """A header that says, in each of its blocks, that another one follows."""
    first = bytearray(tar_header(tarfile.GNUTYPE_SPARSE, 1))
    first[482] = 1
    first[148:156] = b"        "
    first[148:156] = b"%06o\0 " % sum(first)
    return bytes(first) + (bytes(504) + b"\1" + bytes(7)) * 4000


FIELDS = b"".join(b"20 key%07d=value\n" % at for at in range(50_000))
PADDED = FIELDS + bytes(-len(FIELDS) % tarfile.BLOCKSIZE)
OF_ONE = "the headers of a member are larger than 1048576 bytes, or 16384 a member; if that is"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([tar_header(b"L", 1 << 26), bytes(1 << 26)], OF_ONE),
        ([tar_header(b"x", 1 << 26), *[PADDED] * 60], OF_ONE),
        ([sparse_without_end()], OF_ONE),
        (
            [tar_header(b"x", len(FIELDS)), PADDED, tar_header(b"0", 0), bytes(1024)],
            "the headers of its first 1 members together are larger than 1048576 bytes, or 1000 a",
        ),
        (
            [tar_header(b"g", len(FIELDS)), PADDED, *[tar_header(b"0", 0)] * 2, bytes(1024)],
            "the headers of all its members are larger than",
        ),
    ],
    ids=["long name", "pax header", "sparse", "pax headers", "global header"],
)
def test_headers_of_a_tar_are_bounded(
    parts: list[bytes], said: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "together" in said:
        monkeypatch.setattr(fetching, "HEADERS", 0)
        monkeypatch.setattr(fetching, "HEADERS_PER_FILE", 1000)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzipped(*parts))
    assert said in refused(source=path)
    assert kept(cache) == []


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_members_that_hold_nothing_are_bounded(
    ending: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "HOLLOW", 50)
    files = {f"{at:03}": b"" for at in range(100)}
    path = tmp_path / f"empty.{ending}"
    path.write_bytes(zipped(files) if ending == "zip" else tarred(files))
    said = refused(source=path)
    assert (
        "51 of its first 51 members are empty files, folders or links, the limit is 50 and 5"
        in said
    )
    assert kept(cache) == []


def test_thousands_of_folders_before_the_first_file_pass(tmp_path: Path, cache: Path) -> None:
    folders = [tar_header(b"5", 0, f"f{at}") for at in range(3000)]
    path = tmp_path / "folders.tar"
    path.write_bytes(b"".join([*folders, tarred()]))
    assert tree(get(source=path)).keys() == FILES.keys()


def test_a_million_images_in_folders_of_their_own_pass(tmp_path: Path) -> None:
    budget = fetching.UnpackBudget(1 << 40)
    for _ in range(1_000_000):
        for holds in (False, False, False, True, True):  # x/, x/images/, x/masks/, and a file each
            budget.count(tmp_path, holds)
    assert budget.files == 2_000_000
