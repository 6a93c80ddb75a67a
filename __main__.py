"""From a stack file to a page answering over HTTP; what comes in between is told in cluster/story.py."""

from pathlib import Path

import pulumi

from cluster import settings
from cluster.story import Story

root = Path(__file__).parent
cluster = Story(settings.load(pulumi.Config(), root), root)

for name, value in cluster.outputs.items():
    pulumi.export(name, value)
