from controller.autoscaling.ec2_fleet import LaunchPlan


def plan(**changes) -> LaunchPlan:
    given = {
        "ami_id": "ami-12c6146b",
        "instance_types": ["c7i.large"],
        "market": "on-demand",
        "subnet_ids": [],
        "security_group_ids": [],
        "instance_profile": "",
        "key_name": "",
        "user_data": "#!/bin/bash\necho é\n",
    }
    return LaunchPlan(**{**given, **changes})
