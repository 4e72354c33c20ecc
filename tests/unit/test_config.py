"""Where the broker is: URLs, files, profiles, and which source goes before which."""

import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.brokerurl import parse_url
from jobrunner.config import DEFAULT_URL, Flags, Settings, load
from jobrunner.configfile import Files, find, line_of
from jobrunner.errors import ConfigInvalid, OptionsClash, UrlInvalid, UrlNotAmqp

SECTIONS = ["enqueue", "worker", "broker"]

pytestmark = pytest.mark.usefixtures("alone")


def _files(profile: str | None = None, explicit: str | None = None) -> Files:
    return find(Path.cwd(), explicit=explicit, profile=profile, sections=SECTIONS)


def _load(flags: Flags | None = None, environ: dict[str, str] | None = None, profile: str | None = None) -> Settings:
    return load(flags or Flags(), environ or {}, _files(profile))


# --- URLs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("amqp://localhost", ("localhost", 5672, "guest", "guest", "/", False)),
        ("amqp://localhost/", ("localhost", 5672, "guest", "guest", "/", False)),
        ("amqp://localhost/%2F", ("localhost", 5672, "guest", "guest", "/", False)),
        ("amqps://app:s%40cret@rabbit.prod/jobs", ("rabbit.prod", 5671, "app", "s@cret", "jobs", True)),
        ("amqp://[::1]:5673/a%2Fb", ("::1", 5673, "guest", "guest", "a/b", False)),
    ],
)
def test_an_amqp_url_is_taken_apart(text: str, parts: tuple[object, ...]) -> None:
    url = parse_url(text)
    assert (url.host, url.port, url.user, url.password, url.vhost, url.tls) == parts


def test_a_url_may_name_the_nodes_of_a_cluster() -> None:
    url = parse_url("amqp://app:a%2Cb@rabbit1:5673,rabbit2,[::1]:5674/jobs")
    assert (url.user, url.password, url.vhost) == ("app", "a,b", "jobs")
    assert [(node.host, node.port) for node in url.nodes] == [("rabbit1", 5673), ("rabbit2", 5672), ("::1", 5674)]
    assert all(node.vhost == "jobs" and node.nodes == (node,) for node in url.nodes)
    assert url.masked == "amqp://app@rabbit1:5673,rabbit2:5672,::1:5674/jobs"
    assert not url.is_loopback
    assert parse_url("amqp://localhost,127.0.0.2:5673").is_loopback


@pytest.mark.parametrize("text", ["http://localhost:15672", "https://rabbit.prod", "amqp://localhost:15672"])
def test_the_web_page_is_told_from_the_amqp_port(text: str) -> None:
    with pytest.raises(UrlNotAmqp) as caught:
        parse_url(text)
    assert caught.value.hint.startswith("amqp://")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("amqp://localhost:notaport", "port 'notaport' is not a number"),
        ("amqp://localhost:99999", "port '99999' is out of range 0-65535"),
        ("redis://localhost", "'redis' is no scheme of it"),
        ("localhost", "it does not begin with amqp:// or amqps://"),
        ("amqp://", "it names no host"),
        ("amqp://h,", "it names no host"),
        ("amqp://h,other:x", "port 'x' is not a number"),
        ("amqp://h/a/b", "the virtual host 'a/b' holds a '/'; write it as %2F"),
    ],
)
def test_a_url_that_is_wrong_says_where(text: str, reason: str) -> None:
    with pytest.raises(UrlInvalid) as caught:
        parse_url(text)
    assert caught.value.message == f"The broker URL is not valid: {reason}."


@pytest.mark.parametrize(
    "password", ["canary/x", "canary#x", "canary?x", "[canary]", "canary\uff0fx", "12/canary/x", "canary[x"]
)
@pytest.mark.parametrize("scheme", ["amqp", "amqps", "http"])
def test_a_password_that_is_not_escaped_is_never_shown(scheme: str, password: str) -> None:
    with pytest.raises(UrlInvalid) as caught:
        parse_url(f"{scheme}://app:{password}@rabbit.prod/jobs")
    assert "canary" not in caught.value.message + caught.value.hint + str(caught.value.__cause__)
    assert "percent-encode" in caught.value.hint


@given(st.text(max_size=40))
def test_no_text_makes_the_url_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(UrlInvalid, UrlNotAmqp):
        assert parse_url(text).host


def test_a_password_is_never_shown() -> None:
    url = parse_url("amqp://app:canary@rabbit.prod/jobs")
    assert "canary" not in url.masked + repr(url) + str(url)
    assert url.masked == "amqp://app@rabbit.prod:5672/jobs"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.9", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("127.example.org", False),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("localhost,127.x.org", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, expected: bool) -> None:
    assert parse_url(f"amqp://{host}").is_loopback is expected


