"""A quota that is too small for the fleet."""

from deploy.doctor import fleet
from tests.support.aws_errors import refusal
from tests.support.findings import states, wrongs


class Quotas:
    """Service Quotas, which moto lacks, with one answer."""

    def __init__(self, vcpus=None, code=""):
        self.vcpus, self.code, self.asked = vcpus, code, []

    def get_service_quota(self, ServiceCode, QuotaCode):
        self.asked.append((ServiceCode, QuotaCode))
        if self.code:
            raise refusal(self.code, "GetServiceQuota")
        return {"Quota": {"Value": float(self.vcpus)}}


def quota(aws, settings, quotas, **update):
    return list(fleet.check_quota(aws.ec2, quotas, settings.model_copy(update=update)))


def test_a_quota_below_the_maximum_is_wrong(aws, settings):
    quotas = Quotas(vcpus=5)
    [finding] = wrongs(quota(aws, settings, quotas, instance_type=("c6i.large",), max_instances=10))
    assert "5 vCPUs on-demand, but 10 c6i.large (MAX_INSTANCES) need 20" in finding
    assert "set MAX_INSTANCES=2" in finding
    assert "--quota-code L-1216C47A --desired-value 20" in finding
    assert states(quota(aws, settings, Quotas(vcpus=20), instance_type=("c6i.large",), max_instances=10)) == {
        "ok"
    }


def test_a_quota_below_one_instance_calls_for_more(aws, settings):
    [finding] = wrongs(quota(aws, settings, Quotas(vcpus=1), instance_type=("c6i.large",), max_instances=10))
    assert "MAX_INSTANCES=0" not in finding
    assert "ask for more: `aws service-quotas" in finding


def test_spot_has_a_quota_of_its_own(aws, settings):
    quotas = Quotas(vcpus=100)
    quota(aws, settings, quotas, instance_type=("g4dn.xlarge",), market="spot")
    assert sorted(quotas.asked) == [("ec2", "L-3819A6DF"), ("ec2", "L-DB2E81BA")]


def test_a_quota_that_may_not_be_asked_is_no_fault(aws, settings):
    assert states(quota(aws, settings, Quotas(code="AccessDenied"), instance_type=("c6i.large",))) == {
        "unknown"
    }


def test_an_instance_type_that_does_not_exist_is_wrong(aws, settings):
    [finding] = wrongs(quota(aws, settings, Quotas(vcpus=100), instance_type=("c99.large",)))
    assert "INSTANCE_TYPE" in finding
