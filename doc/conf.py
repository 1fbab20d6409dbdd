"""Sphinx's configuration for `make docs`. Neither the build nor the pages load anything from the internet."""

import logging
import re
import sys
from pathlib import Path

from jupyter_client.manager import KernelManager

import pserver

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE / "gallery").glob("plot_*.py"))
sys.path.insert(0, str(HERE / "_ext"))

project = "pserver"
author = "the authors of pserver"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = pserver.__version__
language = "en"
smartquotes = False  # quotes in texts from the code are ones that users type

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "command_lines",
    "machine_paths",
    "public_api",
    "root_pages",
    "settings_table",
    "site_links",
]
exclude_patterns = ["gallery", "auto_gallery/*.ipynb", "auto_gallery/*.py", "container", "_ext"]

# --- pages ---

root_doc = "index"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # links to sections use the same anchors as code hosts
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
# The notebook's kernel would listen on loopback, where other accounts of this machine could connect. MyST creates the
# kernel's manager and has no option for this.
KernelManager.transport_encryption.default_value = "auto"
copybutton_prompt_text = r">>> |\.\.\. |\w*\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
highlight_language = "none"  # a block without a language is a transcript, not Python

# --- names ---

nitpicky = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
# Types in signatures without an entry here: types of the standard library and other packages, because the build fetches
# no inventories, and types that signatures show but users do not need.
nitpick_ignore_regex = [
    ("py:.*", r"(argparse|asyncio|collections|concurrent|os|pathlib|socket|subprocess|types|typing)\..*"),
    ("py:.*", r"(dask|distributed|numpy|np|pandas)\..*"),
    ("py:.*", r"[A-Za-z]+"),  # builtins
    ("py:class", r"pconnect\..*\.[A-Z]"),  # type variables
    ("py:class", r"pconnect\.(commands\.console\.Source|jobs\.function_cache\.Function)"),
    ("py:class", r"pconnect\.loop\.in_process\.InProcess"),
    ("py:class", r"srp_tools\.(srp_groups\.Group|steps\.Wait|verifier_file\.Examined)"),
    ("py:mod", r"pconnect\.messaging\.collectives"),
]

# --- HTML ---

html_theme = "pydata_sphinx_theme"
html_title = f"pserver {release}"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_context = {"default_mode": "auto"}  # follow the system until the reader chooses
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "logo": {"text": "pserver", "image_light": "_static/icon.svg", "image_dark": "_static/icon.svg"},
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    # Lines of the gallery's scripts are long.
    "secondary_sidebar_items": {"**": ["page-toc"]} | {f"auto_gallery/{path.stem}": [] for path in EXAMPLES},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "changelog": []}

# --- the gallery ---

if EXAMPLES:
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": "gallery",
        "gallery_dirs": "auto_gallery",
        "filename_pattern": r"plot_",
        "within_subsection_order": "FileNameSortKey",
        "download_all_examples": False,
        "show_memory": False,
        "write_computation_times": False,
        "min_reported_time": 3600,  # times of this machine say nothing to readers
        "show_signature": False,
        "remove_config_comments": True,
        "plot_gallery": True,
        "abort_on_example_error": True,
        "ignore_pattern": re.escape("__init__.py"),
    }

# Toctrees use patterns for folders that may still be empty. Sphinx has no name to suppress this warning by.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: "glob pattern" not in str(record.msg)
)
