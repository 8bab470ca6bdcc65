"""The WSGI entry point: reads the settings and creates the app. Run it as `gunicorn controller.wsgi:app`."""

import logging
import os
import sys

from cloud import logs
from cloud.clients import make_clients
from cloud.misspelt_settings import misspelt_settings
from cloud.settings import ControllerSettings, SettingsError
from controller.app import create_app
from controller.container import assemble, start_autoscaler, start_batches, start_notices

GUNICORN_GIVES_UP = 4  # gunicorn's exit code for an app that cannot be loaded; it is not restarted

try:
    settings = ControllerSettings.from_environment("ami_id")
    settings.check_access(os.environ.get("BIND") or "127.0.0.1")
    clients = make_clients()
except SettingsError as error:
    print(f"controller: {error}", file=sys.stderr)
    sys.exit(GUNICORN_GIVES_UP)

logs.configure(settings.log_level)
for misspelt in misspelt_settings(os.environ):
    logging.getLogger("controller").warning(misspelt)
services = assemble(settings, clients)
start_autoscaler(services.autoscaler)
start_batches(services.batches)
start_notices(services.notices)
app = create_app(services)
