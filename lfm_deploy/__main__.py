"""``python -m lfm_deploy`` is ``lfm-deploy``."""

from lfm_deploy.cli import main

main()
