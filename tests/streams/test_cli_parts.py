"""``--help``, ``check``, ``schema`` and ``components``: what a user asks before anything runs."""

import click
import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result

from detectors.records import Feedback, Interaction, Signal, StreamKey, Tick
from detectors.rules import RULES
from detectors.scorers import SCORERS
from streams.cli import plumbline
from streams.notifiers import NOTIFIERS
from streams.rollbacks import ROLLBACKS
from tests.conftest import admitted, support_payloads


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(plumbline, arguments, env=environment)


def check(tmp_path, text: str, **environment: str) -> Result:
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    return call("check", str(tmp_path / "c.toml"), **environment)


@pytest.mark.parametrize("name", ["", *sorted(plumbline.commands)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_helps(name, option):
    done = call(*([name] if name else []), option)
    assert done.exit_code == 0
    assert "Usage: " in done.output
    assert len(done.output.splitlines()) > 5


def commands(group: click.Group, name: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for word, command in group.commands.items():
        found[f"{name}{word}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{name}{word} ")
    return found


@pytest.mark.parametrize("name", ["", *sorted(commands(plumbline))])
def test_no_help_shows_its_own_markup(name):
    assert "\\b" not in call(*name.split(), "--help").output


TAUGHT = (
    "run demo replay compare check schema components topics worker produce deadletters backfill reconcile"
)


@pytest.mark.parametrize("name", TAUGHT.split())
def test_help_teaches_by_example(name):
    lines = [line.strip() for line in call(name, "--help").output.splitlines()]
    assert any(f"plumbline {name}" in line for line in lines if not line.startswith("Usage: "))
    assert name in {"schema", "components"} or any("xit code" in line for line in lines)


@pytest.mark.parametrize("arguments", [("no-such-command",), ("run", "--no-such-option"), ("check",)])
def test_what_is_asked_for_wrongly_ends_with_two(arguments):
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stderr


GOOD = """
data_dir = "somewhere"
[door]
host = "0.0.0.0"
token_env = "DOOR"
[[segment]]
name = "plan"
source = "attributes.plan"
[[scorer]]
name = "helpful"
[[rule]]
name = "sustained_regression"
closings = 3
[[notifier]]
name = "log"
[[notifier]]
name = "log"
channel = "second"
"""


def test_a_good_file_is_ok_and_nothing_is_made(tmp_path):
    done = check(tmp_path, GOOD, DOOR="secret")
    assert done.exit_code == 0, done.output
    assert "c.toml: ok" in done.stdout
    assert "log, second" in done.stdout
    assert "secret" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["c.toml"]


def test_a_field_that_no_submission_has_is_pointed_out_and_may_stay(tmp_path):
    done = check(tmp_path, '[[foreign]]\ntopic = "a"\nmapping = {prmpt = "q", response = "a"}\n')
    assert done.exit_code == 0, done.output
    assert "foreign[0].mapping: prmpt is no field of a submission of kind interaction" in done.stderr
    assert "response is" not in done.stderr


WRONG = {
    "foreign topic of ours": (
        '[[foreign]]\ntopic = "plumbline.x"',
        "plumbline.x is one of our own",
    ),
    "foreign topic twice": (
        '[[foreign]]\ntopic = "a"\n[[foreign]]\ntopic = "a"',
        "foreign[1].topic: a is named twice",
    ),
    "no broker": ('[kafka]\nbootstrap = ","', "kafka.bootstrap: names no broker"),
    "a password in plain text": ('[kafka]\nsasl_mechanism = "PLAIN"', "PLAIN without TLS"),
    "missing Kafka password": (
        '[kafka]\nsasl_mechanism = "SCRAM-SHA-512"\nsasl_username = "u"\nsasl_password_env = "ABSENT"',
        "the environment variable ABSENT is not set",
    ),
    "missing authorities": (
        '[kafka]\ntls = true\ntls_ca_file = "/absent/ca"',
        "kafka.tls_ca_file: /absent/ca",
    ),
    "no worker token": (
        '[worker]\nmetrics_host = "0.0.0.0"',
        "worker: metrics are served beyond",
    ),
    "not TOML": ("[door", "c.toml: "),
    "typo in a section's name": ("[dor]\nport = 1", "unknown field `dor`"),
    "typo in a key": ("[door]\nprot = 1", "unknown field `prot` - at `$.door`"),
    "bad type": ('[door]\nport = "x"', "Expected `int`, got `str` - at `$.door.port`"),
    "out of range": ("[door]\nport = 70000", "at `$.door.port`"),
    "not finite": ("[detect]\nunit_s = inf", "at `$.detect.unit_s`"),
    "not a number": ("[detect]\nlateness_s = nan", "at `$.detect.lateness_s`"),
    "too short a bucket": ("[detect]\nunit_s = 0.0001", "at `$.detect.unit_s`"),
    "huge": ("[door]\nmax_past_s = 1e300", "at `$.door.max_past_s`"),
    "unknown scorer": ('[[scorer]]\nname = "refusall"', "scorer[0]: unknown scorer 'refusall'; known: "),
    "unknown rule": ('[[rule]]\nname = "x"', "rule[0]: unknown rule 'x'"),
    "unknown notifier": (
        '[[notifier]]\nname = "log"\n[[notifier]]\nname = "x"',
        "notifier[1]: unknown notifier",
    ),
    "unknown target": ('[[rollback]]\nname = "x"', "rollback[0]: unknown rollback"),
    "unknown parameter": (
        '[[rule]]\nname = "sustained_regression"\nclosing = 2',
        "rule[0]: Object contains unknown field `closing`",
    ),
    "bad parameter": ('[[rule]]\nname = "sustained_regression"\nclosings = 0', "rule[0]: "),
    "no name": ("[[scorer]]\nx = 1", "scorer[0]: needs a `name`"),
    "one channel twice": (
        '[[notifier]]\nname = "log"\n[[notifier]]\nname = "log"',
        "notifier[1]: two notifiers share the channel 'log'",
    ),
    "two targets": (
        '[[rollback]]\nname = "webhook"\nurl = "https://a.example/r"\nstate_url = "https://a.example/s"\n'
        'secret_env = "HOOK"\n[[rollback]]\nname = "webhook"',
        "rollback[1]: deployment '*' has two rollback targets",
    ),
    "missing secret": (
        '[[notifier]]\nname = "webhook"\nurl = "https://a.example/x"\nsecret_env = "ABSENT"',
        "notifier[0]: webhook notifier: secret: the environment variable ABSENT is not set",
    ),
    "missing door token": ('[door]\ntoken_env = "ABSENT"', "the environment variable ABSENT is not set"),
    "no door token": ('[door]\nhost = "0.0.0.0"', "has no token"),
    "missing store password": (
        '[land]\npassword_env = "ABSENT"',
        "the environment variable ABSENT is not set",
    ),
    "missing user key": ('[door]\nuser_key_file = "/absent/key"', "/absent/key: "),
    "unknown segment source": ('[[segment]]\nname = "a"\nsource = "prompt"', "segment[0].source: "),
    "one segment twice": (
        '[[segment]]\nname = "a"\nsource = "model"\n[[segment]]\nname = "a"\nsource = "turn"',
        "segment[0]: two segments are called 'a'",
    ),
    "one scorer twice": (
        '[[scorer]]\nname = "refusal"\n[[scorer]]\nname = "refusal"',
        "scorer[1]: two scorers are called 'refusal'",
    ),
    "one rule twice": (
        '[[rule]]\nname = "sustained_regression"\n[[rule]]\nname = "sustained_regression"\nclosings = 5',
        "rule[1]: two rules are called 'sustained_regression'",
    ),
    "nothing can page": ('[[scorer]]\nname = "NEUTRAL"', "scorer: nothing could ever page"),
    "no network": (
        '[act]\nallow_networks = ["10.0.0.0/8", "10.0.0.1/8"]',
        "act.allow_networks[1]: 10.0.0.1/8 has host bits set",
    ),
    "no address": ('[act]\nallow_networks = ["localhost"]', "act.allow_networks[0]: 'localhost' does not "),
    "part's own network": (
        '[[notifier]]\nname = "webhook"\nurl = "https://a.example/x"\nsecret_env = "HOOK"\n'
        'allow_networks = ["x"]',
        "notifier[0]: 'x' does not appear to be an IPv4 or IPv6 network",
    ),
    "a segment's name": (
        '[[segment]]\nname = "Plan=x"\nsource = "model"',
        "segment[0].name: 'Plan=x' must be ",
    ),
    "an empty segment name": (
        '[[segment]]\nname = ""\nsource = "model"',
        "segment[0].name: '' must be 1 to 64 ",
    ),
    "bad database": ('[land]\ndatabase = "a; DROP"', "at `$.land.database`"),
}


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_line_with_the_path(tmp_path, text, told):
    neutral = next(name for name in SCORERS.names() if SCORERS.build(name, {}).direction == "neutral")
    done = check(tmp_path, text.replace("NEUTRAL", neutral), HOOK="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "whsec" not in done.output


PAGER = '[[notifier]]\nname = "webhook"\nurl = "https://a.example/x"\nsecret_env = "HOOK"\n'


@pytest.mark.parametrize(
    ("text", "warns"),
    [
        (PAGER, True),
        (PAGER + '[act]\npage_url = "https://plumbline.example"', False),
        ('[[notifier]]\nname = "log"', False),
    ],
)
def test_pages_that_would_not_link_to_the_page_are_told(tmp_path, text, warns):
    done = check(tmp_path, text, HOOK="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert done.exit_code == 0, done.output
    assert ("warning: act.page_url is empty" in done.stderr) == warns


def test_the_defaults_are_a_configuration():
    done = call("check", "--defaults")
    assert done.exit_code == 0
    assert msgspec.json.decode(done.stdout)["door"]["port"] == 8321


def test_a_hostile_file_name_does_nothing_to_the_terminal(tmp_path):
    done = call("check", str(tmp_path / "\x1b[31m[bold]no\x07.toml"))
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---- schema


@pytest.fixture(scope="module")
def schemas():
    done = call("schema")
    assert done.exit_code == 0
    return msgspec.json.decode(done.stdout)


def validator(schemas, name):
    document = {**schemas["records"][name], "$defs": schemas["$defs"]}
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_the_schemas_hold_for_real_records(schemas):
    entries = admitted(support_payloads(20, seed=1, canary_from=10))
    key = StreamKey("d", "r", "all", "m", "arm")
    records = [entry.record for entry in entries] + [
        Tick(0, 5),
        Signal(signal_id="s", kind="status", stream=key, at_ms=0, n=1),
        Feedback(deployment="d", feedback_id="f", interaction_id="i", kind="thumb", event_time_ms=0,
                 received_at_ms=0, value=1.0),
    ]  # fmt: skip
    for record in records:
        validator(schemas, type(record).__name__).validate(msgspec.json.decode(msgspec.json.encode(record)))


def test_the_schemas_refuse_what_is_none(schemas):
    interaction = next(
        entry.record
        for entry in admitted(support_payloads(1, seed=1, canary_from=10))
        if isinstance(entry.record, Interaction)
    )
    good = msgspec.json.decode(msgspec.json.encode(interaction))
    check_one = validator(schemas, "Interaction")
    for wrong in ({**good, "prompt": 1}, {k: v for k, v in good.items() if k != "release"}, [good]):
        assert not check_one.is_valid(wrong)


def test_the_door_describes_itself():
    done = call("schema", "--openapi")
    assert done.exit_code == 0
    assert "/v1/interactions" in msgspec.json.decode(done.stdout)["paths"]


# ---- components


def test_components_lists_every_part_with_its_settings():
    found = msgspec.json.decode(call("components", "--json").stdout)
    registries = {registry.kind: registry for registry in (SCORERS, RULES, NOTIFIERS, ROLLBACKS)}
    assert set(found) == set(registries)
    for kind, parts in found.items():
        assert [part["name"] for part in parts] == registries[kind].names()
        assert all(part["summary"] for part in parts)
    (rule,) = [part for part in found["rule"] if part["name"] == "sustained_regression"]
    assert rule["settings"] == {"closings": "2", "min_units": "50"}
    (hook,) = [part for part in found["notifier"] if part["name"] == "webhook"]
    assert hook["settings"]["url"] == "(required)"


def test_components_reads_well():
    text = call("components").stdout
    assert "sustained_regression: " in text
    assert "closings = 2" in text


def test_the_detectability_table_follows_the_configured_budget(tmp_path):
    def units(budget: float) -> float:
        (tmp_path / "c.toml").write_text(f"[detect]\nfalse_pages_per_week = {budget}\n")
        asked = ["detectability", "--rate", "100", "--size", "0.2", "--json", "-c", str(tmp_path / "c.toml")]
        done = CliRunner().invoke(plumbline, asked)
        assert done.exit_code == 0, done.output
        return msgspec.json.decode(done.stdout)[0]["units"]

    assert units(0.001) > units(100.0)
    (tmp_path / "c.toml").write_text("[detect]\nfalse_page = 1\n")
    asked = ["detectability", "--rate", "100", "-c", str(tmp_path / "c.toml")]
    assert CliRunner().invoke(plumbline, asked).exit_code == 2
