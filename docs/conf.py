"""How the documentation is built: ``sphinx-build -W -n -b html docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

import flask_m2m_cognito

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "flask-m2m-cognito"
author = "The flask-m2m-cognito authors"
project_copyright = author
version = release = flask_m2m_cognito.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "checks_reference",
    "settings_reference",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"flask-m2m-cognito {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["tables.js"]
html_show_sphinx = False

# The copy button leaves out prompts and, in a session, what the commands print.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The source's own order, and types as short as they are written.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# What stands in signatures and has no page: names of other projects, whose
# documentation is not read here, aliases, and private parts. All else must be found.
nitpick_ignore_regex = [
    (
        r"py:class",
        r"(blinker|collections|contextlib|cryptography|email|threading|typing)\..*",
    ),
    (r"py:class", r"(flask|flask_caching|requests)\..*"),
    (
        r"py:class",
        r"flask_m2m_cognito\.(app|extension|inbound|outbound|remote|web)\..*",
    ),
    (
        r"py:class",
        r"(Answer|AppM2M|BearerAuth|Blueprint|ByMethod|Cache|ClientName|Flask|Metadata)",
    ),
    (
        r"py:class",
        r"(MeterProvider|Minting|PrincipalLoader|ScopeMatch|Scopes|SessionTimeout|TracerProvider)",
    ),
    (r"py:class", r"(TrustedPool|View|datetime)"),
    (r"py:class", r"'[\w-]+'"),  # the members of a Literal
]
nitpick_ignore = [
    ("py:data", "Reason"),
    ("py:attr", "required_scopes"),
    ("py:meth", "sign"),
    # From the module of the signals, where it is not defined.
    ("py:class", "ValidatedAccessToken"),
]

# Links to other sites are not followed: the check is for links inside.
linkcheck_ignore = [r"https?://.*"]