# --- which source goes first ----------------------------------------------------------------------------------------


def test_without_any_source_the_default_holds() -> None:
    settings = _load()
    assert settings.url == msgspec.structs.replace(parse_url(DEFAULT_URL), origin="default")
    assert settings.connect_timeout_s == 10.0


def test_a_flag_goes_before_the_environment_and_that_before_the_file() -> None:
    Path("jobrunner.toml").write_text('url = "amqp://file"\n')
    environ = {"JOBRUNNER_URL": "amqp://env"}
    assert _load(Flags(url="amqp://flag"), environ).url.host == "flag"
    assert _load(environ=environ).url.host == "env"
    assert _load().url.host == "file"
    assert _load().url.origin == "jobrunner.toml:1"


def test_two_variables_that_name_a_broker_clash() -> None:
    with pytest.raises(OptionsClash, match="JOBRUNNER_URL and JOBRUNNER_URL_FILE both"):
        _load(environ={"JOBRUNNER_URL": "amqp://a", "JOBRUNNER_URL_FILE": "b"})


def test_a_url_file_is_read_beside_the_file_that_names_it() -> None:
    Path("conf").mkdir()
    Path("conf/secret").write_text("amqp://app:s@rabbit/jobs\n")
    Path("conf/jobrunner.toml").write_text('url_file = "secret"\n')
    settings = load(Flags(), {}, _files(explicit="conf/jobrunner.toml"))
    assert (settings.url.host, settings.url.origin) == ("rabbit", "conf/jobrunner.toml:1")


def test_a_url_file_that_is_missing_says_who_named_it() -> None:
    with pytest.raises(ConfigInvalid, match=r"nowhere: No such file or directory \(from JOBRUNNER_URL_FILE\)"):
        _load(environ={"JOBRUNNER_URL_FILE": "nowhere"})


def test_the_nearest_project_file_upward_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("jobrunner.toml").write_text('url = "amqp://far"\n')
    Path("a/b").mkdir(parents=True)
    Path("a/pyproject.toml").write_text('[tool.jobrunner]\nurl = "amqp://near"\n')
    monkeypatch.chdir("a/b")
    assert _load().url.host == "near"


def test_a_pyproject_of_somebody_else_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("jobrunner.toml").write_text('url = "amqp://far"\n')
    Path("a").mkdir()
    Path("a/pyproject.toml").write_text('[project]\nname = "x"\n')
    monkeypatch.chdir("a")
    assert _load().url.host == "far"


def test_the_projects_file_goes_before_the_users_and_both_add_up(tmp_path: Path) -> None:
    user = tmp_path / "home/.config/jobrunner/config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('connect_timeout = "30s"\nurl = "amqp://user"\n[worker]\nprocs = 2\nname = "mine"\n')
    Path("jobrunner.toml").write_text('url = "amqp://project"\n[worker]\nprocs = 8\n')
    settings = _load()
    assert (settings.url.host, settings.connect_timeout_s) == ("project", 30.0)
    assert _files().table("worker", ["procs", "name"]) == {"procs": 8, "name": "mine"}


def test_a_profile_goes_before_the_rest_of_the_files() -> None:
    Path("jobrunner.toml").write_text(
        'url = "amqp://base"\n[profiles.prod]\nurl = "amqp://prod"\n[profiles.prod.worker]\nprocs = 9\n'
    )
    settings = _load(profile="prod")
    assert (settings.url.host, settings.profile) == ("prod", "prod")
    assert _files("prod").table("worker", ["procs"]) == {"procs": 9}
    assert _files("prod").place("worker", "procs") == "jobrunner.toml:5"


def test_a_profile_that_was_typed_goes_before_the_environments_url() -> None:
    Path("jobrunner.toml").write_text('[profiles.prod]\nurl = "amqp://prod"\n')
    environ = {"JOBRUNNER_URL": "amqp://env"}
    assert _load(Flags(profile_typed=True), environ, profile="prod").url.host == "prod"
    assert _load(environ=environ, profile="prod").url.host == "env"


def test_tls_files_are_those_beside_the_configuration() -> None:
    Path("jobrunner.toml").write_text('url = "amqps://rabbit"\n[tls]\nca_file = "ca.pem"\nserver_name = "r"\n')
    url = _load().url
    assert url.ca_file is not None
    assert (Path(url.ca_file).name, url.server_name, url.cert_file) == ("ca.pem", "r", None)


