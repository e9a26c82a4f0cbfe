"""Builds the extensions; everything else about the package is in pyproject.toml.

``ENGINE_LINETRACE=1`` builds them with line tracing for coverage; such a build is never benchmarked.
``ENGINE_SANITIZE=1`` builds them with AddressSanitizer and UndefinedBehaviorSanitizer.
``ENGINE_ANNOTATE=1`` writes Cython's annotated HTML beside the sources.
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

trace = os.environ.get("ENGINE_LINETRACE") == "1"
sanitize = os.environ.get("ENGINE_SANITIZE") == "1"

macros = [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if trace else []
debug = trace or sanitize
flags = ["-O1" if debug else "-O2", "-g" if debug else "-g0", "-Wall", "-Wno-unused-function"]
link = []
if sanitize:
    sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    flags += sanitizers
    link += sanitizers


def extension(name: str, depends: list[str], libraries: list[str]) -> Extension:
    return Extension(
        f"engine.{name}",
        [f"engine/{name}.pyx"],
        depends=depends,
        define_macros=macros,
        extra_compile_args=flags,
        extra_link_args=link,
        libraries=libraries,
    )


setup(
    ext_modules=cythonize(
        [
            extension(name, depends, libraries)
            for name, depends, libraries in [
                ("_codec", ["engine/_codec.pxd", *sorted(glob("engine/_codec/*.pxi"))], []),
                ("_work", ["engine/_codec.pxd", *sorted(glob("engine/_work/*.pxi"))], []),
                ("_keepalive", [], ["pthread"]),
            ]
            if os.path.exists(f"engine/{name}.pyx")
        ],
        compiler_directives={"language_level": "3", "linetrace": trace, "embedsignature": True},
        annotate=os.environ.get("ENGINE_ANNOTATE") == "1",
    )
)
