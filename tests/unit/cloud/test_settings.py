import pytest

from cloud.settings import ControllerSettings, SettingsError, WorkerSettings


@pytest.fixture
def environment(settings_environment):
    settings_environment.setenv("INPUT_BUCKET", "photos-in")
    settings_environment.setenv("OUTPUT_BUCKET", "photos-out")
    return settings_environment


def test_the_two_buckets_are_all_that_must_be_set(environment):
    settings = ControllerSettings.from_environment()
    assert (settings.input_bucket, settings.output_bucket) == ("photos-in", "photos-out")
    assert settings.worker_name == "app-tier-instance"
    assert settings.model == "resnet18"


def test_a_setting_is_read_from_the_variable_of_its_name(environment):
    environment.setenv("MAX_INSTANCES", "20")
    environment.setenv("MODEL", "resnet50")
    settings = ControllerSettings.from_environment()
    assert (settings.max_instances, settings.model) == (20, "resnet50")


def test_the_state_has_a_bucket_of_its_own_beside_that_of_the_predictions(environment):
    assert ControllerSettings.from_environment().state_bucket == "photos-out-state"
    environment.setenv("STATE_BUCKET", "photos-state")
    assert ControllerSettings.from_environment().buckets == ("photos-in", "photos-out", "photos-state")


@pytest.mark.parametrize(
    ("text", "parts"), [("", ()), ("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b"))]
)
def test_lists_are_separated_by_commas(environment, text, parts):
    environment.setenv("SUBNET_IDS", text)
    assert ControllerSettings.from_environment().subnet_ids == parts


def test_an_empty_variable_counts_as_not_set(environment):
    environment.setenv("MAX_INSTANCES", "")
    assert ControllerSettings.from_environment().max_instances == 10


def test_a_missing_setting_is_named_with_what_it_is_for(environment):
    environment.delenv("INPUT_BUCKET")
    with pytest.raises(
        SettingsError, match=r"^INPUT_BUCKET \(S3 bucket for the uploaded images\) is not set$"
    ):
        ControllerSettings.from_environment()


