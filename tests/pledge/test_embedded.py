import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from pledge import embedded
from pledge.embedded import ELSEWHERE, EmbeddedPostgresFailed, create_database, postgres

ROOT = os.geteuid() == 0
USER = """
import sys
from pathlib import Path
from pledge.embedded import postgres

with postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(folder: Path) -> Path:
    return folder / "home"


class Neighbour:
    """Another process that uses the server, until it is told to leave or is killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()
        assert self.url, "the other process could not start the server"

    def leave(self) -> None:
        self.process.communicate(timeout=180)

    def die(self, kind: signal.Signals = signal.SIGKILL) -> None:
        os.killpg(self.process.pid, kind)
        self.process.wait(timeout=180)


@contextmanager
def neighbour(home: Path) -> Iterator[Neighbour]:
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Neighbour(process)
        finally:
            process.kill()


def server_of(home: Path) -> int:
    note = home / ELSEWHERE
    place = Path(note.read_text().partition("\n")[0]) if note.exists() else home
    return int((place / "postgres" / "postmaster.pid").read_text().split("\n")[0])


def is_server(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def keep_a_promise(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE promises AS SELECT 'kept' AS state")


def promises(url: str) -> list[tuple[str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT state FROM promises").fetchall()


def test_data_outlive_a_stop_and_the_server_does_not(home: Path) -> None:
    with postgres(home) as url:
        keep_a_promise(url)
        server = server_of(home)
        assert is_server(server)
    assert not is_server(server)
    with postgres(home) as url:
        assert promises(url) == [("kept",)]


def test_a_commit_is_on_disk_when_it_returns(home: Path) -> None:
    with postgres(home) as url, psycopg.connect(url) as connection:
        for setting, expected in {
            "fsync": "on",
            "synchronous_commit": "on",
            "TimeZone": "UTC",
        }.items():
            assert connection.execute(f"SHOW {setting}").fetchone() == (expected,)


def test_the_last_of_two_processes_stops_the_server(home: Path) -> None:
    with neighbour(home) as first, neighbour(home) as second:
        server = server_of(home)
        assert first.url == second.url
        first.leave()
        assert is_server(server)
        keep_a_promise(second.url)
        second.leave()
        assert not is_server(server)


def test_processes_that_arrive_at_once_find_one_server(home: Path) -> None:
    with postgres(home):
        pass
    found = []

    def visit() -> None:
        with neighbour(home) as visitor:
            found.append((visitor.url, promises(visitor.url)))
            visitor.leave()

    with postgres(home) as url:
        keep_a_promise(url)
    visits = [threading.Thread(target=visit) for _ in range(6)]
    for thread in visits:
        thread.start()
    for thread in visits:
        thread.join()
    assert found == [(url, [("kept",)])] * 6
    assert not (home / "postgres" / "postmaster.pid").exists()


def test_a_server_left_by_a_killed_process_is_taken_over(home: Path) -> None:
    with neighbour(home) as killed:
        keep_a_promise(killed.url)
        server = server_of(home)
        killed.die()
    assert is_server(server)
    with postgres(home) as url:
        assert server_of(home) == server
        assert promises(url) == [("kept",)]
    assert not is_server(server)


def test_ctrl_c_ends_the_process_and_not_the_server_of_its_neighbours(home: Path) -> None:
    with neighbour(home) as interrupted, postgres(home) as url:
        interrupted.die(signal.SIGINT)
        keep_a_promise(url)
        assert promises(url) == [("kept",)]


def test_a_killed_server_comes_back_with_all_that_was_committed(home: Path) -> None:
    with neighbour(home) as first:
        keep_a_promise(first.url)
        killed = server_of(home)

        def work_on() -> None:
            with suppress(psycopg.OperationalError), psycopg.connect(first.url) as busy:
                busy.execute("SELECT count(*) FROM generate_series(1, 1e10::bigint)")

        orphan = threading.Thread(target=work_on)
        orphan.start()
        time.sleep(0.5)
        os.kill(killed, signal.SIGKILL)
        with postgres(home) as url:
            assert promises(url) == [("kept",)]
            server = server_of(home)
            assert server != killed
        orphan.join()
        assert is_server(server)
        first.leave()
        assert not is_server(server)


def test_a_stale_pid_file_may_name_any_living_process(home: Path) -> None:
    with neighbour(home) as first:
        keep_a_promise(first.url)
        file = home / "postgres" / "postmaster.pid"
        stale = file.read_text().replace(str(server_of(home)), str(os.getpid()), 1)
        os.kill(server_of(home), signal.SIGKILL)
        first.die()
    file.write_text(stale)
    with postgres(home) as url:
        assert promises(url) == [("kept",)]


def test_a_home_deleted_under_a_left_server_begins_anew(home: Path) -> None:
    with neighbour(home) as killed:
        keep_a_promise(killed.url)
        server = server_of(home)
        killed.die()
    shutil.rmtree(home)
    with postgres(home) as url:
        assert not is_server(server)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT to_regclass('promises')").fetchone() == (None,)


def test_a_broken_first_attempt_is_begun_again(home: Path) -> None:
    half = home / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with postgres(home) as url:
        keep_a_promise(url)


def test_a_private_folder_above_the_home_stays_private(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    home = private / "home"
    for _ in range(2):
        with postgres(home) as url:
            create_database(url, "pledge")
            server = server_of(home)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert (home / ELSEWHERE).exists() == ROOT
    assert (home / "postgres").exists() != ROOT
    assert not is_server(server)


def test_data_stay_where_they_are_when_the_folder_above_opens(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    with postgres(private / "home") as url:
        keep_a_promise(url)
    private.chmod(0o755)
    with postgres(private / "home") as url:
        assert promises(url) == [("kept",)]


def test_programs_in_a_private_folder_are_copied_for_the_servers_account(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = embedded._programs()
    monkeypatch.setattr(embedded, "SHARED", folder / "shared")
    monkeypatch.setattr(embedded, "_open_to_all", lambda path: "pginstall18" not in str(path))
    programs = embedded._programs()
    assert (programs == installed) != ROOT
    assert embedded._programs() == programs
    with postgres(folder / "home") as url:
        keep_a_promise(url)
    if ROOT:
        assert len(list((folder / "shared").iterdir())) == 1


@pytest.mark.parametrize("name", ["a" * 120, "客户 & $HOME, “quoted”"])
def test_a_path_that_no_socket_could_have_is_no_obstacle(folder: Path, name: str) -> None:
    with postgres(folder / name) as url:
        keep_a_promise(url)
        assert promises(create_database(url, "postgres")) == [("kept",)]
        sockets = Path(url.partition("host=")[2].partition("&")[0])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


def test_data_of_another_major_version_are_refused_and_kept(home: Path) -> None:
    data = home / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with (
        pytest.raises(EmbeddedPostgresFailed, match=r"belongs to PostgreSQL 16.*another home"),
        postgres(home),
    ):
        pass
    assert [file.name for file in data.iterdir()] == ["PG_VERSION"]


def test_a_folder_without_a_database_is_refused(home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    with pytest.raises(EmbeddedPostgresFailed, match="PG_VERSION is missing"), postgres(home):
        pass


def test_a_home_that_cannot_be_written_is_refused(folder: Path) -> None:
    closed = Path("/proc") if ROOT else folder / "closed"
    if not ROOT:
        closed.mkdir(mode=0o500)
    with (
        pytest.raises(EmbeddedPostgresFailed, match=f"{closed}/home cannot hold.*another home"),
        postgres(closed / "home"),
    ):
        pass


def test_a_server_that_does_not_start_is_explained_by_its_log(home: Path) -> None:
    with postgres(home):
        pass
    with (home / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("promises = kept\n")
    with (
        pytest.raises(EmbeddedPostgresFailed, match='unrecognized configuration parameter "promis'),
        postgres(home),
    ):
        pass


def test_a_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    initdb = folder / "initdb"
    initdb.write_text("#!/bin/sh\necho 'could not write: No space left on device'\nexit 1\n")
    initdb.chmod(0o755)
    monkeypatch.setattr(embedded, "_programs", lambda: folder)
    with (
        pytest.raises(EmbeddedPostgresFailed, match="is full: free some space"),
        postgres(folder / "home"),
    ):
        pass


def test_a_failure_of_the_user_is_not_taken_for_the_servers(home: Path) -> None:
    with pytest.raises(FileNotFoundError), postgres(home):
        Path("/no/such/file").read_text()
    assert not (home / "postgres" / "postmaster.pid").exists()


def test_a_database_is_created_once(database_url: str) -> None:
    keep_a_promise(database_url)
    name = database_url.partition("?")[0].rpartition("/")[2]
    assert promises(create_database(database_url, name)) == [("kept",)]


def killed_postmaster(home: Path) -> None:
    os.kill(server_of(home), signal.SIGKILL)


def killed_whole(home: Path) -> None:
    postmaster = psutil.Process(server_of(home))
    for process in [postmaster, *postmaster.children()]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def shut_down(home: Path) -> None:
    os.kill(server_of(home), signal.SIGINT)


def wait_until_promised(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        with suppress(psycopg.OperationalError):
            assert promises(url) == [("kept",)]
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_supervised_server_comes_back_however_it_ended(home: Path) -> None:
    with postgres(home, supervised=True) as url:
        keep_a_promise(url)
        for end in (killed_postmaster, killed_whole, shut_down):
            server = server_of(home)
            end(home)
            while is_server(server):
                time.sleep(0.01)
            wait_until_promised(url)
            assert server_of(home) != server
        server = server_of(home)
    assert not is_server(server)


def test_a_supervised_server_that_does_not_start_is_tried_again(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with postgres(home, supervised=True) as url:
        keep_a_promise(url)
        place = home / "postgres" / "postgresql.conf"
        aside = place.rename(place.with_suffix(".aside"))
        os.kill(server_of(home), signal.SIGKILL)
        said = ""
        while said.count("a server does not start") < 2:
            said += capsys.readouterr().out
            time.sleep(0.05)
        assert "a server ended and is started again" in said
        assert "could not access the server configuration file" in said
        aside.rename(place)
        wait_until_promised(url)
        while "a server runs again" not in said:
            said += capsys.readouterr().out
            time.sleep(0.05)
