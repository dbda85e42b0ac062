"""Whether a run goes online: an account, a key, and a server that answers."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from psegan.common.errors import PseganError
from psegan.training.loggers import RunSettings
from psegan.training.wandb_mode import resolve_mode, why_silent

KEY = 40 * "0"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Without an account, and with a server that nobody listens for."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


@contextmanager
def server(status: int):
    """The address of a server that gives every request this answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(status)

        def do_POST(self) -> None:
            self.send_error(status)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def test_without_an_account_everything_is_offline(tmp_path, monkeypatch, capsys):
    assert resolve_mode("auto", "run") == "offline"
    with pytest.raises(PseganError, match="no account is configured"):
        resolve_mode("online", "run")
    for said, meant in {"disabled": "disabled", "offline": "offline", "dryrun": "offline"}.items():
        monkeypatch.setenv("WANDB_MODE", said)
        assert resolve_mode("auto", "run") == meant
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not any(isinstance(logger, WandbLogger) for logger in RunSettings(str(tmp_path)).make_loggers())
    assert capsys.readouterr().err == ""


def test_without_a_network_a_run_is_offline_unless_online_was_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert resolve_mode("auto", "runs/mine") == "offline"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("psegan: warning: http://127.0.0.1:9 does not answer (Connection refused)")
    assert "wandb sync --append runs/mine/wandb/offline-run-*" in line
    wanted = r"online, but http://127.0.0.1:9 does not answer \(Connection refused\): add --run.wandb_mode offline"
    with pytest.raises(PseganError, match=wanted):
        resolve_mode("online", "runs/mine")
    assert resolve_mode("offline", "runs/mine") == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(PseganError, match=wanted):
        resolve_mode("auto", "runs/mine")
    assert resolve_mode("offline", "runs/mine") == "offline"
    assert capsys.readouterr().err == ""


def test_a_server_that_answers_is_online(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with server(401) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert resolve_mode("auto", "run") == resolve_mode("online", "run") == "online"
    with server(503) as address:
        assert why_silent(address) == "503 Service Unavailable"


def test_the_wait_is_bounded():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        assert why_silent(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.2)


def test_a_key_that_the_server_refuses_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with server(401) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        wandb.teardown()  # a process reads W&B's environment once
        (logger,) = RunSettings(str(tmp_path), ("wandb",)).make_loggers()
        with pytest.raises(PseganError, match=r"W&B cannot begin the run \(.*401.*add --run\.wandb_mode offline"):
            _ = logger.experiment
        wandb.teardown()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WANDB_API_KEY", "abc", "key has 3 characters, but such keys have 40 or more; correct WANDB_API_KEY"),
        ("WANDB_MODE", "foo", "WANDB_MODE is 'foo', but must be online, offline or disabled"),
        ("WANDB_MODE", "", "WANDB_MODE is '', but must be"),
        ("WANDB_INIT_TIMEOUT", "long", "setting init_timeout is invalid .*number.*; correct WANDB_INIT_TIMEOUT"),
        ("NETRC", "netrc", "W&B's key is invalid .*40.*; run wandb login again"),
    ],
)
def test_settings_that_are_invalid_are_one_line(monkeypatch, tmp_path, name, value, message):
    (tmp_path / "netrc").write_text("machine 127.0.0.1:9 login user password abc\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    wandb.teardown()  # a process reads W&B's environment once
    monkeypatch.setattr(wandb, "api", type(wandb.api)())
    with pytest.raises(PseganError, match=message):
        resolve_mode("auto", "run")
