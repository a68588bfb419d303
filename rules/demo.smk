"""A simulated gallery, where the config asks for one.

In: nothing. Out: <results>/gallery with the gallery's images and the public tables.
"""

GALLERY = f"{RESULTS}/gallery" if "simulation" in config else []

if "simulation" in config:

    rule simulate_gallery:
        """Draw plates in the exact form of the Cell Painting Gallery."""
        input:
            code=code("simulate_gallery"),
        output:
            gallery=directory(GALLERY),
        log:
            f"{RESULTS}/logs/simulate_gallery.log",
        benchmark:
            f"{RESULTS}/benchmarks/simulate_gallery.tsv"
        conda:
            "../envs/images.yaml"
        threads: 16
        resources:
            mem_mb=growing(4000),
            runtime=growing(60),
        params:
            settings=config["simulation"],
        script:
            "../scripts/simulate_gallery.py"
