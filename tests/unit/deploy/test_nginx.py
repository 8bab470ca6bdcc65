"""deploy/nginx.conf in a real nginx, in front of a real Gunicorn."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
import requests

from cloud.settings import ControllerSettings
from controller.app import CONTENT_SECURITY_POLICY
from local.driver import eventually, free_port
from tests.support import front
from tests.support.browser import chromium
from tests.support.front import Nginx
from tests.support.programs import need
from tests.support.small_disk import small_disk

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"Accept": "application/json"}
WITH_TLS = ["sed", "-e", "/#plain/d", "-e", "s/#tls //", str(front.CONFIGURATION)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx in front of Gunicorn."""
    folder = tmp_path_factory.mktemp("front")
    with front.gunicorn("tests.support.front:app", folder), front.nginx(folder, free_port()) as nginx:
        yield nginx


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Nginx]:
    """nginx in front of nothing."""
    with front.nginx(tmp_path, free_port()) as nginx:
        yield nginx


def with_tls() -> str:
    """As the deploy page says to do it."""
    assert "sed -i -e '/#plain/d' -e 's/#tls //' " in (front.ROOT / "deploy/README.md").read_text()
    return subprocess.run(WITH_TLS, capture_output=True, text=True, check=True).stdout


def default(setting: str) -> int:
    value: int = ControllerSettings.model_fields[setting].default
    return value


