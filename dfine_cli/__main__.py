"""``python -m dfine_cli`` is the ``dfine`` command."""

from dfine_cli.cli.app import main

main()
