"""The one jinja environment: the pages and the model card."""

import jinja2

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("decomp"),
    autoescape=jinja2.select_autoescape(["html"]),  # names of classes and channels come from the weights
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