def open_files(nginx: Nginx, words: str) -> list[int]:
    """The sizes of those of nginx's processes whose paths contain `words`; also if they have no name now."""
    workers = psutil.Process(int((nginx.folder / "nginx.pid").read_text())).children()
    sizes = []
    for worker in workers:
        for link in Path(f"/proc/{worker.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if words in os.readlink(link):
                    sizes.append(link.stat().st_size)
    return sizes


def test_nginx_has_nothing_to_say_against_the_configuration(tmp_path: Path):
    done = Nginx(front.render(tmp_path, free_port()), 0).test()
    assert done.returncode == 0
    assert "[" not in done.stderr, done.stderr


@pytest.mark.parametrize("tls", [False, True])
def test_gixy_has_nothing_to_say_against_the_configuration(tmp_path: Path, tls: bool):
    text = with_tls() if tls else front.CONFIGURATION.read_text()
    (tmp_path / "nginx.conf").write_text(text)
    program = str(Path(sys.executable).parent / "gixy")
    # The controller needs the Host as the browser sent it, and checks it itself.
    gixy = [program, "--skips", "host_spoofing", str(tmp_path / "nginx.conf")]
    done = subprocess.run(gixy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout


def test_the_numbers_fit_the_settings():
    text = front.CONFIGURATION.read_text()

    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        assert found, pattern
        return int(found[1])

    assert number(r"client_max_body_size (\d+);") == default("max_upload_mb") * 1_000_000
    assert number(r"at most (\d+) MB") == default("max_upload_mb")
    read_timeout = number(r"proxy_read_timeout (\d+)s;")
    assert default("request_timeout") + 5 < read_timeout < number(r"worker_shutdown_timeout (\d+)s;")
    assert number(r"zone=requests burst=(\d+) ") > default("max_files")


def test_static_files_come_from_nginx_alone(alone: Nginx):
    address = f"{alone.url}/static/page.css"
    reply = requests.get(address, timeout=10)
    assert reply.content == (front.ROOT / "controller/static/page.css").read_bytes()
    assert reply.headers["Content-Type"] == "text/css; charset=utf-8"
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.headers["Cache-Control"] == "public, no-cache"
    again = requests.get(address, headers={"If-None-Match": reply.headers["ETag"]}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/", "/static/none.css", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_nothing_but_static_files_comes_from_disk(alone: Nginx, path: str):
    with closing(HTTPConnection(alone.address, timeout=10)) as client:
        client.request("GET", path)  # as it is: other clients would resolve the dots
        escapes = path.endswith("app.py")
        assert client.getresponse().status == (502 if escapes else 404)


def test_everything_has_the_security_headers(whole: Nginx):
    for path in ("/", "/static/page.css", "/static/none.css"):
        headers = requests.get(whole.url + path, timeout=10).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Server"] == "nginx"


def test_the_pages_of_nginx_have_the_policy_of_the_controllers(alone: Nginx):
    assert requests.get(alone.url, timeout=10).headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


def test_a_policy_of_the_controller_stands_alone(whole: Nginx):
    assert requests.get(f"{whole.url}/policy", timeout=10).headers["Content-Security-Policy"] == "sandbox"


def test_gunicorn_hears_who_the_client_is_from_nginx_and_not_from_the_client(whole: Nginx):
    lies = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    said = requests.get(whole.url, headers=lies, timeout=10).json()
    assert (said["client"], said["scheme"]) == ("127.0.0.1", "http")


def test_nginx_and_gunicorn_log_a_request_under_one_id(whole: Nginx):
    requests.get(f"{whole.url}/named?the-request", timeout=10)
    requests.get(f"{whole.url}/nameless", timeout=10)

    def lines(path: str) -> list[dict]:
        """Of both logs, which are written after the reply."""
        logs = whole.log(), front.read_lines(whole.folder / "gunicorn.log")
        return [line for log in logs for line in log[::-1] if line["uri"] == path]

    for path, request_id in (("/named?the-request", "the-request"), ("/nameless", None)):
        eventually(lambda path=path: len(lines(path)) == 2)
        ids = {line["request_id"] for line in lines(path)}
        assert len(ids) == 1
        assert ids == {request_id} or (request_id is None and len(ids.pop()) == 32)


def test_the_logs_go_to_the_journal_each_line_as_a_whole(tmp_path: Path):
    assert "/var/log" not in front.CONFIGURATION.read_text()
    here = front.JOURNAL.replace("/dev/log", f"{tmp_path}/journal")
    changes = {f"access_log {tmp_path}/access.log json;": f"access_log {here} json;"}
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as journal:
        journal.bind(f"{tmp_path}/journal")
        journal.settimeout(10)
        path = f'/{"x" * 5000}"'
        with front.nginx(tmp_path, free_port(), changes) as nginx:
            requests.get(nginx.url + path, timeout=10)
            message = journal.recv(100_000).decode()
    assert json.loads(message.partition(" nginx: ")[2])["uri"] == path.replace('"', "%22")


def test_server_sent_events_are_not_held_back(whole: Nginx):
    with requests.get(f"{whole.url}/requests/1/events", stream=True, timeout=10) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b"data: 1"
        requests.get(f"{whole.url}/go", timeout=10)
        assert [line for line in lines if line] == [b"data: 2"]


def test_an_upload_waits_on_disk_until_it_is_whole(whole: Nginx):
    size = 1_000_000
    with closing(HTTPConnection(whole.address, timeout=10)) as client:
        client.request("POST", "/?slowly", bytes(size - 1), {"Content-Length": str(size)})
        eventually(lambda: open_files(whole, "client_body/"), 10)
        assert all(line["uri"] != "/?slowly" for line in front.read_lines(whole.folder / "gunicorn.log"))
        client.send(b"\0")
        assert json.load(client.getresponse())["bytes"] == size


def test_a_refusal_is_a_page_for_a_browser_and_json_for_a_program(alone: Nginx):
    page = requests.get(alone.url, headers=BROWSER, timeout=10)
    assert page.status_code == 502
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<code>502 bad_gateway</code>" in page.text
    assert "The classifier is not running" in page.text
    for link in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        assert requests.get(alone.url + link, timeout=10).status_code == 200
    for headers in (JSON, {}):
        answer = requests.get(alone.url, headers=headers, timeout=10)
        assert answer.status_code == 502
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["Retry-After"] == "30"
        assert answer.json()["error"]["code"] == "bad_gateway"
        assert answer.json()["error"]["message"].startswith("The classifier is not running")


@pytest.mark.parametrize("expect", ["100-continue", ""])
def test_a_too_large_upload_gets_our_413_whether_or_not_the_client_waits_for_leave(
    whole: Nginx, tmp_path: Path, expect: str
):
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(default("max_upload_mb") * 1_000_000)  # a hole: it takes no disk
    upload = [
        need("curl"),
        "-sS",
        "-m",
        "60",
        "-H",
        f"Expect: {expect}",
        "-F",
        f"image_file=@{large}",
        whole.url,
    ]
    done = subprocess.run([*upload, "-w", "%{http_code}"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("413")
    assert '"request_entity_too_large", "message": "The upload is too large: at most 1024 MB' in done.stdout


def test_a_browser_gets_a_page_with_its_413(whole: Nginx):
    with closing(HTTPConnection(whole.address, timeout=10)) as client:
        client.request("POST", "/", headers={**BROWSER, "Content-Length": "1024000001"})
        reply = client.getresponse()
        page = reply.read()
    assert reply.status == 413
    assert page.startswith(b"<!doctype html>")
    assert b"at most 1024 MB" in page


def test_metrics_are_for_prometheus_and_for_nobody_outside(whole):
    assert requests.get(f"{whole.url}/metrics", headers=JSON, timeout=10).status_code == 404
    assert requests.get(f"http://{whole.for_prometheus}/metrics", timeout=10).ok
    assert requests.get(f"http://{whole.for_prometheus}/fleet", timeout=10).status_code == 404
    assert whole.for_prometheus.startswith("127.0.0.1:")


def test_a_slow_answer_gets_our_504(tmp_path: Path):
    soon = {"proxy_read_timeout 330s": "proxy_read_timeout 1s"}
    with (
        front.gunicorn("tests.support.front:app", tmp_path),
        front.nginx(tmp_path, free_port(), soon) as nginx,
    ):
        reply = requests.get(f"{nginx.url}/slow?3", timeout=10)
    assert reply.status_code == 504
    assert reply.json()["error"]["code"] == "gateway_timeout"


def test_a_client_that_posts_without_end_gets_429_and_others_nothing_of_it(whole: Nginx):
    def post_until_refused(_: int) -> list[requests.Response]:
        replies, until = [session.post(whole.url, timeout=20)], time.monotonic() + 60
        while replies[-1].status_code != 429 and time.monotonic() < until:
            replies.append(session.post(whole.url, timeout=20))
        return replies

    with ThreadPoolExecutor(20) as pool, requests.Session() as session:
        replies = [reply for found in pool.map(post_until_refused, range(20)) for reply in found]
    statuses = [reply.status_code for reply in replies]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) > 200
    assert refused[0].json()["error"]["code"] == "too_many_requests"
    assert refused[0].headers["Retry-After"] == "5"
    assert requests.get(whole.url, timeout=10).status_code == 200


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Nginx, str, Path]]:
    """nginx with TLS, its address, and its certificate."""
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    name = "classifier.example.org"
    make = [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
    more = [
        "-addext",
        f"subjectAltName=DNS:{name},IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([*make, *more], capture_output=True, check=True)
    plain, secure = free_port(), free_port()
    changes = {
        "/etc/letsencrypt/live/classifier.example.org/": f"{tmp_path}/",
        "listen 443 ": f"listen 127.0.0.1:{secure} ",
        "listen [::]:443 ": f"listen [::1]:{secure} ",
    }
    with (
        front.gunicorn("tests.support.front:app", tmp_path),
        front.nginx(tmp_path, plain, changes, with_tls()) as nginx,
    ):
        yield nginx, f"https://127.0.0.1:{secure}", certificate


def test_tls_takes_one_command(secure: tuple[Nginx, str, Path]):
    nginx, url, certificate = secure
    moved = requests.get(f"{nginx.url}/requests/1", allow_redirects=False, timeout=10)
    reply = requests.get(url, verify=str(certificate), timeout=10)
    no_upload = [need("curl"), "--http2", "--cacert", certificate, "-sS", "-X", "GET", "-T", "-"]
    no_upload += ["-w", "%{http_version} %{http_code}", "-o", "/dev/null", f"{url}/"]
    told = subprocess.run(no_upload, input=bytes(70_000), capture_output=True, timeout=20, check=True)
    assert told.stdout == b"2 413", "HTTP/2 has bodies without a Content-Length"
    assert (moved.status_code, moved.headers["Location"]) == (301, "https://127.0.0.1/requests/1")
    assert reply.json()["scheme"] == "https"
    assert "max-age" in reply.headers["Strict-Transport-Security"]


FETCH_MANY = """() => {
    const ask = () => fetch("/slow?1", { cache: "no-store" }).then((reply) => reply.status);
    window.found = Promise.all(Array.from({ length: 130 }, ask));
}"""


def test_two_browsers_behind_one_address_get_all_that_they_ask_for_at_once(secure: tuple[Nginx, str, Path]):
    """With HTTP/2, a browser asks for as many pictures at once as the server allows."""
    _, url, _ = secure
    with chromium() as browser:
        pages = [browser.new_context(ignore_https_errors=True).new_page() for _ in range(2)]
        for page in pages:
            page.goto(f"{url}")
            page.evaluate(FETCH_MANY)
        statuses = [status for page in pages for status in page.evaluate("() => window.found")]
    assert statuses == [200] * 260


def test_what_the_controller_itself_refuses_comes_through_as_it_is(whole: Nginx):
    reply = requests.get(f"{whole.url}/over-quota", timeout=10)
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "17")
    assert "pid" in reply.json()


# Strangers, and those who send too much


def send_in_part(nginx: Nginx, size: int, path: str = "/", **headers: str) -> HTTPConnection:
    """Begins an upload of `size` bytes, of which a megabyte is sent."""
    client = HTTPConnection(nginx.address, timeout=10)
    client.putrequest("POST", path)
    for name, value in {"Content-Length": str(size), **headers}.items():
        client.putheader(name.replace("_", "-"), value)
    client.endheaders(bytes(min(size - 1, 1_000_000)))
    return client


STRANGER = {"Authorization": "Bearer stranger"}


def test_not_a_byte_of_a_strangers_upload_is_kept(whole: Nginx):
    clients = [send_in_part(whole, 90_000_000, **STRANGER) for _ in range(6)]
    replies = [client.getresponse() for client in clients]
    assert [reply.status for reply in replies] == [401] * 6
    assert not open_files(whole, "client_body/")
    assert json.load(replies[0])["error"]["code"] == "unauthorized"
    assert replies[0].headers["WWW-Authenticate"] == "Bearer"
    for client in clients:
        client.close()


def test_a_browser_of_a_stranger_is_told_where_to_sign_in(whole: Nginx):
    posted = requests.post(whole.url, headers=BROWSER | STRANGER, timeout=10)
    assert posted.status_code == 401
    assert "sign in at /sign-in" in posted.text


@pytest.mark.parametrize("path", ["/admission", "/upload", "/refused.html"])
def test_there_is_nothing_outside_at_the_addresses_that_are_nginx_s_own(whole: Nginx, path: str):
    """So nobody is told whom the controller admits."""
    for send in (requests.get, requests.post):
        reply = send(whole.url + path, headers=JSON, timeout=10)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    page = requests.get(whole.url + path, headers=BROWSER, timeout=10)
    assert (page.status_code, "<code>404 not_found</code>" in page.text) == (404, True)


def test_a_file_that_is_put_is_an_upload(whole: Nginx):
    """It may be large, keeps its name as it was sent, and is taken only from whom the controller admits."""
    address = f"{whole.url}/my%20cat%2B%C3%A9.jpg?format=json"
    said = requests.put(address, data=bytes(500_000), timeout=20).json()
    assert (said["method"], said["uri"]) == ("PUT", "/my%20cat%2B%C3%A9.jpg?format=json")
    assert said["bytes"] == 500_000
    assert requests.put(address, data=bytes(500_000), headers=STRANGER, timeout=20).status_code == 401
    with closing(HTTPConnection(whole.address, timeout=10)) as client:
        client.request("PUT", "/cat.jpg", headers={"Content-Length": "1024000001"})
        assert client.getresponse().status == 413
    with closing(HTTPConnection(whole.address, timeout=10)) as client:
        client.request("PUT", "/requests/x", bytes(70_000))
        assert client.getresponse().status == 413, "that is no upload"


def test_whatever_is_no_upload_may_be_small_only(whole: Nginx):
    for path in ("/sign-in", "/requests/x/cancel", "/nowhere"):
        with closing(send_in_part(whole, 70_000, path)) as client:
            assert client.getresponse().status == 413
    for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        with closing(HTTPConnection(whole.address, timeout=10)) as client:
            client.request(method, "/", bytes(70_000))
            assert client.getresponse().status == 413, method
    with closing(chunked(whole, "GET", 70_000)) as client:
        assert client.getresponse().status == 413, "also if nobody says how much it is"
    assert not open_files(whole, "client_body/")


def test_one_address_may_send_few_large_uploads_at_once(whole: Nginx):
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(closing(send_in_part(whole, 10_000_000)))
        eventually(lambda: len(open_files(whole, "client_body/")) == 8)
        for client in (send_in_part(whole, 10_000_000), chunked(whole), chunked(whole, "PUT")):
            with closing(client):
                assert client.getresponse().status == 429
        assert requests.post(whole.url, data=bytes(9_999_999), timeout=20).status_code == 200
        assert requests.get(whole.url, timeout=10).status_code == 200
    eventually(lambda: not open_files(whole, "client_body/"))


def test_one_address_may_send_two_huge_uploads_at_once(whole: Nginx):
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(closing(send_in_part(whole, 100_000_000)))
        eventually(lambda: len(open_files(whole, "client_body/")) == 2)
        for client in (send_in_part(whole, 100_000_000), chunked(whole), chunked(whole, "PUT")):
            with closing(client):
                assert client.getresponse().status == 429
        held.enter_context(closing(send_in_part(whole, 99_999_999)))
        eventually(lambda: len(open_files(whole, "client_body/")) == 3)
    eventually(lambda: not open_files(whole, "client_body/"))


def test_the_uploads_of_one_address_fit_into_the_spool_twice():
    """The controller copies each upload to the same volume, until it is in S3."""
    conf = (front.ROOT / "deploy/nginx.conf").read_text()
    connections, large, huge = re.findall(
        r"limit_conn (?:connections|large_uploads|huge_uploads) (\d+);", conf
    )
    [most] = re.findall(r"client_max_body_size (\d{9,});", conf)
    [gigabytes] = re.findall(
        r"fallocate -l (\d+)G", (front.ROOT / "deploy/controller-userdata.sh").read_text()
    )
    once = int(huge) * int(most) + (int(large) - int(huge)) * 100_000_000 + int(connections) * 10_000_000
    assert 2 * once <= 0.97 * int(gigabytes) * 2**30  # the rest is for the file system


def test_who_hangs_up_counts_until_the_controller_has_answered(tmp_path: Path):
    """Otherwise, one address could have all threads of Gunicorn, which goes on to the end in each of them."""
    few = {"limit_conn connections 200": "limit_conn connections 5"}
    with (
        front.gunicorn("tests.support.front:app", tmp_path),
        front.nginx(tmp_path, free_port(), few) as nginx,
    ):
        for _ in range(20):
            with closing(HTTPConnection(nginx.address, timeout=10)) as client:
                client.request("GET", "/slow?5")
                time.sleep(0.05)

        def at_end() -> bool:
            reply = requests.get(f"{nginx.url}/slow?0", timeout=10)
            return reply.ok and not reply.json()["slow"]

        eventually(at_end, 20, 0.5)
        came = [line for line in front.read_lines(tmp_path / "gunicorn.log") if line["uri"] == "/slow?5"]
    assert len(came) == 5


def test_what_slow_clients_have_not_read_does_not_fill_the_disk(whole: Nginx):
    """nginx would keep a gigabyte for each of them. The rest stays with Gunicorn."""
    with ExitStack() as held:
        for _ in range(4):
            client = held.enter_context(closing(HTTPConnection(whole.address, timeout=10)))
            client.request("GET", "/large?60")
        eventually(lambda: sum(open_files(whole, "/proxy/")) > 10_000_000)
        time.sleep(1)
        assert sum(open_files(whole, "/proxy/")) <= 4 * 5 * 2**20
        assert len(client.getresponse().read()) == 60_000_000
    eventually(lambda: not open_files(whole, "/proxy/"))


def test_what_nginx_keeps_is_in_no_folder_of_its_package():
    """On Amazon Linux, these are closed to www-data, so that larger answers would be cut."""
    configuration = front.CONFIGURATION.read_text().partition("    server {")[0]
    assert re.findall(r"^    (\w+)_temp_path (\S+);", configuration, re.MULTILINE) == [
        ("client_body", "/var/spool/image-classifier/nginx"),
        ("proxy", "/var/cache/image-classifier"),
    ]


def test_one_address_may_read_four_tables_at_once(whole: Nginx):
    def status(path: str, accept: str) -> int:
        return requests.get(f"{whole.url}{path}", headers={"Accept": accept}, timeout=10).status_code

    with ExitStack() as held:
        for _ in range(4):
            client = held.enter_context(closing(HTTPConnection(whole.address, timeout=10)))
            client.request("GET", "/batches/large?60")
        eventually(lambda: len(open_files(whole, "/proxy/")) == 4)
        assert status("/batches/1?format=csv", "*/*") == status("/batches/1?%66ormat=csv", "*/*") == 429
        assert status("/batches/1", "text/CSV") == status("/batches/1", "a/b, application/jsonl") == 429
        for accept in ("text/html", "application/json", "*/*"):
            assert status("/batches/1", accept) == 200
        assert status("/batches", "*/*") == status("/batches/1/images?key=a.csv", "*/*") == 200
    eventually(lambda: status("/batches/1?format=csv", "*/*") == 200)


def chunked(nginx: Nginx, method: str = "POST", size: int = 5) -> HTTPConnection:
    """Begins an upload that does not say how much comes, and sends its first `size` bytes."""
    client = HTTPConnection(nginx.address, timeout=10)
    client.putrequest(method, "/")
    client.putheader("Transfer-Encoding", "chunked")
    client.endheaders(b"%x\r\n%b\r\n" % (size, bytes(size)))
    return client


@pytest.fixture
def many_addresses(tmp_path: Path) -> Iterator[Nginx]:
    """nginx that takes the client's address from a header, and grants each network two requests a minute."""
    changes = {
        "server_tokens off;": "server_tokens off; set_real_ip_from 127.0.0.1; real_ip_header X-Address;",
        "rate=100r/s": "rate=1r/m",
        "burst=1200": "burst=1",
    }
    with (
        front.gunicorn("tests.support.front:app", tmp_path),
        front.nginx(tmp_path, free_port(), changes) as nginx,
    ):
        yield nginx


def test_a_64_network_of_ipv6_counts_as_one_address(many_addresses: Nginx):
    def status(address: str) -> int:
        return requests.get(many_addresses.url, headers={"X-Address": address}, timeout=10).status_code

    assert [status(f"2001:db8:1:2::{n:x}") for n in range(4)] == [200, 200, 429, 429]
    assert [status(f"2001:db8:1:2:{n:x}::1") for n in range(2)] == [429, 429]
    assert [status(f"2001:db8:1:{n:x}::1") for n in range(3, 6)] == [200, 200, 200]
    assert [status(f"192.0.2.{n}") for n in range(4)] == [200] * 4


def test_a_full_disk_is_507_for_the_newcomer_alone(tmp_path: Path):
    with small_disk(tmp_path, 3) as disk:
        small = {"/var/spool/image-classifier/nginx": f"{disk}/client_body"}
        with (
            front.gunicorn("tests.support.front:app", tmp_path),
            front.nginx(tmp_path, free_port(), small) as nginx,
            closing(send_in_part(nginx, 2_000_000)) as first,
        ):
            eventually(lambda: open_files(nginx, "client_body/"), 10)
            full = requests.post(nginx.url, data=bytes(3_000_000), headers=JSON, timeout=10)
            assert (full.status_code, full.headers["Retry-After"]) == (507, "60")
            assert full.json()["error"]["code"] == "insufficient_storage"
            assert requests.get(f"{nginx.url}/fleet", timeout=10).status_code == 200
            # nginx may delete the file of the one that was refused a moment after its reply.
            eventually(lambda: requests.post(nginx.url, data=bytes(500_000), timeout=10).ok, 10)
            first.send(bytes(1_000_000))
            assert json.load(first.getresponse())["bytes"] == 2_000_000
