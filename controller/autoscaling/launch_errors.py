"""What the errors with which EC2 answers a launch mean.

The codes are listed at https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. A code
that is not named here is taken for an outage of EC2, which passes.
"""

from cloud.errors import CloudError

NO_SPOT_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
"""The account has no service-linked role for spot instances, and the controller may not create it."""
DENIED = "UnauthorizedOperation"
"""The role may not do this, but perhaps only for a while.

A change of a policy takes effect after seconds or minutes. And a controller whose policy was changed together
with its settings has the old settings until it is restarted.
"""
# Another choice of market, type and subnet may be had, or the same one later.
NO_CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "Unsupported",
    NO_SPOT_ROLE,
}
QUOTA_OF_NOTHING = "limit of 0 "  # in the message of VcpuLimitExceeded
WRONG_SETTINGS = {
    "InvalidAMIID": "AMI_ID",
    "InvalidSubnetID": "SUBNET_IDS",
    "InvalidSubnet": "SUBNET_IDS",
    "VPCIdNotSpecified": "SUBNET_IDS",
    "InvalidGroup": "SECURITY_GROUP_IDS",
    "InvalidSecurityGroupID": "SECURITY_GROUP_IDS",
    "InvalidSecurity": "SECURITY_GROUP_IDS",
    "InvalidKeyPair": "KEY_NAME",
    "InvalidLaunchTemplate": "LAUNCH_TEMPLATE",
    "InvalidInstanceType": "INSTANCE_TYPE",
    "InvalidIamInstanceProfile": "INSTANCE_PROFILE",
    DENIED: "the controller's permissions, also to pass the role of INSTANCE_PROFILE",
    "AuthFailure": "the controller's permissions, also for AMI_ID",
    "OptInRequired": "the AWS account",
}  # what cannot mend itself, by the beginning of EC2's code; a permission may
WRONG_PARAMETERS = ("InvalidParameter", "MissingParameter", "ValidationError")
PARAMETERS = {
    "iaminstanceprofile": "INSTANCE_PROFILE",
    "instance profile": "INSTANCE_PROFILE",
    "security": "SECURITY_GROUP_IDS",
    "groupid": "SECURITY_GROUP_IDS",
    "subnet": "SUBNET_IDS",
    "keyname": "KEY_NAME",
    "key pair": "KEY_NAME",
    "launchtemplate": "LAUNCH_TEMPLATE",
    "launch template": "LAUNCH_TEMPLATE",
    "instance type": "INSTANCE_TYPE",
    "instancetype": "INSTANCE_TYPE",
    "imageid": "AMI_ID",
}  # the setting, by what EC2's message about a wrong parameter contains


def setting_to_blame(error: CloudError) -> str:
    """Returns what to check, in words, if the error cannot mend itself, or "" if it may pass."""
    if error.code == "VcpuLimitExceeded" and QUOTA_OF_NOTHING in str(error):
        return "INSTANCE_TYPE and MARKET, or ask AWS for a quota"
    if error.code.startswith(WRONG_PARAMETERS):
        # The message begins with what was to be launched; EC2's own words follow the name of the operation.
        words = str(error).rpartition("operation: ")[2].lower()
        return next((name for part, name in PARAMETERS.items() if part in words), "the launch's settings")
    return next((name for code, name in WRONG_SETTINGS.items() if error.code.startswith(code)), "")
