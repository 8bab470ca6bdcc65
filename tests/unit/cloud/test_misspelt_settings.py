import pytest

from cloud.misspelt_settings import misspelt_settings
from cloud.settings import ControllerSettings


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MAX_INSTNCES", "MAX_INSTANCES"),
        ("MAX_INSTANCE", "MAX_INSTANCES"),
        ("API_TOKEN", "API_TOKENS"),
        ("SUBNETS_IDS", "SUBNET_IDS"),
        ("REQUEST_TIMOUT", "REQUEST_TIMEOUT"),
        ("max_instances", "MAX_INSTANCES"),
        ("LABEL", "LABELS"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(name, nearest):
    assert misspelt_settings([name]) == [
        f"{name} is not a setting, and is ignored: the nearest one is {nearest}."
    ]


def test_a_program_may_have_settings_of_its_own():
    assert misspelt_settings(["LOCAL_BOOT_SECOND", "PORT"], ["PORT", "LOCAL_BOOT_SECONDS"]) == [
        "LOCAL_BOOT_SECOND is not a setting, and is ignored: the nearest one is LOCAL_BOOT_SECONDS."
    ]


def test_settings_and_other_variables_are_not_named():
    others = (
        "PATH", "HOME", "PORT", "CLOUD_PORT", "HOSTNAME", "MODEL_CACHE", "TORCH_HOME", "PHOTOS", "BIND",
        "AWS_REGION", "AWS_ENDPOINT_URL", "APP_DIR", "OMP_NUM_THREADS", "GRACEFUL_TIMEOUT", "LOCAL_BUCKETS",
        "LOCAL_BOOT_SECONDS", "PROMETHEUS_MULTIPROC_DIR", "LOGNAME", "KEYS", "LS_COLORS", "TERM", "BUCKET",
    )  # fmt: skip
    assert misspelt_settings([*others, *(name.upper() for name in ControllerSettings.model_fields)]) == []