def test_tls_variables_go_before_the_files() -> None:
    Path("jobrunner.toml").write_text('url = "amqps://rabbit"\n[tls]\nca_file = "ca.pem"\nserver_name = "r"\n')
    url = _load(environ={"JOBRUNNER_TLS_CA_FILE": "other.pem", "JOBRUNNER_TLS_CERT_FILE": "c.pem"}).url
    assert (url.ca_file, url.cert_file, url.server_name) == ("other.pem", "c.pem", "r")
    plain = _load(environ={"JOBRUNNER_URL": "amqp://rabbit", "JOBRUNNER_TLS_CA_FILE": "other.pem"}).url
    assert plain.ca_file is None


# --- what is wrong with a file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url = 3\n", "jobrunner.toml:1: url is not text."),
        ("\nulr = 'x'\n", "jobrunner.toml:2: unknown key 'ulr'. Did you mean 'url'?"),
        ("[wroker]\n", "jobrunner.toml:1: unknown key 'wroker'. Did you mean 'worker'?"),
        ("[tls]\nca_fil = 'x'\n", "jobrunner.toml:2: unknown key 'ca_fil' in [tls]. Did you mean 'ca_file'?"),
        ("[tls]\nfoo = 'x'\n", "unknown key 'foo' in [tls]. Known: ca_file, cert_file, key_file, server_name"),
        ("url = \n", "jobrunner.toml:1: not TOML: Invalid value."),
        ("tls = 1\n", "jobrunner.toml:1: [tls] is not a table."),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(text: str, problem: str) -> None:
    Path("jobrunner.toml").write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        _load()
    assert problem in caught.value.message


def test_an_unknown_key_of_a_command_is_told_with_its_line_and_the_nearest_one() -> None:
    Path("jobrunner.toml").write_text("# a\n\n[worker]\nprcs = 3\n")
    with pytest.raises(ConfigInvalid) as caught:
        _files().table("worker", ["procs", "queue", "grace"])
    assert caught.value.message == "jobrunner.toml:4: unknown key 'prcs' in [worker]. Did you mean 'procs'?"


def test_an_unknown_profile_names_those_that_there_are() -> None:
    Path("jobrunner.toml").write_text('[profiles.prod]\nurl = "amqp://prod"\n')
    with pytest.raises(ConfigInvalid, match="Did you mean 'prod'") as caught:
        _files("prd")
    assert caught.value.hint == "Profiles: prod"


def test_a_timeout_that_is_none_says_where_it_stands() -> None:
    Path("jobrunner.toml").write_text("connect_timeout = 'soon'\n")
    with pytest.raises(ConfigInvalid, match=r"jobrunner.toml:1: connect_timeout: 'soon' is not a duration."):
        _load()


@pytest.mark.parametrize(
    ("keys", "line"),
    [(("url",), 1), (("worker",), 3), (("worker", "procs"), 4), (("profiles", "prod", "url"), 6), (("absent",), 1)],
)
def test_the_line_of_a_key_is_found(keys: tuple[str, ...], line: int) -> None:
    text = 'url = "x"\n\n[worker] # here\n"procs" = 3\n[profiles."prod"]\nurl = "y"\n'
    assert line_of(text, keys) == line


# --- how jobs are published -----------------------------------------------------------------------------------------


def test_the_route_is_read_beside_the_options_of_the_command_broker() -> None:
    assert _load().url.route == "queues"
    Path("jobrunner.toml").write_text('[broker]\nroute = "jobs"\nport = 5673\n')
    assert _load().url.route == "jobs"
    assert _files().table("broker", ["port"]) == {"port": 5673}
    assert _load(environ={"JOBRUNNER_BROKER_ROUTE": "queues"}).url.route == "queues"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[broker]\nroute = "job"\n', "jobrunner.toml:2: route is 'queues' or 'jobs', not 'job'."),
        ("broker = 1\n", "jobrunner.toml:1: [broker] is not a table."),
    ],
)
def test_a_route_that_does_not_exist_is_refused(text: str, problem: str) -> None:
    Path("jobrunner.toml").write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        _load()
    assert caught.value.message == problem


@pytest.mark.parametrize(
    "text", ["amqp://u%2F:p%40w@[::1]:5673/a%2Fb", "amqps://u:p@one:5671,two:5672/%2F", "amqp://guest:guest@h:5672/v"]
)
def test_a_url_can_be_passed_on_in_variables(text: str) -> None:
    url = parse_url(text, "a file")
    assert parse_url(url.variables()["JOBRUNNER_URL"], "a file") == url
    assert parse_url(text, "JOBRUNNER_URL_FILE").variables() == {}
