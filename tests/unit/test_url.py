"""Broker URLs: what they say, what is refused, and that no password ever shows."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from amqproxy.url import DEFAULT_URL, BrokerURL, is_loopback

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

words = st.text(st.characters(codec="utf-8"), max_size=20)
hosts = st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z][a-z0-9-]{0,8}[a-z0-9]){0,2}", fullmatch=True)


def test_the_default_is_the_broker_of_this_machine() -> None:
    url = BrokerURL.parse(DEFAULT_URL)
    assert (url.scheme, url.host, url.port, url.virtual_host) == ("amqp", "localhost", 5672, "/")
    assert (url.user, url.password, url.query) == ("guest", "guest", ())


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("amqp://u:p@host", 5672),
        ("amqps://u:p@host", 5671),
        ("AMQPS://u:p@host/", 5671),
        ("amqp://u:p@host:1/", 1),
        ("amqp://u:p@host:65535/", 65535),
        ("amqp://u:p@host:/", 5672),
    ],
)
def test_the_port_is_the_schemes_unless_one_is_named(text: str, port: int) -> None:
    assert BrokerURL.parse(text).port == port


@pytest.mark.parametrize("text", ["embedded:", "EMBEDDED:"])
def test_the_broker_inside_of_this_process_has_a_url_of_one_word(text: str) -> None:
    url = BrokerURL.parse(text)
    assert url.embedded
    assert str(url) == "embedded:"
    assert not BrokerURL.parse(DEFAULT_URL).embedded


@pytest.mark.parametrize(
    "text", ["embedded:x", "embedded://", "embedded://host/v", "embedded:?heartbeat=3", "embedded:#"]
)
def test_nothing_comes_behind_the_word(text: str) -> None:
    with pytest.raises(ValueError, match="embedded: is the whole URL"):
        BrokerURL.parse(text)


@pytest.mark.parametrize(
    ("path", "virtual_host"),
    [
        ("", "/"),
        ("/", "/"),
        ("/%2F", "/"),
        ("/%2f", "/"),
        ("//", "/"),
        ("/orders", "orders"),
        ("/a%2Fb", "a/b"),
    ],
)
def test_the_virtual_host_is_the_decoded_path(path: str, virtual_host: str) -> None:
    assert BrokerURL.parse(f"amqp://u:p@host{path}").virtual_host == virtual_host


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("amqp://u:p@rabbit.example/", "rabbit.example:5672"),
        ("amqp://u:p@Rabbit.Example:1234/", "rabbit.example:1234"),
        ("amqp://u:p@[2001:db8::1]:99/", "[2001:db8::1]:99"),
        ("amqp://[::1]/", "[::1]:5672"),
    ],
)
def test_the_address_is_host_and_port_as_people_write_them(text: str, address: str) -> None:
    assert BrokerURL.parse(text).address == address


@examples
@given(
    scheme=st.sampled_from(["amqp", "amqps"]),
    user=words.filter(bool),
    password=words,
    host=hosts,
    port=st.integers(1, 65535),
    vhost=words.filter(bool),
)
def test_every_part_is_read_as_it_was_written(
    scheme: str, user: str, password: str, host: str, port: int, vhost: str
) -> None:
    text = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(vhost, safe='')}"
    url = BrokerURL.parse(text)
    assert url == BrokerURL(scheme, host, port, user, password, vhost)


@examples
@given(user=words.filter(bool), password=words, host=hosts, port=st.integers(1, 65535), vhost=words.filter(bool))
def test_printing_it_leaves_out_the_password_and_nothing_else(
    user: str, password: str, host: str, port: int, vhost: str
) -> None:
    url = BrokerURL("amqp", host, port, user, password, vhost)
    assert BrokerURL.parse(str(url)) == BrokerURL("amqp", host, port, user, "", vhost)


@examples
@given(st.text(st.characters(codec="ascii"), max_size=8))
def test_no_password_shows_in_text_or_repr(noise: str) -> None:
    secret = f"s3cr3t{noise}"
    url = BrokerURL.parse(f"amqp://ada:{quote(secret, safe='')}@host/vhost")
    assert url.password == secret
    for shown in (str(url), repr(url), f"{url}", url.address):
        assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "amqp://ada:s3cr3t@host:port/",
        "amqp://ada:s3cr3t@host:99999/",
        "amqp://ada:s3cr3t@host:-1/",
        "amqp://ada:s3cr3t@",
        "amqp://ada:s3cr3t@:5672/",
        "amqp://ada:s3cr3t@host/?verify=no",
        "amqp://ada:s3cr3t@host/?heartbeat=x",
        "http://ada:s3cr3t@host/",
        "ada:s3cr3t@host",
        "amqp://ada:s3cr3t#x@host/",
        "amqp://ada:s3cr3t?x@host/",
        "amqp://ada:s3cr3t/x@host/",
        "amqp://ada:s3cr3t@ho\u2100st/",  # normalises to a/c: urllib refuses it and quotes the whole of it
        "amqp://ada:s3cr3t\uff20x@host/",
        "amqp://ada:x[s3cr3t]@host/",
        "amqp://ada:s3cr3t]@host/",
        "amqp://ada:s3cr3t@[host/",
        "amqp://ada:s3cr3t@[nonsense]/",
        "amqp://ada:?s3cr3t@host/",
        "amqp://ada:12?s3cr3t@host/",
        "amqp://ada:12?s3cr3t=x@host/",
        "amqp://ada:s3cr3t@one,ada:s3cr3t@two/",
    ],
)
def test_no_password_shows_when_a_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        BrokerURL.parse(text)
    assert "s3cr3t" not in "".join(traceback.format_exception_only(caught.value))
    shown = caught.value.__cause__ or (None if caught.value.__suppress_context__ else caught.value.__context__)
    assert "s3cr3t" not in str(shown)


@examples
@given(st.text(max_size=40))
@example("amqp://")
@example("amqp://[")
@example("amqp://u:p@[::1/")
@example("amqp://u:p@h:\u0661/")  # an Arabic digit
@example("amqp://u:p@h/?heartbeat=" + "9" * 5000)
@example("amqp://u:p@h/?" + "name=x&" * 2000)
def test_no_text_does_worse_than_a_value_error(text: str) -> None:
    for candidate in (text, f"amqp://{text}", f"amqp://u:p@{text}", f"amqp://u:p@h/{text}"):
        try:
            url = BrokerURL.parse(candidate)
        except ValueError:
            continue
        assert url.host
        assert 1 <= url.port <= 65535


@pytest.mark.parametrize("text", ["", "localhost", "http://u:p@host/", "amqp:", "rabbit:5672", "amqpss://h/"])
def test_another_scheme_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"amqp://"):
        BrokerURL.parse(text)


@pytest.mark.parametrize("text", ["amqp://", "amqp:///vhost", "amqp://u:p@/", "amqp://u:p@:5672/"])
def test_a_url_without_a_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no host"):
        BrokerURL.parse(text)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "1.5", "5672x"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    with pytest.raises(ValueError, match="port in the broker URL is not a number from 1 to 65535"):
        BrokerURL.parse(f"amqp://u:p@host:{port}/")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "LOCALHOST"])
def test_guest_is_assumed_on_this_machine(host: str) -> None:
    url = BrokerURL.parse(f"amqp://{host}/")
    assert (url.user, url.password) == ("guest", "guest")


@pytest.mark.parametrize(
    "host",
    ["rabbit.example", "10.0.0.1", "[2001:db8::1]", "127.0.0.1.evil.example", "127.example", "128.0.0.1"],
)
def test_guest_is_not_assumed_on_another_machine(host: str) -> None:
    with pytest.raises(ValueError, match="names no user"):
        BrokerURL.parse(f"amqp://{host}/")


@pytest.mark.parametrize("text", ["amqp://@rabbit.example/", "amqp://:p@rabbit.example/"])
def test_an_empty_user_is_no_user(text: str) -> None:
    with pytest.raises(ValueError, match="names no user"):
        BrokerURL.parse(text)


def test_a_user_without_a_password_has_an_empty_one() -> None:
    url = BrokerURL.parse("amqp://ada@localhost/")
    assert (url.user, url.password) == ("ada", "")


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("::1", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("127.0.0.1.evil.example", False),
        ("127.x", False),
        ("126.0.0.1", False),
        ("0.0.0.0", False),
        ("rabbit", False),
        ("", False),
    ],
)
def test_only_names_and_addresses_of_this_machine_are_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


@pytest.mark.parametrize("hosts", ["one,ada:c@two", "one:1,ada:b@two:2,three", "one,ada@two", "one,@two"])
def test_a_login_of_one_host_of_several_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match=r"a login with each host, and there is one for all: write amqp://user:pass"):
        BrokerURL.parse(f"amqp://ada:b@{hosts}/")


@pytest.mark.parametrize(("written", "password"), [("b%40x%2Cy", "b@x,y"), ("b,x@y", "b,x@y"), ("b@x", "b@x")])
def test_a_password_with_these_signs_is_one(written: str, password: str) -> None:
    url = BrokerURL.parse(f"amqp://ada:{written}@one,two/")
    assert (url.password, url.address) == (password, "one:5672,two:5672")


def test_options_are_read() -> None:
    url = BrokerURL.parse("amqp://u:p@h/v?heartbeat=7&name=a%20b&cafile=%2Fca.pem&heartbeat=8")
    assert dict(url.query) == {"heartbeat": "8", "name": "a b", "cafile": "/ca.pem"}, "the last one wins"


@pytest.mark.parametrize("option", ["no_verify_ssl=1", "verify=0", "HEARTBEAT=1", "x", "=1", "ssl_options=x"])
def test_an_unknown_option_is_refused_with_those_that_there_are(option: str) -> None:
    with pytest.raises(ValueError, match=r"unknown option .*there are: .*heartbeat"):
        BrokerURL.parse(f"amqp://u:p@h/?{option}")


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "65536", "1e3", "²"])
def test_a_heartbeat_that_is_no_number_of_seconds_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="heartbeat"):
        BrokerURL.parse(f"amqp://u:p@h/?heartbeat={quote(value)}")


@pytest.mark.parametrize("value", ["0", "65535"])
def test_heartbeats_at_the_limits_are_taken(value: str) -> None:
    assert BrokerURL.parse(f"amqp://u:p@h/?heartbeat={value}").query == (("heartbeat", value),)


def test_a_fragment_is_refused_since_it_would_cut_off_what_stands_before_it() -> None:
    with pytest.raises(ValueError):
        BrokerURL.parse("amqp://u:p@h/orders#2")


@examples
@given(user=words.filter(bool), password=words)
def test_equal_urls_are_equal_and_can_be_keys(user: str, password: str) -> None:
    assume(password != "other")
    url = BrokerURL("amqp", "h", 1, user, password, "/")
    assert {url: 1}[BrokerURL("amqp", "h", 1, user, password, "/")] == 1
    assert url != BrokerURL("amqp", "h", 1, user, "other", "/")


def test_several_hosts_share_all_but_host_and_port() -> None:
    url = BrokerURL.parse("amqp://u:p%2C%40w@one:5672,two,[::1]:5674/orders?heartbeat=7")
    assert url.address == "one:5672,two:5672,[::1]:5674"
    assert str(url) == "amqp://u@one:5672,two:5672,[::1]:5674/orders"
    one, two, three = url.hosts
    assert [(each.host, each.port) for each in url.hosts] == [("one", 5672), ("two", 5672), ("::1", 5674)]
    for each in (one, two, three):
        assert (each.user, each.password, each.virtual_host) == ("u", "p,@w", "orders")
        assert each.query == (("heartbeat", "7"),)
        assert each.hosts == (each,)


def test_one_host_is_the_only_one() -> None:
    url = BrokerURL.parse("amqps://u:p@one/")
    assert url.hosts == (url,)


@examples
@given(places=st.lists(st.tuples(hosts, st.integers(1, 65535)), min_size=1, max_size=4), password=words)
def test_several_hosts_are_printed_as_they_are_read(places: list[tuple[str, int]], password: str) -> None:
    (host, port), *others = places
    url = BrokerURL("amqp", host, port, "u", password, "v", (), tuple(others))
    assert BrokerURL.parse(str(url)) == BrokerURL("amqp", host, port, "u", "", "v", (), tuple(others))


@pytest.mark.parametrize("hosts", ["one,", ",one", "one,,two"])
def test_no_host_of_several_is_empty(hosts: str) -> None:
    with pytest.raises(ValueError, match="names no host"):
        BrokerURL.parse(f"amqp://u:p@{hosts}/")


def test_the_port_of_each_host_is_checked() -> None:
    with pytest.raises(ValueError, match="port"):
        BrokerURL.parse("amqp://u:s3cr3t@one,two:99999/")


def test_guest_is_not_assumed_when_one_of_the_hosts_is_another_machine() -> None:
    assert BrokerURL.parse("amqp://localhost,127.0.0.2:5673/").user == "guest"
    with pytest.raises(ValueError, match=r"for rabbit\.example names no user"):
        BrokerURL.parse("amqp://localhost,rabbit.example/")


@pytest.mark.parametrize("text", ["localhost,other", "http://a,b", "embedded://a,b"])
def test_hosts_are_read_of_broker_urls_only(text: str) -> None:
    with pytest.raises(ValueError, match=r"starts with amqp://|embedded: is the whole URL"):
        BrokerURL.parse(text)


@pytest.mark.parametrize("host", ["localhost", "broker.example"])
def test_whom_a_certificate_names_needs_no_user(host: str) -> None:
    url = BrokerURL.parse(f"amqps://{host}/?auth=EXTERNAL&certfile=c&keyfile=k")
    assert (url.user, url.password, url.external) == ("", "", True)
    assert str(url) == f"amqps://{host}:5671/%2F"


def test_others_do() -> None:
    assert not BrokerURL.parse("amqps://ann:x@broker.example/?auth=plain").external
    with pytest.raises(ValueError, match="names no user"):
        BrokerURL.parse("amqps://broker.example/?auth=plain")
    with pytest.raises(ValueError, match="names no user"):
        BrokerURL.parse("amqps://:x@broker.example/?auth=external")