def test_a_setting_that_only_one_tier_needs_is_asked_for_by_it(environment):
    with pytest.raises(SettingsError, match=r"^AMI_ID \(.*controller.*\) is not set$"):
        ControllerSettings.from_environment("ami_id")


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("MAX_INSTANCES", "many", "should be a whole number"),
        ("MAX_INSTANCES", "0", "should be greater than or equal to 1"),
        ("MAX_INSTANCES", "-3", "should be greater than or equal to 1"),
        ("MAX_IMAGES_PER_INSTANCE", "0", "should be greater than or equal to 1"),
        ("BATCH_SHARE", "0", "should be greater than or equal to 1"),
        ("BATCH_SHARE", "101", "should be less than or equal to 100"),
        ("SCALING", "speed", "should be 'queue' or 'rate'"),
        ("REQUEST_TIMEOUT", "86400", "should be less than or equal to 3600"),
        ("MODEL", "resnet19", "should be 'resnet18', 'resnet34'"),
        ("MARKET", "black", "should be 'on-demand' or 'spot'"),
        ("INPUT_BUCKET", "My_Bucket", "should be the name of a bucket: 3 to 63 small letters"),
        ("REQUEST_QUEUE", "queue.fifo", "should be the name of a standard queue: 1 to 72"),
        ("REQUEST_QUEUE", "q" * 73, "should be the name of a standard queue: 1 to 72"),
        ("AMI_ID", "debian", "should be the id of an AMI, such as ami-0"),
        ("WORKER_NAME", "a*", "should be 1 to 100 letters"),
        ("SUBNET_IDS", "subnet 1", "should be a name of letters"),
        ("STATE_BUCKET", "My_Bucket", "should be the name of a bucket: 3 to 63 small letters"),
        ("MAX_UPLOAD_MB", "1.5", "should be a whole number"),
        ("PRICE_PER_HOUR", "9 cents", "should be a number"),
        ("PRICE_PER_HOUR", "inf", "should be a finite number"),
        ("IDLE_SHUTDOWN_SECONDS", "nan", "should be a finite number"),
        ("BATCH_SOURCES", "photos", "should be s3://bucket or s3://bucket/prefix"),
        ("NOTIFY_TOPIC", "done", "should be the ARN of a standard topic, such as arn:aws:sns:"),
        ("LOG_LEVEL", "LOUD", "should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(environment, name, value, right):
    environment.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        ControllerSettings.from_environment()
    message = str(refused.value)
    assert message.startswith(f"{name} (")
    assert f"is {value!r}, but it {right}" in message


@pytest.mark.parametrize(
    ("given", "wrong", "other"),
    [
        ({"OUTPUT_BUCKET": "photos-in"}, "OUTPUT_BUCKET", "INPUT_BUCKET"),
        ({"STATE_BUCKET": "photos-in"}, "STATE_BUCKET", "INPUT_BUCKET"),
        ({"STATE_BUCKET": "photos-out"}, "STATE_BUCKET", "OUTPUT_BUCKET"),
        ({"INPUT_BUCKET": "photos-out-state"}, "STATE_BUCKET", "INPUT_BUCKET"),
    ],
)
def test_one_bucket_cannot_have_two_tasks(environment, given, wrong, other):
    for name, value in given.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        WorkerSettings.from_environment()
    assert str(refused.value).startswith(f"{wrong} (")
    assert str(refused.value).endswith(f"but it should be another bucket than {other}")


def test_a_program_that_only_runs_the_model_needs_no_bucket(environment):
    for name in ("INPUT_BUCKET", "OUTPUT_BUCKET"):
        environment.delenv(name)
    environment.setenv("MODEL", "resnet50")
    assert WorkerSettings.without_buckets().model == "resnet50"
    environment.setenv("PRECISION", "fp8")
    with pytest.raises(SettingsError, match="PRECISION"):
        WorkerSettings.without_buckets()


def test_every_wrong_setting_has_its_line(environment):
    environment.setenv("MAX_INSTANCES", "many")
    environment.delenv("OUTPUT_BUCKET")
    with pytest.raises(SettingsError) as refused:
        ControllerSettings.from_environment()
    assert sorted(line.split()[0] for line in str(refused.value).splitlines()) == [
        "MAX_INSTANCES",
        "OUTPUT_BUCKET",
    ]


def test_a_worker_gets_the_settings_of_its_controller(environment):
    environment.setenv("MODEL", "resnet34")
    environment.setenv("WEIGHTS", "s3://models/it's mine.pt")
    environment.setenv("VISIBILITY_TIMEOUT", "90")
    environment.setenv("AMI_ID", "ami-0123")
    environment.setenv("BATCH_SOURCES", "s3://lab/it's 2026/, s3://press")
    for_workers = ControllerSettings.from_environment("ami_id").for_workers()
    assert "MAX_INSTANCES" not in for_workers
    assert "LABELS" not in for_workers, "an empty setting is not passed on"
    with pytest.MonkeyPatch.context() as there:
        for name in ControllerSettings.model_fields:
            there.delenv(name.upper(), raising=False)
        for name, value in for_workers.items():
            there.setenv(name, value)
        worker = WorkerSettings.from_environment()
    assert (worker.input_bucket, worker.output_bucket) == ("photos-in", "photos-out")
    assert (worker.model, worker.weights) == ("resnet34", "s3://models/it's mine.pt")
    assert worker.visibility_timeout == 90
    assert worker.batch_sources == ("s3://lab/it's 2026/", "s3://press")
    assert worker.ami_id == "ami-0123", "it is part of the model's version"


@pytest.mark.parametrize(
    ("scaling", "given", "got"),
    [
        ("queue", "120", "120"),
        ("rate", "120", "600"),
        ("rate", "3600", "3600"),
        ("rate", "0", "0"),
    ],
)
def test_a_worker_that_is_scaled_by_rate_ends_by_itself_only_if_nobody_terminates_it(
    environment, scaling, given, got
):
    environment.setenv("SCALING", scaling)
    environment.setenv("IDLE_SHUTDOWN_SECONDS", given)
    for_workers = ControllerSettings.from_environment().for_workers()
    assert float(for_workers["IDLE_SHUTDOWN_SECONDS"]) == float(got)


def test_nothing_of_the_controller_alone_reaches_a_worker(environment):
    """Whatever is added to the controller's settings, by construction."""
    environment.setenv("AMI_ID", "ami-0123")
    environment.setenv("API_TOKENS", "0123456789abcdef")
    for_workers = ControllerSettings.from_environment().for_workers()
    assert {name.lower() for name in for_workers} <= set(WorkerSettings.model_fields)
    assert "0123456789abcdef" not in str(for_workers)


def test_settings_do_not_change(environment):
    settings = ControllerSettings.from_environment()
    with pytest.raises(ValueError, match="frozen"):
        settings.max_instances = 1000


def test_every_setting_says_what_it_is_for():
    assert not [name for name, field in ControllerSettings.model_fields.items() if not field.description]


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_the_log_level_may_be_written_in_small_letters(environment, level):
    environment.setenv("LOG_LEVEL", level)
    assert ControllerSettings.from_environment().log_level == "DEBUG"


def test_the_names_of_hosts_may_be_written_in_capital_letters(environment):
    environment.setenv("TRUSTED_HOSTS", "Photos.Example, localhost")
    assert ControllerSettings.from_environment().trusted_hosts == ("photos.example", "localhost")


def test_sources_of_batches_are_urls_of_s3_and_reach_the_workers(environment):
    environment.setenv("BATCH_SOURCES", "s3://lab-photos/cats/, s3://other")
    settings = ControllerSettings.from_environment()
    assert settings.batch_sources == ("s3://lab-photos/cats/", "s3://other")
    assert settings.for_workers()["BATCH_SOURCES"] == "s3://lab-photos/cats/,s3://other"


def test_a_source_that_is_no_url_is_refused(environment):
    environment.setenv("BATCH_SOURCES", "lab-photos/cats")
    with pytest.raises(SettingsError, match="BATCH_SOURCES"):
        ControllerSettings.from_environment()


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_batches_need_no_token_where_only_this_machine_reaches_the_controller(environment, bind):
    environment.setenv("BATCH_SOURCES", "s3://lab-photos")
    environment.setenv("ALLOW_ANONYMOUS", "on")
    ControllerSettings.from_environment().check_access(bind)


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", ":8000", "unix:/run/controller.sock", "127.0.0.1.evil:80"])
def test_batches_need_a_token_elsewhere(environment, bind):
    environment.setenv("BATCH_SOURCES", "s3://lab-photos")
    environment.setenv("ALLOW_ANONYMOUS", "on")
    settings = ControllerSettings.from_environment()
    with pytest.raises(SettingsError, match=r"API_TOKENS .*BATCH_SOURCES.*BIND"):
        settings.check_access(bind)
    environment.setenv("API_TOKENS", "0123456789abcdef")
    ControllerSettings.from_environment().check_access(bind)


@pytest.mark.parametrize("own", ["photos-in", "photos-out", "photos-out-state"])
def test_batches_cannot_read_the_buckets_of_the_system(environment, own):
    environment.setenv("BATCH_SOURCES", f"s3://lab/photos, s3://{own}/cats/")
    with pytest.raises(SettingsError, match="should name other buckets than the system's own"):
        WorkerSettings.from_environment()
