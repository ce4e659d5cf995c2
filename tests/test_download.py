"""Downloads from a server on this machine that does all that servers do wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

from blendmask_lite import web
from blendmask_lite.files import cache_dir
from blendmask_lite.images import read_url
from blendmask_lite.web import DownloadError, fetch
from blendmask_lite.weights.pickles import read_weights


def weights_file(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(seed))
    torch.save({"model": {"weight": values}}, buffer)
    return buffer.getvalue()


CONTENT = weights_file()
HALF = len(CONTENT) // 2


class Server:
    """Answers every request by a script, one function a request; the last one stays."""

    def __init__(self) -> None:
        self.script = [whole]
        self.ranges: list[str | None] = []
        self.conditions: list[str | None] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.ranges.append(self.headers.get("Range"))
                site.conditions.append(self.headers.get("If-Range"))
                answer = site.script[min(len(site.ranges), len(site.script)) - 1]
                answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/R_50_3x.pth"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()


def send(request, body: bytes, *, status: int = 200, length: int | None = None, **headers) -> None:
    """An answer; `length` is what it claims."""
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def whole(request) -> None:
    """All of it, whatever was asked for."""
    send(request, CONTENT)


def first_half(request) -> None:
    """Breaks off in the middle."""
    send(request, CONTENT[:HALF], length=len(CONTENT), ETag='"one"')


def ranges(request) -> None:
    """A server as it should be."""
    asked = request.headers.get("Range")
    if asked is None:
        return whole(request)
    begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
    send(
        request,
        CONTENT[begin:],
        status=206,
        Content_Range=f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}",
    )


def failing(status: int):
    return lambda request: send(request, b"<p>no</p>", status=status)


def page(request) -> None:
    send(request, b"\n<!DOCTYPE html><html>Please log in</html>")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("BLENDMASK_OFFLINE", raising=False)
    monkeypatch.setattr(web, "PAUSE", 0.0)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "R_50_3x.pth"


def get(server, path):
    return fetch(server.url, path, check=read_weights)


def files_in(path) -> set[str]:
    """What is left in the cache, but for the lock of other processes."""
    return {each.name for each in path.parent.iterdir() if each.suffix != ".lock"}


def test_a_file_is_fetched_once_and_its_sha256_recorded(server, path):
    assert get(server, path) == path
    assert get(server, path) == path
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    digest = hashlib.sha256(CONTENT).hexdigest()
    record = path.with_name("R_50_3x.pth.sha256")
    assert record.read_text() == f"{digest}  R_50_3x.pth\n"  # as sha256sum --check reads it
    assert files_in(path) == {path.name, record.name}


def test_a_file_that_changed_since_its_first_use_is_refused(server, path):
    get(server, path)
    changed = bytearray(CONTENT)
    changed[HALF] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"R_50_3x\.pth: not the file of its first use"):
        get(server, path)


def test_a_broken_connection_is_resumed_where_it_ended(server, path):
    server.script = [first_half, ranges]
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.conditions == [None, '"one"']


def test_a_killed_process_is_resumed_by_the_next(server, path):
    path.parent.mkdir()
    path.with_name(f"{path.name}.part").write_bytes(CONTENT[:HALF])
    server.script = [ranges]
    get(server, path)
    assert server.ranges == [f"bytes={HALF}-"]
    assert path.read_bytes() == CONTENT


def test_a_connection_may_break_more_often_than_attempts_fail(server, path):
    step = len(CONTENT) // 12

    def a_little(request) -> None:
        begin = int((request.headers.get("Range") or "bytes=0-")[6:-1])
        send(
            request,
            CONTENT[begin : begin + step],
            status=206 if begin else 200,
            length=len(CONTENT) - begin,
            Content_Range=f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}",
        )

    server.script = [a_little]
    get(server, path)
    assert len(server.ranges) > 2 * web.ATTEMPTS
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [200, 403, 416, 501])
def test_without_ranges_it_begins_again(server, path, status):
    refusal = whole if status == 200 else failing(status)
    server.script = [first_half, refusal, whole]
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges[:2] == [None, f"bytes={HALF}-"]


def test_the_rest_of_another_version_is_not_mixed_in(server, path):
    other = weights_file(seed=1)
    server.script = [first_half, lambda request: send(request, other, ETag='"two"')]
    get(server, path)
    assert path.read_bytes() == other


def test_a_rest_from_another_place_is_not_appended(server, path):
    def elsewhere(request) -> None:
        send(request, CONTENT[5:], status=206, Content_Range=f"bytes 5-{len(CONTENT) - 1}/*")

    server.script = [first_half, elsewhere, whole]
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_a_promise_of_too_many_bytes_ends_with_an_error(server, path):
    server.script = [lambda request: send(request, CONTENT, length=len(CONTENT) + 7)]
    with pytest.raises(DownloadError, match=rf"after {len(CONTENT)} bytes") as caught:
        get(server, path)
    assert server.url in str(caught.value)
    assert len(server.ranges) == 1 + web.ATTEMPTS  # the first one brought something
    assert not path.exists()


def test_a_promise_of_too_few_bytes_is_noticed(server, path):
    server.script = [lambda request: send(request, CONTENT, length=len(CONTENT) - 7, ETag='"a"')]
    with pytest.raises(ValueError, match=r"what the server sent is refused: .*cut off"):
        get(server, path)
    assert files_in(path) == set()


def test_a_web_page_is_not_taken_for_weights(server, path):
    server.script = [page]
    with pytest.raises(ValueError, match="a web page, not a file of weights") as caught:
        get(server, path)
    assert str(caught.value).startswith(server.url)
    assert ".part" not in str(caught.value)
    assert files_in(path) == set()


def test_a_missing_file_is_said_at_once_with_its_place(server, path):
    server.script = [failing(404)]
    with pytest.raises(DownloadError, match="404 Not Found") as caught:
        get(server, path)
    assert server.url in str(caught.value) and f"put it at {path}" in str(caught.value)
    assert len(server.ranges) == 1


def test_a_failing_server_is_asked_again_but_not_for_ever(server, path):
    server.script = [failing(500), failing(503), whole]
    get(server, path)
    assert len(server.ranges) == 3
    path.unlink()
    server.script, server.ranges = [failing(500)], []
    with pytest.raises(DownloadError, match=r"500 .*after 5 attempts"):
        get(server, path)
    assert len(server.ranges) == web.ATTEMPTS == 5


def test_what_came_before_an_error_is_kept(server, path):
    server.script = [first_half, failing(503), ranges]
    get(server, path)
    assert server.ranges[-1] == f"bytes={HALF}-"
    assert path.read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_asked_again(server, path, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", 0.2)
    is_over = threading.Event()
    spoke_again = []

    def silent(request) -> None:
        first_half(request)
        request.wfile.flush()
        is_over.wait(5)
        spoke_again.append(True)

    server.script = [silent, ranges]
    get(server, path)
    assert not spoke_again
    is_over.set()
    assert path.read_bytes() == CONTENT


def test_redirections_are_followed_with_the_range(server, path):
    def moved(request) -> None:
        send(request, b"", status=302, Location=server.url.replace("R_50", "moved"))

    server.script = [moved, first_half, moved, ranges]
    get(server, path)
    assert server.ranges == [None, None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert path.read_bytes() == CONTENT


def test_offline_it_asks_nobody_and_says_what_to_put_where(server, path, monkeypatch):
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match="BLENDMASK_OFFLINE is set") as caught:
        get(server, path)
    assert server.url in str(caught.value) and str(path) in str(caught.value)
    assert server.ranges == []
    path.parent.mkdir()
    path.write_bytes(CONTENT)  # by hand
    assert get(server, path) == path
    assert path.with_name(f"{path.name}.sha256").exists()


def test_without_a_network_it_says_what_to_put_where(path, monkeypatch):
    def no_names(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DownloadError, match=r"^no network .*put it at") as caught:
        fetch("https://weights.example/R.pth", path, check=read_weights)
    assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_two_at_once_fetch_it_once(server, path):
    threads = [threading.Thread(target=get, args=(server, path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.ranges == [None]
    assert path.read_bytes() == CONTENT


def test_progress_is_shown_with_the_time_left(server, path, capsys, monkeypatch):
    body = bytes(2_500_000)
    server.script = [lambda request: send(request, body)]
    fetch(server.url, path, check=lambda _: None)
    assert re.search(r"3/3 MB  ETA 0:00\n", capsys.readouterr().err)


def test_the_cache_is_where_the_system_has_caches_or_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("BLENDMASK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    systems = {"darwin": Path.home() / "Library" / "Caches", "linux": tmp_path / "xdg"}
    assert cache_dir() == systems[sys.platform] / "blendmask_lite"


# ------------------------------------------------------------------ one image, within limits


def png(request) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5), "red").save(buffer, "PNG")
    send(request, buffer.getvalue())


def redirecting(place: str):
    return lambda request: send(request, b"", status=302, Location=place)


def drip(request) -> None:
    """A byte at a time, for ever."""
    request.send_response(200)
    request.end_headers()
    with contextlib.suppress(OSError):
        while True:
            request.wfile.write(b"x")
            time.sleep(0.02)


def silence(request) -> None:
    """Promises much and sends nothing."""
    request.send_response(200)
    request.end_headers()
    time.sleep(0.5)


def endless(request) -> None:
    """More than is fetched, without saying how much."""
    request.send_response(200)
    request.end_headers()
    with contextlib.suppress(OSError):
        while True:
            request.wfile.write(bytes(10_000))


def test_an_image_is_read_from_the_web_after_a_few_redirects(server):
    server.script = [redirecting("/elsewhere"), redirecting(server.url), png]
    image = read_url(server.url)
    assert image.shape == (3, 5, 7) and image[:, 0, 0].tolist() == [255, 0, 0]
    assert len(server.ranges) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (failing(404), "the server answers 404 Not Found"),
        (redirecting("/again"), "too many redirects, the last one to "),
        (redirecting("file:///etc/passwd"), "302 .*file:///etc/passwd"),
        (redirecting("ftp://localhost/a.png"), "redirects to ftp://localhost/a.png, which is not"),
        (lambda request: send(request, bytes(3000)), "has more than 2000 bytes"),
        (lambda request: send(request, b"", length=10**12), "has more than 2000 bytes"),
        (endless, "has more than 2000 bytes"),
        (drip, "not all of it came in 0.2 seconds"),
        (silence, "not all of it came in 0.2 seconds"),
        (lambda request: send(request, b"x", length=2), "the connection ended after 1 of 2 bytes"),
        (lambda request: request.wfile.write(b"nonsense"), "nonsense"),
        (lambda request: None, "closed connection without response"),
    ],
)
def test_what_exceeds_a_limit_or_fails_is_not_read(answer, message, server):
    server.script = [answer]
    with pytest.raises(DownloadError, match=f"^{re.escape(server.url)}: .*{message}"):
        read_url(server.url, max_bytes=2000, seconds=0.2, max_redirects=3)
    assert len(server.ranges) <= 4


def test_a_page_is_no_image_and_a_file_is_no_address(server):
    server.script = [page]
    with pytest.raises(ValueError, match=r"R_50_3x.pth: cannot be read as a picture"):
        read_url(server.url)
    for address in ("file:///etc/passwd", "ftp://localhost/a.png", "photo.jpg"):
        with pytest.raises(ValueError, match="no address that begins with http"):
            read_url(address)


def test_nothing_is_read_from_the_web_offline_or_without_a_network(server, monkeypatch):
    with pytest.raises(DownloadError, match=r"nowhere\.invalid"):
        read_url("http://nowhere.invalid/a.png")
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match="BLENDMASK_OFFLINE is set"):
        read_url(server.url)
    assert server.ranges == []
