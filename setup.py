"""Package metadata. ``bash scripts/setup.sh`` installs everything, fairseq included."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
SOURCE = (HERE / "fairseq_cgc" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'__version__ = "(.+)"', SOURCE)
assert VERSION is not None

PLOTS = ["matplotlib>=3.8"]
# Not among install_requires: on Python 3.11 and 3.13 it is compiled, and pip's isolated build
# would first download several gigabytes of CUDA torch. Install it before, as docs/install.md says.
FAIRSEQ = ["fairseq-fixed==0.12.3.1"]
VISION = ["pillow>=10", "scikit-learn>=1.3"]  # scikit-learn: its digits
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"]
DEV = [
    "pytest>=8,<9.2",  # with 9.2, pytest-xdist 3.8 knows no xdist_group: costly fixtures run twice
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "ruff==0.17.6",
    "mypy==2.4.1",
]

setup(
    name="fairseq-cgc",
    version=VERSION.group(1),
    description="Context-Gated Convolution for machine translation with fairseq",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["fairseq_cgc", "fairseq_cgc.*"]),
    entry_points={"console_scripts": ["fairseq-cgc = fairseq_cgc.__main__:cli_main"]},
    package_data={
        "fairseq_cgc": ["py.typed", "config/*.yaml", "config/model/*.yaml"],
        "fairseq_cgc.demo.words": ["*.tsv"],
        "fairseq_cgc.vision": ["published.yaml"],
        "fairseq_cgc.vision.training": ["presets.yaml"],
        "fairseq_cgc.video": ["presets.yaml", "published.yaml"],
        "fairseq_cgc.mt.evaluate": ["page.html", "page.css", "page.js"],
    },
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.6",  # the first release whose torch.load is safe by default
        "numpy>=1.26",
        "PyYAML>=5.4",
        "sacrebleu>=2.3",
        "jinja2>=3.1",
        "regex>=2021.8.3",
        "sacremoses>=0.2",  # inference/text/moses.py mends its differences from Moses
        "safetensors>=0.4",  # exported models are read without pickle
        "sentencepiece>=0.2.0",
        "subword-nmt>=0.3.8",
        "tqdm>=4.60",
    ],
    extras_require={
        "fairseq": FAIRSEQ,
        "plots": PLOTS,
        "benchmarks": [*PLOTS, "ctranslate2>=4.5"],
        "vision": VISION,
        "docs": DOCS,
        "dev": [*DEV, *PLOTS, *VISION, *DOCS],
    },
)
