"""Flows and the command line.

Whoever imports them, a worker of Prefect's too, has the settings of `flows.embedded` before Prefect, Ray and
transformers are imported: among them those that keep these from reporting their use.
"""

from flows import embedded

embedded.prepare()
