"""The cluster as a package for programs in any of Pulumi's languages: Pulumi runs this as their provider."""

import json
import sys

import yaml
from pulumi.provider import main
from pulumi.provider.experimental.component import ComponentProvider

from cluster import Cluster, __version__
from cluster.settings import DECLARATIONS

NAME = "own-kubernetes"


def provider() -> ComponentProvider:
    """The provider, with the settings described as they are in ``Pulumi.yaml``."""
    made = ComponentProvider([Cluster], NAME, version=__version__)
    schema = json.loads(made.schema or "")
    inputs = schema["resources"][f"{NAME}:index:Cluster"]["inputProperties"]
    for key, declared in yaml.safe_load(DECLARATIONS.read_text())["config"].items():
        inputs[key]["description"] = declared["description"]
    made.schema = json.dumps(schema)
    return made


if __name__ == "__main__":
    main(provider(), sys.argv[1:])
