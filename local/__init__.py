"""An AWS of this machine's own, and the system on it."""

import functools

import botocore.session

# Sessions of boto3 share the descriptions of the services. Otherwise moto, which makes a dozen sessions,
# reads them a dozen times, and the start takes a second longer.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
