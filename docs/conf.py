"""The site: python -m sphinx -W --keep-going -b html docs build/site."""

import sys
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "fastnn"
author = "The fastnn developers"
copyright = author
version = release = installed_version("fastnn-cpu")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "cheat_sheet",
    "reference_pages",
    "pictures",
]
exclude_patterns = ["course/*", "**/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
nitpicky = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_typehints = "none"
# fastnn.torch.Optimizer is documented where PyTorch is not installed, too
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
nitpick_ignore_regex = [
    ("py:.*", r"(sklearn|scipy|numpy|matplotlib|torch)\..*"),  # their inventories are elsewhere
    ("py:obj", r"\w+"),  # attributes, which numpydoc names without their class
]

sphinx_gallery_conf = {
    "examples_dirs": ["course"],
    "gallery_dirs": ["generated/course"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "copyfile_regex": "",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 5,
    "plot_gallery": True,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "fastnn"
html_baseurl = "https://fastnn.github.io/fastnn/"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"index": [], "quickstart": []}
html_theme_options = {
    "github_url": "https://github.com/fastnn/fastnn",
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
