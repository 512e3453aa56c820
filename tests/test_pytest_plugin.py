"""The pytest plugin as other projects have it: runs of pytest inside of pytest."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from amqproxy.testing import RabbitMQ, broker_thread

PLUGIN = "_amqproxy_pytest"
ROOT = Path(__file__).parent.parent

TESTS = """
import asyncio

import pika

import amqproxy
from amqproxy.testing import BrokerThread

seen = []

def test_without_event_loop(amqp_url):
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.queue_declare("q")
        channel.basic_publish("", "q", b"hello")
        assert channel.basic_get("q")[2] == b"hello"
    seen.append(amqp_url)

def test_with_event_loop(amqp_url):
    async def double(number: int) -> int:
        return 2 * number

    async def main():
        async with amqproxy.connect(amqp_url) as mq, mq.serve(double, name="double"):
            assert await mq.proxy("double").double(4) == 8

    asyncio.run(main())
    seen.append(amqp_url)

def test_isolation(amqp_url):
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_declare("q", durable=True)  # a shared broker would have it, and not as durable
    assert len({amqp_url, *seen}) == 3

def test_control(amqp_broker, amqp_url):
    assert amqp_broker.url == amqp_url
    assert amqp_broker.queues() == {}
    assert isinstance(amqp_broker, BrokerThread)
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest in a process of its own, with no plugin besides ours."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("AMQPROXY_TEST_URL", raising=False)

    def run(*arguments: str, **files: str) -> pytest.RunResult:
        if files:
            pytester.makepyfile(**files)
        return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", *arguments, timeout=90)

    return run


def test_each_test_has_a_broker_of_its_own(run: Run) -> None:
    result = run("-W", "error", test_it=TESTS)
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("amqp broker:*")


def test_same_tests_run_on_rabbitmq(run: Run, rabbitmq_node: RabbitMQ) -> None:
    result = run("--amqp-broker=rabbitmq", "-rs", test_it=TESTS)
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(
        ["amqp broker: rabbitmq", "*amqp_broker.queues is the embedded broker's, and these tests run on another one"]
    )


@pytest.mark.parametrize("way", ["option", "variable", "ini"])
def test_same_tests_run_on_a_broker_that_is_there(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with broker_thread(users={"ann": "hush"}) as broker:
        if way == "variable":
            monkeypatch.setenv("AMQPROXY_TEST_URL", broker.url)
        if way == "ini":
            pytester.makeini(f"[pytest]\namqp_broker = {broker.url}\n")
        arguments = [f"--amqp-broker={broker.url}"] if way == "option" else []
        result = run(*arguments, "-k", "event_loop", test_it=TESTS)
        assert "q" in broker.queues()
    result.assert_outcomes(passed=2, deselected=2)
    result.stdout.fnmatch_lines([f"amqp broker: 127.0.0.1:{broker.port}/"])
    assert "hush" not in result.stdout.str()


def test_option_wins_over_variable_and_that_over_the_ini_file(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\namqp_broker = amqp://ini/\n")
    monkeypatch.setenv("AMQPROXY_TEST_URL", "amqp://variable/")
    run("--co").stdout.fnmatch_lines(["amqp broker: amqp://variable/"])
    run("--co", "--amqp-broker=amqp://option/").stdout.fnmatch_lines(["amqp broker: amqp://option/"])
    run("--co", "--amqp-broker=embedded").stdout.no_fnmatch_line("amqp broker:*")


def test_unknown_broker_is_refused_at_once(run: Run) -> None:
    result = run("--amqp-broker=redis", test_it=TESTS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--amqp-broker is embedded, rabbitmq or a URL like amqp://host/, not 'redis'"])


def test_broker_may_serve_longer_than_a_test(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\namqp_broker_scope = module\n")
    shared = """
        import pytest
        urls = set()

        @pytest.fixture(scope="module")
        def application(amqp_url):
            return amqp_url

        @pytest.mark.parametrize("number", range(3))
        def test_one(application, amqp_url, number):
            urls.add(amqp_url)
            assert urls == {application}
    """
    run(test_it=shared).assert_outcomes(passed=3)


def test_what_no_broker_has_is_no_reason_to_skip(run: Run) -> None:
    result = run("--amqp-broker=amqp://127.0.0.1:1/", test_it="def test_it(amqp_broker): amqp_broker.explode()")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*AttributeError: amqp_broker has no 'explode'"])


def test_runs_that_ask_for_no_broker_pay_nothing(run: Run) -> None:
    unrelated = """
        import sys, threading

        def test_nothing_of_amqproxy_is_there():
            assert not [name for name in sys.modules if name.partition(".")[0] in ("amqproxy", "aio_pika", "pamqp")]
            assert threading.active_count() == 1
    """
    run(test_it=unrelated).assert_outcomes(passed=1)


def test_fixtures_say_what_they_are(run: Run) -> None:
    result = run("--fixtures")
    result.stdout.fnmatch_lines(["amqp_broker*", "*An AMQP broker for this test alone*", "amqp_url*"])


def test_fixtures_of_a_projects_own_win(run: Run) -> None:
    own = "import pytest\n@pytest.fixture\ndef amqp_url(): return 'mine'"
    run(conftest=own, test_it="def test_it(amqp_url): assert amqp_url == 'mine'").assert_outcomes(passed=1)


def test_installed_plugin_is_found_by_itself() -> None:
    found = [point.value for point in entry_points(group="pytest11") if point.name == "amqproxy"]
    declared = '[project.entry-points.pytest11]\namqproxy = "_amqproxy_pytest"\n'
    assert declared in (ROOT / "pyproject.toml").read_text()
    assert found in ([], [PLUGIN])  # none in a checkout that is not installed
